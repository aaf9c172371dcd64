"""Configuration: a wrong key or value is one sentence that says which, where, and what was perhaps meant."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from accrete.config import Config, build, parse_yaml
from accrete.errors import UsageError


class Inner(Config):
    rate: float = 0.1
    steps: int = 3


class Outer(Config):
    name: str = "x"
    inner: Inner = Inner()
    rows: list[Inner] = []  # noqa: RUF012


def complaint(values: dict) -> str:
    with pytest.raises(UsageError) as caught:
        build(Outer, values, "settings.yaml")
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_values_are_validated() -> None:
    built = build(Outer, {"name": "y", "inner": {"rate": "0.5"}}, "here")
    assert built == Outer(name="y", inner=Inner(rate=0.5, steps=3))
    assert build(Outer, {}, "here") == Outer()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"nam": "y"}, 'Unknown key "nam" in settings.yaml. Did you mean "name"?'),
        ({"zzz": 1}, 'Unknown key "zzz" in settings.yaml. Known: inner, name, rows.'),
        ({"inner": {"step": 1}}, 'Unknown key "inner.step" in settings.yaml. Did you mean "steps"?'),
    ],
)
def test_an_unknown_key_suggests(values: dict, expected: str) -> None:
    assert complaint(values) == expected


def test_an_unknown_key_in_a_list_is_named() -> None:
    assert complaint({"rows": [{}, {"step": 1}]}) == 'Unknown key "rows.1.step" in settings.yaml.'


@pytest.mark.parametrize(
    ("values", "key"), [({"name": 7}, "name"), ({"inner": {"rate": "fast"}}, "inner.rate"), ({"inner": None}, "inner")]
)
def test_a_wrong_value_is_named(values: dict, key: str) -> None:
    assert complaint(values).startswith(f'Key "{key}" in settings.yaml: ')


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(ValidationError):
        Outer().name = "y"


@pytest.mark.parametrize("text", ["a: 1\nb: [2, x]\n", "{a: 1, b: [2, x]}"])
def test_yaml(text: str) -> None:
    assert parse_yaml(text, "here") == {"a": 1, "b": [2, "x"]}


@pytest.mark.parametrize("text", ["", "7", "- a\n- b", "just words", "null"])
def test_yaml_that_is_no_mapping(text: str) -> None:
    with pytest.raises(UsageError, match=r"settings\.yaml must hold keys and values"):
        parse_yaml(text, "settings.yaml")


def test_broken_yaml_names_the_line() -> None:
    with pytest.raises(UsageError, match=r"settings\.yaml is not valid YAML at line 2\."):
        parse_yaml("a: 1\nb: }\n", "settings.yaml")


def test_yaml_runs_no_code() -> None:
    with pytest.raises(UsageError, match="not valid YAML"):
        parse_yaml("a: !!python/object/apply:os.getcwd []", "settings.yaml")
