"""The settings: defaults, then the home's config.yaml, the environment and flags, the later winning.

Ends at values, each with where it comes from. What the options of a method may be, its own Config says: callers hand it in.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from accrete.config import Config, build, parse_yaml
from accrete.errors import HomeError, UsageError, did_you_mean
from accrete.files import write_atomically

FILE = "config.yaml"
PREFIX = "ACCRETE_"
NO_SETTINGS = ("HOME", "DEBUG", "ALLOCATOR", "DATA", "TEACHER_KEY")  # what else is read from ACCRETE_...
LARGEST = 1_000_000  # bytes; a larger file is something else
C = TypeVar("C", bound=Config)


class Settings(Config):
    """What every command goes by unless it is told otherwise."""

    model: str = Field("embedded", min_length=1)
    method: str | None = Field(None, min_length=1)  # None is accrete.methods.DEFAULT
    device: str = Field("auto", min_length=1)
    dtype: str = Field("auto", min_length=1)
    offline: bool = False
    max_forgetting: float = Field(0.05, ge=0, le=1)  # share of the guard sentinels that a lesson may cost
    domain: str = Field("default", min_length=1)
    clean: bool = True  # the quality filter on text documents
    study: Literal["auto", "gold", "self", "off"] = "auto"  # where study items come from
    facts: Literal["auto", "model", "rules", "off"] = "auto"  # who reads what documents state
    on_conflict: Literal["supersede", "branch", "ask", "reject"] = "supersede"  # what becomes of what contradicts it
    nli: str | None = Field(
        None, min_length=1
    )  # a model that tells what contradicts it in free text (facts/entailment.py)
    teacher: str | None = Field(None, pattern=r"^https?://\S+$")  # the address of a model that writes them
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)  # method -> its options

    @field_validator("max_forgetting", mode="before")
    @classmethod
    def _is_no_truth_value(cls, value: Any) -> Any:
        if isinstance(value, bool):  # pydantic would take true for 1: everything may be forgotten
            raise PydanticCustomError("number", "Input should be a number from 0 to 1")
        return value

    @field_validator("study", "facts", mode="before")
    @classmethod
    def _is_no_switch(cls, value: Any) -> Any:
        return "off" if value is False else value  # YAML reads off as false


KEYS = tuple(key for key in Settings.model_fields if key != "options")


@dataclass(frozen=True)
class Resolved:
    """Settings, and for every key ("model", "METHOD.OPTION" where one was given) where its value comes from."""

    settings: Settings
    sources: Mapping[str, str]

    def with_options(self, method: str, options: Mapping[str, Any], source: str) -> Resolved:
        """The same with further options of a method, which win."""
        merged = self.settings.options | {method: self.settings.options.get(method, {}) | dict(options)}
        sources = {**self.sources, **{f"{method}.{option}": source for option in options}}
        return Resolved(self.settings.model_copy(update={"options": merged}), sources)

    def check_methods(self, known: Collection[str]) -> None:
        """Raise UsageError when the method, or one that options are for, is not among the `known`."""
        chosen = {self.settings.method: "method"} if self.settings.method else {}
        for method, key in (
            *chosen.items(),
            *((m, f"{m}.{o}") for m, options in self.settings.options.items() for o in options),
        ):
            if method not in known:
                raise UsageError(f'There is no method "{method}" ({self.sources[key]}).{did_you_mean(method, known)}')

    def method_config(self, method: str, schema: type[C]) -> C:
        """The options of a method as its Config `schema`; UsageError names the option and the layer that gave it."""
        options = self.settings.options.get(method, {})
        source_of = {option: self.sources[f"{method}.{option}"] for option in options}
        for source in dict.fromkeys(source_of.values()):  # layer by layer first, so that the wrong one can be named
            layer = {option: value for option, value in options.items() if source_of[option] == source}
            own = build(schema, layer, f"the options of {method} ({source})").model_dump(include=set(layer))
            for option, value in own.items():
                if isinstance(value, float) and not math.isfinite(value):
                    raise UsageError(f'Key "{option}" in the options of {method} ({source}) is not a finite number.')
        return build(schema, options, f"the options of {method}")


def resolve(home: Path, flags: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Resolved:
    """Put the layers together; a flag that is None was not given.

    Raises UsageError for an unknown key or a wrong value, naming the layer, and for a damaged file; HomeError when
    the file cannot be read.
    """
    values: dict[str, Any] = {}
    options: dict[str, dict[str, Any]] = {}
    sources = dict.fromkeys(KEYS, "default")
    for source, layer in _layers(home, flags, environment):
        checked = build(Settings, layer, source)
        for key in layer.keys() - {"options"}:
            values[key], sources[key] = getattr(checked, key), source
        for method, given in checked.options.items():
            options.setdefault(method, {}).update(given)
            sources |= {f"{method}.{option}": source for option in given}
    return Resolved(Settings(**values, options=options), sources)


def _layers(
    home: Path, flags: Mapping[str, Any], environment: Mapping[str, str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(source, values), the later winning; every variable and every flag is a layer of its own, so that it is named."""
    yield str(home / FILE), checked_sections(read_file(home), str(home / FILE))
    for variable in sorted(environment):
        name = variable.upper()
        if name.startswith(PREFIX) and name.removeprefix(PREFIX) not in NO_SETTINGS and environment[variable]:
            yield f"environment {variable}", _from_environment(variable, environment[variable])
    for key, value in flags.items():
        if value is not None:
            yield f"flag --{key.replace('_', '-')}", {key: value}


