"""Held-out worlds: unlike what training saw, answerable as they say, and the same every time."""

import re

import pytest

from accrete.data.corpus import WorldCorpus
from accrete.data.world import relations
from accrete.dates import spoken
from accrete.evaluate import worlds
from accrete.lm.tasks import NOT_STATED

LISTS = [worlds.passages, worlds.questions, worlds.half_unanswerable, worlds.sentences, worlds.listings,
         worlds.dated_listings, worlds.histories, worlds.by_heart]  # fmt: skip


@pytest.mark.parametrize("make", LISTS, ids=lambda make: make.__name__)
def test_a_list_is_the_same_every_time_and_begins_a_longer_one(make):
    assert len(make(30)) == 30 and make(12) == make(30)[:12]
    assert make(30, held_out=False) != make(30)


def test_no_passage_or_question_is_in_a_wording_of_the_training():
    world = WorldCorpus(1, 0).world
    taught = {template for relation in relations().values() for template in relation.questions[:-2]}
    for probe in worlds.questions(60):
        filled = {template.format(s=probe.fact.subject).lower() for template in taught if "{n}" not in template}
        assert probe.question.lower() not in filled
    assert any(world.question(p.fact, i) == p.question for p in worlds.questions(60, held_out=False) for i in range(6))


def test_no_entity_is_one_of_the_training():
    trained = {entity.name for entity in WorldCorpus(*worlds.PERSISTENT).persistent}
    assert not {fact.subject for reading in worlds.passages(100) for fact in reading.facts} & trained
    assert {probe.fact.subject for probe in worlds.by_heart(50)} <= trained


def test_a_passage_holds_every_answer():
    for probe in worlds.questions(100):
        assert probe.answers[0].lower() in probe.context.lower() and probe.answers == (probe.fact.value,)
    for reading in [*worlds.passages(50), *worlds.sentences(50), *worlds.dated_listings(50)]:
        for fact in reading.facts:
            assert fact.subject.lower() in reading.text.lower() and fact.value.lower() in reading.text.lower()


def test_half_of_the_questions_have_no_answer_and_the_passage_says_nothing_of_their_relation():
    probes = worlds.half_unanswerable(100)
    missing = [probe for probe in probes if probe.answers == (NOT_STATED,)]
    assert len(missing) == 50
    said = {(probe.context, probe.fact.subject, probe.fact.relation) for probe in probes if probe not in missing}
    assert not said & {(probe.context, probe.fact.subject, probe.fact.relation) for probe in missing}
    assert all(probe.fact.subject.lower() in probe.context.lower() for probe in missing)


def test_what_is_listed_is_the_noun_and_the_dates_as_the_text_has_them():
    nouns = {relation.noun for relation in relations().values()}
    readings = worlds.dated_listings(80)
    assert all(fact.relation in nouns for reading in readings for fact in reading.facts)
    dates = [(reading.text, date) for reading in readings for fact in reading.facts
             for date in (fact.valid_from, fact.valid_until) if date]  # fmt: skip
    assert len(dates) > 80 and all(date in text for text, date in dates)
    assert any(re.match(r"[A-Z][a-z]+ \d{4}$", date) for _, date in dates)
    assert not any(fact.valid_from for reading in worlds.listings(30) for fact in reading.facts)


def test_a_history_is_asked_within_the_facts_interval():
    probes = worlds.histories(200)
    for probe in probes:
        fact = probe.fact
        year = int(re.findall(r"\b(?:19|20)\d\d\b", probe.question)[-1 if probe.question.endswith("?") else 0])
        assert int(fact.valid_from[:4]) <= year, probe
        assert fact.valid_until is None or year < int(fact.valid_until[:4]) or fact.valid_until.count("-"), probe
        assert spoken(fact.valid_from) in probe.context and fact.value.lower() in probe.context.lower()
    finished = [probe for probe in probes if probe.question.startswith("[")]
    assert 30 < len(finished) < 90
