"""The fictional world: reproducible, without repeated names, and with phrasings that never coincide."""

from __future__ import annotations

import itertools
import random
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accrete.data.world import HELD_OUT, PROBE, STUDY, World, _tables, kinds, relations
from accrete.types import Fact

ROWS = [
    pytest.param(row, id=f"{kind}: {name}")
    for kind, table in _tables()["kinds"].items()
    for name, row in table["relations"].items()
]


def fields(template: str) -> list[str]:
    return [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]


@pytest.mark.parametrize("row", ROWS)
def test_phrasings(row: dict) -> None:
    assert len(row["questions"]) == len(row["statements"]) == len((*STUDY, PROBE, HELD_OUT))
    assert len(set(row["questions"])) == len(row["questions"])
    assert len(set(row["statements"])) == len(row["statements"])
    assert all(fields(question) == ["s"] and question.endswith("?") for question in row["questions"])
    assert all(sorted(fields(statement)) == ["s", "v"] for statement in row["statements"])


def test_questions_are_different_over_all_relations() -> None:
    """Otherwise one question would have two answers."""
    for table in _tables()["kinds"].values():
        questions = [question for row in table["relations"].values() for question in row["questions"]]
        assert len(set(questions)) == len(questions)


def test_a_relation_belongs_to_one_kind() -> None:
    names = [name for table in _tables()["kinds"].values() for name in table["relations"]]
    assert len(set(names)) == len(names) == len(relations())


def test_every_value_can_be_drawn_and_differs_from_the_old_one() -> None:
    world = World(3)
    for relation in relations():
        old = world.value(relation)
        assert old.strip()
        assert all(world.value(relation, other_than=old) != old for _ in range(20))


def everything(seed: int) -> tuple:
    world = World(seed)
    entities = world.entities(30)
    dated = world.timeline(entities[0], (1990, 2000, 2010), share=0.5)
    return entities, dated, world.document("d", entities), world.probes(entities[3].facts)


def test_a_seed_is_a_world() -> None:
    state = random.getstate()
    assert everything(5) == everything(5)
    assert everything(5) != everything(6)
    assert random.getstate() == state  # and nothing else is drawn from


def test_names_are_unique() -> None:
    world = World(0)
    names = [entity.name for entity in world.entities(3000)]
    assert len(set(names)) == 3000


@pytest.mark.parametrize("kind", kinds())
def test_an_entity_has_facts_of_its_kind(kind: str) -> None:
    entity = World(1).entity(kind)
    table = _tables()["kinds"][kind]
    assert entity.kind == kind
    assert {fact.subject for fact in entity.facts} == {entity.name}
    assert len({fact.relation for fact in entity.facts}) == len(entity.facts) == 5
    assert {fact.relation for fact in entity.facts} <= set(table["relations"])
    assert list(entity.pronoun) in table["pronouns"]


PERIODS = st.lists(st.integers(1000, 2100), min_size=1, max_size=8, unique=True).map(sorted)


@settings(deadline=None)
@given(seed=st.integers(0, 50), periods=PERIODS, share=st.floats(0, 1))
def test_timelines_are_half_open_and_contiguous(seed: int, periods: list[int], share: float) -> None:
    world = World(seed)
    entity = world.entity()
    facts = world.timeline(entity, periods, share)
    changing = [fact.relation for fact in entity.facts if relations()[fact.relation].get("changes")]
    assert list(dict.fromkeys(fact.relation for fact in facts)) == changing
    for relation, group in itertools.groupby(facts, key=lambda fact: fact.relation):
        line = list(group)
        assert line[0].valid_from == str(periods[0])
        assert line[-1].valid_until is None
        assert line[0].value == next(fact.value for fact in entity.facts if fact.relation == relation)
        for earlier, later in itertools.pairwise(line):
            assert earlier.valid_until == later.valid_from
            assert int(earlier.valid_from) < int(earlier.valid_until)
            assert earlier.value != later.value


def test_a_timeline_changes_always_or_never() -> None:
    world = World(0)
    entity = world.entity("company")
    changing = sum(bool(relations()[fact.relation].get("changes")) for fact in entity.facts)
    assert changing > 0
    assert len(world.timeline(entity, (2000, 2001, 2002), share=0.0)) == changing
    assert len(world.timeline(entity, (2000, 2001, 2002), share=1.0)) == 3 * changing


@pytest.mark.parametrize("relation", relations())
def test_dated_sentences_mention_the_year(relation: str) -> None:
    world = World(0)
    fact = Fact("the Brialtem engine", relation, world.value(relation), valid_from="1997", valid_until="2003")
    for phrasing in range(4):
        statement, question = world.statement(fact, phrasing), world.question(fact, phrasing)
        assert statement.startswith("In 1997, ")
        assert question.startswith("As of 1997, ")
        assert fact.subject in statement
        assert fact.subject in question
        assert fact.value in statement
        assert fact.value not in question
    assert world.statement(fact).startswith("In 1997, ")


def test_a_date_keeps_the_capital_of_a_name_only() -> None:
    world = World(0)
    fact = Fact("Dirsta Lo", "profession", "a baker", valid_from="1997")
    assert world.statement(fact, 0) == "In 1997, Dirsta Lo works as a baker."
    assert world.question(fact, 0) == "As of 1997, what is the profession of Dirsta Lo?"


def test_statements_are_sentences_with_or_without_the_name() -> None:
    world = World(2)
    for entity in world.entities(60):
        for fact in entity.facts:
            for phrasing in range(3):
                named = world.statement(fact, phrasing)
                assert named.endswith(".")
                assert named[0] == named[0].upper()
                assert fact.value in named
                assert fact.subject.lower() in named.lower()
                assert "{" not in world.statement(fact, phrasing, pronoun=entity.pronoun)


def test_held_out_statements_are_not_drawn() -> None:
    world = World(0)
    fact = Fact("Dirsta Lo", "profession", "a baker")
    drawn = {world.statement(fact) for _ in range(100)}
    assert drawn == {world.statement(fact, phrasing) for phrasing in range(3)}


def test_items_and_probes_ask_in_different_words() -> None:
    world = World(0)
    document = world.document("d", entities := world.entities(10))
    facts = [fact for entity in entities for fact in entity.facts]
    probes = world.probes(facts)
    assert len(document.items) == len(STUDY) * len(probes) == len(STUDY) * len(facts)
    assert not {item.question for item in document.items} & {probe.question for probe in probes}
    assert [probe.fact for probe in probes] == facts
    assert all(fact.value in document.text for fact in facts)
