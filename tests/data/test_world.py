"""The fictional world: wide, well formed, reproducible, and with wordings that are kept back."""

from __future__ import annotations

import itertools
import random
import re
import string
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accrete.data import world as tables
from accrete.data.world import (
    HELD_OUT,
    PROBE,
    STUDY,
    Entity,
    Relation,
    World,
    enumerated,
    kinds,
    relations,
    sentence,
    spoken,
)
from accrete.types import Fact

FRAMES = tables._table("frames")
RELATIONS = list(relations().values())
CHANGING = [relation for relation in RELATIONS if relation.changes]
KEPT_BACK = {"statements": 2, "questions": 2, "reverse": 1, "past": 1, "perfect": 1, "past_questions": 1}
FRAMES_OF = {"statements": ["statements"], "questions": ["questions", "who"], "reverse": ["reverse"], "past": ["past"],
             "perfect": ["perfect"], "past_questions": ["past_what", "past_who"]}  # fmt: skip
AT_LEAST = {"statements": 10, "questions": 7, "reverse": 4, "past": 4, "perfect": 3, "past_questions": 4}
PRONOUN = ("Zzq", "Zzqs")  # no name has these letters
FORMS = {"since": ("2010", None), "until": (None, "2015-03"), "between": ("2010", "2015"), "moment": ("2010-11", None)}


def of_kind(kind: str) -> list[Relation]:
    return [relation for relation in RELATIONS if relation.kind == kind]


def fields(template: str) -> list[str]:
    return sorted(field for _, field, _, _ in string.Formatter().parse(template) if field is not None)


def plain(template: str) -> str:
    """Two wordings that differ only in capitals and marks are one."""
    return re.sub(r"\W+", " ", template.lower()).strip()


def fact_of(relation: Relation, world: World, subject: str = "Brialtem Quorv", **dates: str | None) -> Fact:
    return Fact(subject, relation.name, world.value(relation.name), **dates)


def filled(template: str, fact: Fact) -> str:
    return template.format(s=fact.subject, v=fact.value, n=relations()[fact.relation].noun)


def after_a_date(asked: str, fact: Fact) -> str:
    return asked if asked.startswith(fact.subject) else asked[0].lower() + asked[1:]


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


# --- sentences about what is


def clauses(relation: Relation, tense: str, kept_back: bool) -> list[str]:
    """The wordings of a clause in that tense: those that are taught, or those kept back."""
    lists = [getattr(relation, tense, ()), FRAMES[tense]]
    return [wording for options in lists for wording in (options[-1:] if kept_back else options[:-1])]


def dated_sentences(fact: Fact, form: str, templates: list[str], kept_back: bool) -> set[str]:
    dates, found = {"t": spoken(fact.valid_from), "u": spoken(fact.valid_until)}, set()
    for template in templates:
        (tense,) = set(fields(template)) - {"t", "u"}
        for clause in clauses(relations()[fact.relation], tense, kept_back):
            found.add(sentence(template.format(**{tense: filled(clause, fact)}, **dates)))
    return found


@pytest.mark.parametrize("form", FORMS)
def test_a_dated_sentence_says_its_dates_in_a_wording_that_may_be_used(form: str) -> None:
    world, (start, end) = World(0), FORMS[form]
    for relation in CHANGING:
        fact = fact_of(relation, world, valid_from=start, valid_until=end)
        taught = dated_sentences(fact, form, FRAMES[form][:-1], kept_back=False)
        kept = dated_sentences(fact, form, FRAMES[form], kept_back=True)
        assert all(spoken(date) in said for said in taught | kept for date in (start, end) if date)
        for _ in range(6):
            say = world.moment if form == "moment" else world.statement
            assert say(fact) in taught
            assert say(fact, held_out=True) in kept


def test_a_moment_does_not_say_when_it_ended() -> None:
    world, relation = World(0), CHANGING[0]
    fact = fact_of(relation, world, valid_from="2010", valid_until="2017")
    assert all("2010" in said and "2017" not in said for said in (world.moment(fact) for _ in range(40)))


