"""The stream of new entities: held-out wordings, unambiguous reverse questions, an even limit."""

from collections import Counter

import pytest

from accrete.data.world import World, relations
from accrete.evaluate.streams import Options, make
from accrete.evaluate.streams.world import SEED, strangers
from accrete.evaluate.worlds import PERSISTENT


@pytest.fixture(scope="module")
def stream():
    return make("world", Options(lessons=6, facts=12))


def probes_of(stream, kind=None):
    return [probe for task in stream.tasks for probe in task.probes if kind is None or probe.kind == kind]


def test_sizes_by_default_and_as_asked(stream):
    whole = make("world", Options())
    assert len(whole.tasks) == 12
    for made, facts, entities in ((whole, 20, 4), (stream, 12, 3)):  # 12 = 5 + 5 + 2
        for task in made.tasks:
            direct = [probe for probe in task.probes if not probe.kind]
            assert len(direct) == facts and task.document.text.count("\n\n") == entities - 1
            assert len({(probe.fact.subject, probe.fact.relation) for probe in direct}) == facts
    assert [
        len({p.fact.relation for p in task.probes}) for task in make("world", Options(facts=1, lessons=2)).tasks
    ] == [1, 1]


def test_the_seed_alone_decides():
    options = Options(lessons=3, facts=7)
    assert make("world", options) == make("world", options)
    assert make("world", options) != make("world", Options(lessons=3, facts=7, seed=1))


def test_a_passage_says_what_is_asked_and_is_of_the_document(stream):
    for task in stream.tasks:
        for probe in task.probes:
            assert probe.context in task.document.text.split("\n\n")
            assert probe.fact.subject.lower() in probe.context.lower()
            assert probe.fact.value.lower() in probe.context.lower()
            assert probe.answers == ((probe.fact.subject if probe.kind else probe.fact.value),)


def test_no_probe_is_in_a_wording_that_the_items_have(stream):
    """Not only another sentence: no item of any fact is of the probe's template."""
    studied, asked = set(), set()
    for task in stream.tasks:
        facts = {probe.fact for probe in task.probes}
        for fact in facts:
            texts = {item.question for item in task.document.items}
            relation = relations()[fact.relation]
            for number, template in enumerate((*relation.questions, *relation.reverse)):
                shown = template.format(s=fact.subject, v=fact.value, n=relation.noun)
                shown = shown[0].upper() + shown[1:]
                if shown in texts:
                    studied.add((fact.relation, number))
                if shown in {probe.question for probe in task.probes}:
                    asked.add((fact.relation, number))
    assert len(studied) > 50 and len(asked) > 50
    assert not studied & asked


def test_every_fact_is_studied_in_two_wordings(stream):
    for task in stream.tasks:
        answers = Counter((item.answer) for item in task.document.items)
        for probe in task.probes:
            assert answers[probe.answers[0]] >= 2, probe


def test_reverse_questions_have_one_answer_and_are_taught(stream):
    backwards = probes_of(stream, "reverse")
    values = Counter(probe.fact.value for probe in probes_of(stream, ""))
    assert len(backwards) > 10
    for probe in backwards:
        assert values[probe.fact.value] == 1 and relations()[probe.fact.relation].asks_who
        assert probe.fact.value in probe.question and probe.fact.subject not in probe.question
    for task in stream.tasks:
        for probe in task.probes:
            if probe.kind:
                taught = [item for item in task.document.items if probe.fact.value in item.question]
                assert len({item.question for item in taught}) == 2
                assert {item.answer for item in taught} == {probe.fact.subject}


def test_a_value_that_two_facts_share_is_not_asked_backwards(monkeypatch):
    monkeypatch.setattr(World, "_draw", lambda self, relation: "Same Person")
    assert not probes_of(make("world", Options(lessons=2, facts=10)), "reverse")


@pytest.mark.parametrize("limit", [1, 5, 13, 40, 10_000])
def test_a_limit_is_spread_over_the_tasks(limit):
    whole = make("world", Options(lessons=6, facts=10))
    cut = make("world", Options(lessons=6, facts=10, limit=limit))
    counts = [len(task.probes) for task in cut.tasks]
    assert sum(counts) == min(limit, len(probes_of(whole)))
    assert min(counts) >= 1  # a task without a probe would have no score
    if limit < 60:
        assert max(counts) - min(counts) <= 1
    if limit >= 6:
        assert [task.document for task in cut.tasks] == [task.document for task in whole.tasks]


def test_no_entity_is_one_that_the_model_knows(monkeypatch):
    known = {entity.name for entity in World(PERSISTENT[0]).entities(PERSISTENT[1])}
    world = World(SEED)
    draw = world.entity
    turns = iter([True, False] * 20)
    # Every other entity that is drawn bears a known name.
    monkeypatch.setattr(
        world, "entity", lambda *a: draw(*a) if not next(turns) else type(draw(*a))(min(known), "town", ("It", "Its"))
    )
    met = strangers(world)
    assert not {next(met).name for _ in range(10)} & known
    assert not {probe.fact.subject for probe in probes_of(make("world", Options()))} & known
