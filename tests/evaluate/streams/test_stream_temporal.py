"""Synthetic TemporalWiki: what changes, what a passage states, what is asked as of when."""

import itertools
import re

import pytest

from accrete.data.world import World, relations
from accrete.evaluate.streams import Options, make
from accrete.evaluate.streams.temporal import timelines
from accrete.scoring import contains, normalise
from accrete.types import Fact


@pytest.fixture(scope="module")
def stream():
    return make("temporal", Options(facts=200))


def pairs(task):
    return {(probe.fact.subject, probe.fact.relation): probe for probe in task.probes}


def test_four_periods_of_six_hundred_facts_that_can_change():
    whole = make("temporal", Options())
    assert [task.name for task in whole.tasks] == ["2018", "2020", "2022", "2024"]
    for task in whole.tasks:
        assert len(task.probes) == len(pairs(task)) == 600
        assert all(relations()[probe.fact.relation].changes for probe in task.probes)
        assert pairs(task).keys() == pairs(whole.tasks[0]).keys()
    assert [task.name for task in make("temporal", Options(lessons=2, facts=4)).tasks] == ["2018", "2020"]


def test_the_seed_alone_decides(stream):
    assert make("temporal", Options(facts=200)) == stream != make("temporal", Options(facts=200, seed=1))


def test_a_quarter_changes_at_each_later_period(stream):
    first, *later = stream.tasks
    assert {probe.kind for probe in first.probes} == {"new"}
    for before, task in itertools.pairwise(stream.tasks):
        was = pairs(before)
        changed = [p for key, p in pairs(task).items() if p.fact.value != was[key].fact.value]
        assert len(changed) == 50
        assert {probe.kind for probe in changed} == {"changed"}
        assert {p.kind for p in task.probes if p not in changed} == {"unchanged"}
    sets = [{key for key, probe in pairs(task).items() if probe.kind == "changed"} for task in later]
    assert sets[0] != sets[1] != sets[2]


def test_intervals_are_half_open_and_tile_the_time(stream):
    for task in stream.tasks:
        for probe in task.probes:
            fact = probe.fact
            assert probe.as_of == task.name
            assert fact.valid_from <= task.name and (fact.valid_until is None or task.name < fact.valid_until)
            assert (probe.kind == "changed") == (fact.valid_from == task.name != "2018")
    for before, task in itertools.pairwise(stream.tasks):
        was = pairs(before)
        for key, probe in pairs(task).items():
            if probe.kind == "changed":
                assert was[key].fact.valid_until == probe.fact.valid_from == task.name
            else:
                assert was[key].fact == probe.fact


def test_no_value_returns_or_could_be_taken_for_an_earlier_one(stream):
    for key in pairs(stream.tasks[0]):
        values = list(dict.fromkeys(pairs(task)[key].fact.value for task in stream.tasks))
        dates = {pairs(task)[key].fact.valid_from for task in stream.tasks}
        assert len(values) == len(dates)
        for one, other in itertools.permutations(values, 2):
            assert not contains(one, other)


def test_a_value_within_another_is_drawn_again(monkeypatch):
    world = World(1)
    drawn = iter([*["red and white", "Red", "green"] * 4])
    monkeypatch.setattr(world, "value", lambda relation, other_than=None: next(drawn))
    histories = timelines(world, [Fact("S", "shirt colour", "red")] * 4, ["2018", "2020"])
    assert sorted(history[1].value for history in histories) == ["green", "red", "red", "red"]


def test_a_relation_may_run_out_of_values(monkeypatch):
    world, colours = World(1), itertools.cycle(["red", "green"])
    monkeypatch.setattr(world, "value", lambda relation, other_than=None: next(c for c in colours if c != other_than))
    (history,) = timelines(world, [Fact("S", "shirt colour", "red")] * 1, ["2018", "2020"])
    assert [fact.value for fact in history] == ["red", "red"]  # a quarter of one is none
    histories = timelines(world, [Fact("S", "shirt colour", "red")] * 4, [str(year) for year in range(2000, 2040)])
    assert all(a.value != b.value for h in histories for a, b in itertools.pairwise(h) if a.valid_until == b.valid_from)


def test_every_fact_is_stated_once_in_its_period_with_its_date(stream):
    for task in stream.tasks:
        paragraphs = task.document.text.split("\n\n")
        by_subject = {}
        for probe in task.probes:
            by_subject.setdefault(probe.context, []).append(probe.fact)
        assert list(by_subject) == paragraphs
        for text, facts in by_subject.items():
            assert len({fact.subject for fact in facts}) == 1
            assert len(re.findall(task.name, text)) == len(facts)  # each sentence says the year
            said = f" {normalise(text)} "
            for fact in facts:
                value = f" {normalise(fact.value)} "
                assert said.count(value) == sum(value in f" {normalise(other.value)} " for other in facts), fact


def test_half_is_to_be_finished_and_half_asked(stream):
    for task in stream.tasks:
        finish = [probe for probe in task.probes if probe.question.startswith(f"[{task.name}] The ")]
        assert len(finish) == 100 and all(probe.question.endswith(" is") for probe in finish)
        for probe in finish:
            assert probe.question == (
                f"[{task.name}] The {relations()[probe.fact.relation].noun} of {probe.fact.subject} is"
            )
        assert all(task.name in probe.question for probe in task.probes)


def test_items_are_in_other_wordings_than_probes(stream):
    for task in stream.tasks:
        asked = {probe.question for probe in task.probes}
        items = [item.question for item in task.document.items]
        assert len(items) == 400 == len(set(items)) and not asked & set(items)
        assert [item.answer for item in task.document.items[::2]] == [probe.fact.value for probe in task.probes]
        assert not any(item.startswith("[") for item in items) and all(task.name in item for item in items)


def test_a_probe_that_is_a_question_is_in_a_held_out_wording(stream):
    """Within the frame that says the date, which may be a taught one."""
    questions = [probe for probe in stream.tasks[1].probes if not probe.question.startswith("[")]
    assert len(questions) == 100
    for probe in questions:
        relation, s = relations()[probe.fact.relation], probe.fact.subject
        own = (*relation.questions[:-2], *relation.past_questions[:-1])
        taught = [template.format(s=s, v="", n=relation.noun).rstrip("?").lower() for template in own]
        frames = ("as of 2020, {}?", "in 2020, {}?", "{} in 2020?", "as things stood in 2020, {}?")
        assert probe.question.lower() not in {frame.format(inner) for frame in frames for inner in taught}, probe


def test_limit_sizes_the_stream_and_facts_says_otherwise():
    small = make("temporal", Options(limit=8))
    assert [len(task.probes) for task in small.tasks] == [8] * 4
    assert len(small.tasks[0].document.items) == 16
    assert [sum(probe.kind == "changed" for probe in task.probes) for task in small.tasks] == [0, 2, 2, 2]
    large, cut = make("temporal", Options(facts=30)), make("temporal", Options(facts=30, limit=8))
    assert [task.document for task in cut.tasks] == [task.document for task in large.tasks]
    for task, whole in zip(cut.tasks, large.tasks, strict=True):
        assert task.probes == whole.probes[:8]  # the same facts in every period