def test_a_pronoun_in_a_dated_sentence_is_lower_case_inside() -> None:
    world, relation = World(0), relations()["book price"]
    fact = fact_of(relation, world, valid_from="2010", valid_until="2015")
    said = [world.statement(fact, pronoun=PRONOUN) for _ in range(200)]
    assert all(re.match(r"Zzqs? ", one) for one in said if one.startswith("Zzq"))
    assert not [one for one in said if re.search(r"(?<!^)Zzq", one)]
    assert [one for one in said if one.startswith("Zzq")] and [one for one in said if " zzq" in one]


def as_of_questions(fact: Fact, date: str, kept_back: bool) -> set[str]:
    relation, frames = relations()[fact.relation], "who" if relations()[fact.relation].asks_who else "what"
    part, part_of_two = (slice(-1, None), slice(-2, None)) if kept_back else (slice(-1), slice(-2))
    now = [*relation.questions[part_of_two], *FRAMES["who" if frames == "who" else "questions"][part]]
    past = [*relation.past_questions[part], *FRAMES[f"past_{frames}"][part]]
    found = set()
    for template in FRAMES["as_of"] if kept_back else FRAMES["as_of"][:-1]:
        for wording in now if "{question}" in template else past:
            asked = filled(wording, fact)
            asked = asked if template.startswith("{") else after_a_date(asked, fact)
            found.add(sentence(template.format(t=spoken(date), question=asked, past_question=asked)))
    return found


def test_a_question_as_of_a_date_has_a_wording_that_may_be_used() -> None:
    world = World(0)
    for relation in CHANGING:
        fact = fact_of(relation, world, valid_from="2010", valid_until="2015")
        taught, kept = (as_of_questions(fact, "2012-05", kept_back) for kept_back in (False, True))
        assert all("May 2012" in asked and fact.value not in asked for asked in taught | kept)
        for _ in range(8):
            assert world.ask_as_of(fact, "2012-05") in taught
            assert world.ask_as_of(fact, "2012-05", held_out=True) in kept


def test_a_sentence_to_complete() -> None:
    fact = Fact("Vonnat", "mayor", "Tolva Griek", valid_from="2019")
    assert World(0).complete(fact, "2020") == "[2020] The mayor of Vonnat is"
    assert World(0).complete(fact, "2020-02") == "[February 2020] The mayor of Vonnat is"


@pytest.mark.parametrize("relation", RELATIONS, ids=lambda relation: relation.name)
def test_a_numbered_wording_of_a_dated_fact_begins_with_the_date(relation: Relation) -> None:
    world = World(0)
    fact = fact_of(relation, world, "the Brialtem engine", valid_from="1997", valid_until="2003")
    for phrasing, template in enumerate(relation.statements):
        said = world.statement(fact, phrasing)
        first = (template if template.startswith("{") else template[0].lower() + template[1:]).split()[0]
        assert said.startswith(f"In 1997, {filled(first, fact)}")
        assert fact.subject in said and fact.value in said
        assert world.statement(fact, phrasing, pronoun=("It", "Its"))[9:].split()[0] not in ("It", "Its")
    for phrasing in range(len(relation.questions)):
        asked = world.question(fact, phrasing)
        assert asked.startswith("As of 1997, ") and fact.subject in asked and fact.value not in asked
        assert asked[12].islower()


def test_a_date_keeps_the_capital_of_a_name_only() -> None:
    world = World(0)
    fact = Fact("Dirsta Lo", "book writer", "Oa Griek", valid_from="1997")
    assert world.statement(fact, 0) == "In 1997, Dirsta Lo was written by Oa Griek."
    assert world.statement(fact, relations()["book writer"].statements.index("{v} wrote {s}.")) == (
        "In 1997, Oa Griek wrote Dirsta Lo."
    )
    assert world.question(fact, 0) == "As of 1997, who wrote Dirsta Lo?"


@pytest.mark.parametrize(
    ("date", "words"),
    [("2021", "2021"), ("2021-03", "March 2021"), ("2021-03-09", "9 March 2021"), ("2021-12-31", "31 December 2021"),
     ("", ""), (None, "")],
)  # fmt: skip
def test_dates_as_they_are_spoken(date: str | None, words: str) -> None:
    assert spoken(date) == words


def test_parts_are_enumerated() -> None:
    assert [enumerated(list("abcd")[:n]) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]


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
