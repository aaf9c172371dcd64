"""The fictional world: reproducible, without repeated names, and said in wordings that may be used."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world_wordings import CHANGING, FRAMES, PRONOUN, RELATIONS, fact_of, filled, of_kind

from accrete.data import world as tables
from accrete.data.world import (
    HELD_OUT,
    PROBE,
    STUDY,
    Entity,
    World,
    kinds,
    relations,
    sentence,
)
from accrete.types import Fact

# --- what is drawn


def everything(seed: int) -> tuple:
    world = World(seed)
    entities = world.entities(30)
    dated = world.timeline(entities[0], (1990, 2000, 2010), share=0.5)
    said = [world.statement(fact) for fact in dated], world.passage(entities, fillers=0.3)
    return entities, dated, said, world.document("d", entities), world.probes(entities[3].facts)


def test_a_seed_is_a_world() -> None:
    state = random.getstate()
    assert everything(5) == everything(5)
    assert everything(5) != everything(6)
    assert random.getstate() == state  # and nothing else is drawn from


def test_names_are_unique() -> None:
    assert len({entity.name for entity in World(0).entities(2000)}) == 2000


def test_entities_take_the_kinds_in_turn() -> None:
    assert [entity.kind for entity in World(0).entities(20)] == [*kinds(), *kinds()][:20]


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("count", [1, 5, 7, 9])
def test_an_entity_has_facts_of_its_kind(kind: str, count: int) -> None:
    entity = World(1).entity(kind, count)
    assert entity.kind == kind
    assert {fact.subject for fact in entity.facts} == {entity.name}
    assert len({fact.relation for fact in entity.facts}) == len(entity.facts) == min(count, 7)
    assert all(relations()[fact.relation].kind == kind for fact in entity.facts)
    assert list(entity.pronoun) in tables._table(kind)["pronouns"]


PERIODS = st.lists(st.integers(1000, 2100), min_size=1, max_size=8, unique=True).map(sorted)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 50), periods=PERIODS, share=st.floats(0, 1))
def test_timelines_are_half_open_and_contiguous(seed: int, periods: list[int], share: float) -> None:
    world = World(seed)
    entity = world.entity()
    facts = world.timeline(entity, periods, share)
    changing = [fact.relation for fact in entity.facts if relations()[fact.relation].changes]
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
    entity = world.entity("company", 7)
    changing = sum(relations()[fact.relation].changes for fact in entity.facts)
    assert changing > 0
    assert len(world.timeline(entity, (2000, 2001, 2002), share=0.0)) == changing
    assert len(world.timeline(entity, (2000, 2001, 2002), share=1.0)) == 3 * changing


# --- sentences about what is not dated


@pytest.mark.parametrize("held_out", [False, True])
def test_a_sentence_has_a_wording_that_may_be_used(held_out: bool) -> None:
    world = World(0)

    def part(options: tuple, kept: int) -> tuple:
        return options[-kept:] if held_out else options[:-kept]

    for relation in RELATIONS:
        fact, frames = fact_of(relation, world), "who" if relation.asks_who else "questions"
        statements = {*part(relation.statements, 2), *part(FRAMES["statements"], 1)}
        questions = {*part(relation.questions, 2), *part(FRAMES[frames], 1)}
        for _ in range(8):
            assert world.statement(fact, held_out=held_out) in {sentence(filled(t, fact)) for t in statements}
            assert world.ask(fact, held_out) in {sentence(filled(t, fact)) for t in questions}
            assert world.reverse(fact, held_out) in {sentence(filled(t, fact)) for t in part(relation.reverse, 1)}


def test_every_wording_is_used() -> None:
    world, relation = World(0), RELATIONS[0]
    fact = fact_of(relation, world)
    drawn = {world.statement(fact) for _ in range(600)}
    assert drawn == {sentence(filled(t, fact)) for t in (*relation.statements[:-2], *FRAMES["statements"][:-1])}
    drawn = {world.statement(fact, held_out=True) for _ in range(60)}
    assert drawn == {sentence(filled(t, fact)) for t in (*relation.statements[-2:], FRAMES["statements"][-1])}


def test_a_pronoun_stands_only_where_the_subject_comes_first() -> None:
    world = World(2)
    for relation in RELATIONS:
        fact = fact_of(relation, world)
        for phrasing, template in enumerate(relation.statements):
            said = world.statement(fact, phrasing, pronoun=PRONOUN)
            if template.startswith("{s} "):
                assert said.startswith("Zzq ") and fact.subject not in said
            elif template.startswith("{s}'s"):
                assert said.startswith("Zzqs ") and fact.subject not in said
            else:
                assert fact.subject in said and "Zzq" not in said
            assert fact.value in sentence(said) or sentence(fact.value) in said


def test_statements_are_sentences() -> None:
    world = World(2)
    for entity in world.entities(45):
        for fact in entity.facts:
            for phrasing in range(len(relations()[fact.relation].statements)):
                said = world.statement(fact, phrasing)
                assert said.endswith(".") and said[0] == said[0].upper() and "{" not in said
                assert fact.value.lower() in said.lower() and fact.subject.lower() in said.lower()


# --- passages


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), facts=st.integers(1, 7), held_out=st.booleans())
def test_a_passage_says_every_fact_and_names_its_subject_first(seed: int, facts: int, held_out: bool) -> None:
    world = World(seed)
    entity = world.entity(facts=facts)
    said = world.sentences(entity, held_out)
    assert entity.name.lower() in said[0].lower()
    assert 1 <= len(said) <= facts
    text = " ".join(said)
    assert all(fact.value.lower() in text.lower() for fact in entity.facts)
    assert all(one.endswith(".") and one[0] == one[0].upper() and "{" not in one for one in said)


def test_fillers_say_nothing_and_come_when_asked_for() -> None:
    world = World(4)
    entity = world.entity("town", 7)
    known = {sentence(filler.format(s=entity.name)) for filler in tables._table("town")["fillers"]}
    assert not known & set(world.sentences(entity))
    assert Counter(one in known for one in world.sentences(entity, fillers=1.0))[True] >= 3


def predicates(facts: tuple[Fact, ...], kept_back: bool) -> set[str]:
    part = slice(-2, None) if kept_back else slice(-2)
    return {
        filled(template[4:-1], fact)
        for fact in facts
        for template in relations()[fact.relation].statements[part]
        if template.startswith("{s} ")
    }


@pytest.mark.parametrize("held_out", [False, True])
def test_several_facts_stand_in_one_sentence(held_out: bool) -> None:
    world, found = World(0), Counter()
    for entity, pronoun in itertools.product(world.entities(100), (None, PRONOUN)):
        facts = entity.facts[:2]
        if (said := world.joined(facts, pronoun, held_out)) is None:
            continue
        aside = ", whose " in said
        found["aside" if aside else "and", pronoun] += 1
        assert said.startswith("Zzq " if pronoun else sentence(entity.name)) and said.endswith(".")
        assert all(fact.value in said for fact in facts)
        assert sum(predicate in said for predicate in predicates(facts, held_out)) >= (1 if aside else 2)
        assert not [predicate for predicate in predicates(facts, not held_out) if predicate in said]
    assert found["and", None] > 5 and found["and", PRONOUN] > 5 and found["aside", None] > 5
    assert not found["aside", PRONOUN]


def test_what_is_a_list_or_dated_is_not_joined() -> None:
    world = World(0)
    several = next(relation for relation in RELATIONS if relation.value.startswith("several"))
    other = next(relation for relation in of_kind(several.kind) if relation is not several)
    assert world.joined([fact_of(several, world), fact_of(other, world)]) is None
    dated = next(relation for relation in CHANGING if not relation.value.startswith("several"))
    assert world.joined([fact_of(dated, world, valid_from="2010")] * 2) is None
    assert world.joined([fact_of(dated, world)] * 2)


def test_passages_of_one_and_of_many_sentences_pronouns_and_joined_facts_all_occur() -> None:
    world = World(7)
    lengths, words = Counter(), Counter()
    for entity in (world.entity(facts=1 + i % 7) for i in range(300)):
        said = world.sentences(entity)
        lengths[len(said)] += 1
        words["pronoun"] += any(one.startswith(entity.pronoun) for one in said[1:])
        words["joined"] += len(said) < len(entity.facts)
        words["aside"] += any(f"{sentence(entity.name)}, whose " in one for one in said)
    assert set(range(1, 7)) <= set(lengths)
    assert all(words[word] > 20 for word in ("pronoun", "joined", "aside"))


# --- lessons


def test_items_and_probes_ask_in_different_words_and_the_last_is_for_nobody() -> None:
    world = World(0)
    document = world.document("d", entities := world.entities(15))
    facts = [fact for entity in entities for fact in entity.facts]
    probes = world.probes(facts)
    assert len(document.items) == len(STUDY) * len(probes) == len(STUDY) * len(facts)
    asked = {item.question for item in document.items} | {probe.question for probe in probes}
    assert len(asked) == (len(STUDY) + 1) * len(facts)
    assert not asked & {world.question(fact, HELD_OUT) for fact in facts}
    assert PROBE not in STUDY and all(p < len(r.questions) - 2 for p in (*STUDY, PROBE) for r in RELATIONS)
    assert [probe.fact for probe in probes] == facts
    assert all(fact.value.lower() in document.text.lower() for fact in facts)
    assert document.text.count("\n\n") == len(entities) - 1


def test_a_person_is_asked_for_as_who() -> None:
    assert relations()["mayor"].asks_who and not relations()["book price"].asks_who
    world, fact = World(0), Fact("Vonnat", "mayor", "Tolva Griek")
    assert not [asked for asked in (world.ask(fact) for _ in range(200)) if asked.startswith("What is")]


def test_an_entity_can_be_given_other_facts() -> None:
    """Restating relies on it."""
    entity = World(0).entity("ship")
    assert replace(entity, facts=entity.facts[:1]) == Entity(entity.name, "ship", entity.pronoun, entity.facts[:1])