def _from_environment(variable: str, text: str) -> dict[str, Any]:
    key = variable.upper().removeprefix(PREFIX).lower()
    method, separator, option = key.partition("__")
    if separator and method and option:
        return {"options": {method: {option: parse_value(text, f"environment {variable}")}}}
    if key not in KEYS:
        known = [f"{PREFIX}{known.upper()}" for known in KEYS]
        raise UsageError(f'Unknown setting "{variable}" in the environment.{did_you_mean(variable.upper(), known)}')
    return {key: setting_value(key, text, f"environment {variable}")}


def variable_for(key: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """The variable that sets `key` in this environment, if one does."""
    wanted = PREFIX + key.replace(".", "__").upper()
    return next((name for name in sorted(environment) if name.upper() == wanted and environment[name]), None)


def setting_value(key: str, text: str, where: str) -> Any:
    """What was typed as the value of a setting: words stay as they are ("no" may name a domain), the rest is YAML."""
    return text if Settings.model_fields[key].annotation in (str, str | None) else parse_value(text, where)


def parse_value(text: str, where: str) -> Any:
    """One value as YAML; 1e-4 comes as text, and the schema makes a number of it. UsageError begins with `where`."""
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: a date like 2024-13-45
        raise UsageError(f'{where}: "{text[:100]}" is no value.') from None


# --- the file ----------------------------------------------------------------------------------------------------------


def read_file(home: Path) -> dict[str, Any]:
    """What config.yaml says, unchecked but for being keys and values; nothing when there is none."""
    path = home / FILE
    if path.exists() and not path.is_file():
        raise HomeError(f"Cannot read {path}: it is {'a directory' if path.is_dir() else 'no regular file'}.")
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise UsageError(f"{path} is too large for a settings file.")
        text = content.decode("utf-8-sig")
        if all(not line.strip() or line.lstrip().startswith("#") for line in text.splitlines()):
            return {}
        return parse_yaml(text, str(path))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text.") from None
    except OSError as error:
        raise HomeError(f"Cannot read {path}: {error.strerror or error}.") from None
    except (ValueError, RecursionError):  # of YAML: a date that is none, a thousand brackets
        raise UsageError(f"{path} is not valid YAML.") from None


def checked_sections(values: dict[str, Any], where: str) -> dict[str, Any]:
    """`values` when its keys are words, and no method's section stands outside of "options"; else UsageError."""
    for key, value in values.items():
        if not isinstance(key, str):
            raise UsageError(f'Unknown key "{key}" in {where}.{did_you_mean(str(key), KEYS)}')
        if isinstance(value, dict) and key not in Settings.model_fields:
            raise UsageError(f'Unknown key "{key}" in {where}; the options of a method stand under "options".')
    return values


def write_file(home: Path, values: Mapping[str, Any]) -> None:
    """Replace config.yaml in one step. Comments in it are not kept."""
    path = Path(os.path.realpath(home / FILE))  # one that is a link stays a link
    text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)

    def fill(temporary: Path) -> None:
        temporary.write_text(text, "utf-8")

    write_atomically(path, fill)
