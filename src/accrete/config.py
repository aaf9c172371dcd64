"""One schema for YAML, environment, flags and API; an unknown key is an error that suggests. Ends at validated values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from accrete.errors import UsageError, did_you_mean


class Config(BaseModel):
    """Base of every configuration: frozen, strict about keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


C = TypeVar("C", bound=Config)


def build(schema: type[C], values: Mapping[str, Any], where: str) -> C:
    """Validate `values`; a wrong one raises UsageError with one sentence that names the key and `where` it stands."""
    try:
        return schema(**values)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            suggestion = did_you_mean(str(problem["loc"][-1]), _keys(schema, problem["loc"]))
            raise UsageError(f'Unknown key "{key}" in {where}.{suggestion}') from None
        raise UsageError(f'Key "{key}" in {where}: {problem["msg"]}.') from None


def _keys(schema: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    """The known keys beside the last one of `location`."""
    for part in location[:-1]:
        inner = schema.model_fields[part].annotation if part in schema.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        schema = inner
    return list(schema.model_fields)


def parse_yaml(text: str, where: str) -> dict[str, Any]:
    """A YAML mapping as a dictionary; anything else raises UsageError."""
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f" at line {mark.line + 1}" if mark else ""
        raise UsageError(f"{where} is not valid YAML{at}.") from None
    if not isinstance(values, dict):
        raise UsageError(f"{where} must hold keys and values, like a settings file.")
    return values
