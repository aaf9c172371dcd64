"""Dated sentences and questions: they say their dates, in wordings that may be used."""

from __future__ import annotations

import re

import pytest
from world_wordings import CHANGING, FRAMES, PRONOUN, RELATIONS, fact_of, fields, filled

from accrete.data.world import (
    Relation,
    World,
    enumerated,
    relations,
    sentence,
)
from accrete.dates import spoken
from accrete.types import Fact

FORMS = {"since": ("2010", None), "until": (None, "2015-03"), "between": ("2010", "2015"), "moment": ("2010-11", None)}


def after_a_date(asked: str, fact: Fact) -> str:
    return asked if asked.startswith((fact.subject, "I ")) else asked[0].lower() + asked[1:]


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
        assert asked.startswith("As of 1997, ") and fact.subject in asked
        assert not re.search(rf"\b{re.escape(fact.value)}\b", asked)
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
