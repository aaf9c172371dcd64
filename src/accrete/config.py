"""One schema for YAML, environment, flags and API; an unknown key is an error that suggests. Ends at validated values."""

from __future__ import annotations

import ast
import inspect
import io
import textwrap
import tokenize
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

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


@dataclass(frozen=True)
class Option:
    """A key of a configuration: what it may be, what it is unless said, and the comment that stands beside it."""

    name: str
    values: str
    default: Any
    meaning: str


def options_of(schema: type[Config]) -> list[Option]:
    """All keys in their order; without a source file they have no meaning."""
    try:
        comments = _comments(textwrap.dedent(inspect.getsource(schema)))
    except OSError:
        comments = {}
    return [
        Option(name, _spoken(field.annotation), field.get_default(call_default_factory=False), comments.get(name, ""))
        for name, field in schema.model_fields.items()
    ]


def _comments(source: str) -> dict[str, str]:
    """By key, the comment at the end of its definition."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    at_line = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    return {
        node.target.id: at_line[node.end_lineno]
        for node in body.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.end_lineno in at_line
    }


def _spoken(annotation: Any) -> str:
    """A type as one says it: "tfidf | kl", "number or null", "true | false"."""
    if typing.get_origin(annotation) is Literal:
        return " | ".join(map(str, typing.get_args(annotation)))
    parts = typing.get_args(annotation)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return " or ".join("null" if part is type(None) else _spoken(part) for part in parts)
    if typing.get_origin(annotation) in (tuple, list):
        return "list"
    plain = {bool: "true | false", int: "whole number", float: "number", str: "text"}
    return plain.get(annotation, getattr(annotation, "__name__", str(annotation)))


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
