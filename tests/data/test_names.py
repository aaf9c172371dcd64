"""Invented names: of every kind, never twice, and nothing left to fill in."""

from __future__ import annotations

import random
import re

import pytest

from accrete.data.names import Names, _tables
from accrete.data.world import kinds

TABLES = _tables()
PARTS = {"w", "lower", "initial", "version"}


def test_every_kind_and_every_sort_of_value_has_patterns() -> None:
    assert {*kinds(), "person", "town", "company"} <= set(TABLES["patterns"])


@pytest.mark.parametrize("kind", TABLES["patterns"])
def test_a_pattern_asks_for_parts_that_there_are(kind: str) -> None:
    parts = {part for pattern in TABLES["patterns"][kind] for part in re.findall(r"\{(\w+)\}", pattern)}
    assert parts <= PARTS | set(TABLES["words"]) and parts & {"w", "lower"}  # something of it is always invented


def test_words_are_plain() -> None:
    for words in TABLES["words"].values():
        assert len(set(words)) == len(words) and all(re.fullmatch(r"[A-Za-z ]+", word) for word in words)


@pytest.mark.parametrize("kind", TABLES["patterns"])
def test_names_of_a_kind(kind: str) -> None:
    names = Names(random.Random(1))
    given = [names.new(kind) for _ in range(300)]
    assert len(set(given)) == 300
    for name in given:
        assert re.fullmatch(r"[A-Za-z0-9. -]{2,60}", name) and name == name.strip() and "  " not in name
        assert re.search(r"[A-Z]", name) or kind in ("software", "species")


def test_a_name_given_once_is_not_given_again_though_it_may_be_drawn_again() -> None:
    names = Names(random.Random(0))
    scripted = iter(["Tolva", "Tolva", "Semmor"])
    names.any = lambda kind: next(scripted)  # type: ignore[method-assign]
    assert [names.new("town"), names.new("town")] == ["Tolva", "Semmor"]


def test_a_seed_is_a_list_of_names_and_another_seed_another() -> None:
    def drawn(seed: int) -> list[str]:
        names = Names(random.Random(seed))
        return [names.new(kind) for kind in kinds() for _ in range(60)]

    assert drawn(3) == drawn(3)
    assert len(set(drawn(3)) & set(drawn(4))) < 0.02 * len(drawn(3))


def test_words_are_many_and_pronounceable() -> None:
    names = Names(random.Random(2))
    words = [names.word() for _ in range(4_000)]
    assert len(set(words)) > 3_600
    for word in words:
        assert re.fullmatch(r"[A-Z][a-z]+", word) and re.search(r"[aeiouy]", word.lower())
        assert not re.search(r"[bcdfghjklmnpqrstvwxz]{6}", word.lower())
