"""The tables of the world: wide, well formed, and with wordings that are kept back."""

from __future__ import annotations

import itertools
import re

import pytest
from world_wordings import FRAMES, RELATIONS, fields, of_kind

from accrete.data import world as tables
from accrete.data.world import (
    Relation,
    World,
    enumerated,
    kinds,
    relations,
)

KEPT_BACK = {"statements": 2, "questions": 2, "reverse": 1, "past": 1, "perfect": 1, "past_questions": 1}
FRAMES_OF = {"statements": ["statements"], "questions": ["questions", "who"], "reverse": ["reverse"], "past": ["past"],
             "perfect": ["perfect"], "past_questions": ["past_what", "past_who"]}  # fmt: skip
AT_LEAST = {"statements": 10, "questions": 7, "reverse": 4, "past": 4, "perfect": 3, "past_questions": 4}


def plain(template: str) -> str:
    """Two wordings that differ only in capitals and marks are one."""
    return re.sub(r"\W+", " ", template.lower()).strip()


# --- the tables


def test_the_world_is_wide() -> None:
    assert len(kinds()) >= 12 and len(RELATIONS) >= 80
    assert all(len(relation.statements[:-2]) >= 8 and len(relation.questions[:-2]) >= 5 for relation in RELATIONS)
    assert kinds() == tuple(sorted(kinds()))


@pytest.mark.parametrize("kind", kinds())
def test_a_table_is_well_formed(kind: str) -> None:
    table = tables._table(kind)
    assert all(len(pronoun) == 2 for pronoun in table["pronouns"])
    assert all(filler.endswith(".") and fields(filler) in ([], ["s"]) for filler in table["fillers"])
    assert len(set(table["fillers"])) == len(table["fillers"]) >= 12
    for values in table["lists"].values():
        assert len(set(values)) == len(values) >= 30 and all(isinstance(value, str) and value for value in values)
    mine = of_kind(kind)
    assert len(mine) == 7 and sum(relation.changes for relation in mine) >= 3
    assert len({relation.noun for relation in mine}) == 7  # a line of facts names a relation by its noun
    for relation in mine:
        row = table["relations"][relation.name]
        assert set(row) <= {"noun", "value", "changes", *AT_LEAST}
        assert sum(wording.startswith("{s} ") for wording in relation.statements[:-2]) >= 5  # for several in a sentence
        for key, count in AT_LEAST.items():
            dated = key in ("past", "perfect", "past_questions")
            wordings = getattr(relation, key)
            assert len({plain(wording) for wording in wordings}) == len(wordings)
            assert len(wordings) >= count if relation.changes or not dated else not wordings
            asks, end = key.endswith("questions"), {"statements": ".", "questions": "?", "reverse": "?"}.get(key, "")
            expected = ["v"] if key == "reverse" else ["s"] if asks else ["s", "v"]
            assert all(fields(wording) == expected for wording in wordings)
            assert all(wording.endswith(end) if end else wording[-1] not in ".?" for wording in wordings)
            assert not [wording for wording in wordings if re.search(r"\b(its|her|his|their|it)\b", wording.lower())]


def test_a_relation_has_one_name() -> None:
    names = [name for kind in kinds() for name in tables._table(kind)["relations"]]
    assert len(set(names)) == len(names) == len(RELATIONS)


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("key", ["questions", "reverse", "past_questions"])
def test_one_question_asks_one_thing(kind: str, key: str) -> None:
    asked: dict[str, str] = {}
    for relation in of_kind(kind):
        frames = [template.replace("{n}", relation.noun) for frame in FRAMES_OF[key] for template in FRAMES[frame]]
        for wording in (*getattr(relation, key), *frames):
            assert asked.setdefault(plain(wording), relation.name) == relation.name, wording


@pytest.mark.parametrize("key", KEPT_BACK)
def test_a_wording_that_is_kept_back_is_taught_nowhere(key: str) -> None:
    kept = KEPT_BACK[key]
    taught = {plain(wording) for relation in RELATIONS for wording in getattr(relation, key)[:-kept]}
    taught |= {plain(template.replace("{n}", relation.noun)) for relation in RELATIONS
               for frame in FRAMES_OF[key] for template in FRAMES[frame][:-1]}  # fmt: skip
    assert not [w for relation in RELATIONS for w in getattr(relation, key)[-kept:] if plain(w) in taught]


def test_frames_have_their_fields_and_one_that_is_kept_back() -> None:
    expected = {"statements": "nsv", "questions": "ns", "who": "ns", "reverse": "nv", "past": "nsv", "perfect": "nsv",
                "present": "nsv", "past_what": "ns", "past_who": "ns"}  # fmt: skip
    for name, wanted in expected.items():
        assert len(set(FRAMES[name])) == len(FRAMES[name]) >= 2
        assert all(fields(template) == sorted(wanted) for template in FRAMES[name])
    for form, dates in {"since": "t", "until": "u", "between": "tu", "moment": "t"}.items():
        for template in FRAMES[form]:
            (tense,) = set(fields(template)) - set(dates)
            assert tense in ("past", "perfect", "present") and set(dates) < set(fields(template))


# --- values


def test_every_value_can_be_drawn_and_differs_from_the_old_one() -> None:
    world = World(3)
    for name in relations():
        old = world.value(name)
        assert old == old.strip() != ""
        assert all(world.value(name, other_than=old) != old for _ in range(10))


@pytest.mark.parametrize("relation", RELATIONS, ids=lambda relation: relation.name)
def test_a_value_is_of_its_sort(relation: Relation) -> None:
    world = World(1)
    drawn = [world.value(relation.name) for _ in range(12)]
    sort, *rest = relation.value.split()
    day, month = r"\d{1,2} ", r"[A-Z][a-z]+ "
    shapes = {"year": r"\d{4}", "month": month + r"\d{4}", "date": day + month + r"\d{4}"}
    if sort in shapes:
        assert all(re.fullmatch(shapes[sort], value) for value in drawn)
    elif sort == "number":
        low, high, unit = int(rest[0]), int(rest[1]), " ".join(rest[2:])
        for value in drawn:
            number, _, said = value.partition(" ")
            assert said == unit != ""
            assert low - 50 <= int(number.replace(",", "")) <= high + 50
    elif sort == "several":
        for value in drawn:
            found = [one for one in relation.values if one in value]
            orders = (order for size in (2, 3) for order in itertools.permutations(found, size))
            assert value in {enumerated(order) for order in orders}
    elif sort in ("person", "place", "firm"):
        assert all(value[0].isupper() for value in drawn)
    else:
        assert set(drawn) <= set(relation.values) and len(set(drawn)) > 5
