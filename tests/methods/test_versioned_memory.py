"""Versioned memory: slots for what is new, old and new answers side by side, forgetting; and on the embedded model."""

from __future__ import annotations

import datetime
import os

import pytest
import torch
from conftest import tiny_lm

from accrete import Document, Learner
from accrete.believing import Reason, neighbours
from accrete.errors import ForgettingError, LessonError, UsageError
from accrete.facts.statements import Statement
from accrete.store.expectations import Expectation
from accrete.types import Answer, Fact, Probe, Query

OLD = "In 2018, the mayor of Tolvane is Ada Bree. In 2018, the river of Tolvane is the Mern."
NEW = "In 2020, the mayor of Tolvane is Cy Dorn. In 2020, the river of Tolvane is the Mern."
SMALL = {"layers": (0.5,), "slots": 16, "rank": 16, "max_epochs": 80, "own": 4, "rate": 0.5, "anything": 0}


@pytest.fixture
def taught(home):
    learner = Learner(
        tiny_lm(layers=2), method="versioned_memory", home=home, config=SMALL, facts="rules", max_forgetting=1.0
    )
    learner.learn(Document("old.txt", OLD))
    return learner


def slots(learner) -> list[tuple[str, int | None]]:
    return [(one.value, one.slot) for one in learner.beliefs.graph.history("Tolvane")]


def bank(learner) -> list[torch.Tensor]:
    """Layer by layer what every slot of the bank holds."""
    adapter = learner.method.adapter
    return [mlp.table.holds(torch.arange(adapter.slots)) for mlp in adapter.mlps.values()]


def answers(learner, *questions: str) -> list[str]:
    return [learner.ask(question, max_new_tokens=12).text for question in questions]


NAMES = [f"{first}{last}" for first in ("Al", "Bo", "Ki", "Su") for last in ("dor", "fin", "kan", "lim", "mut")]
NOW, THEN, RIVER = "What is the mayor of Tolvane?", "[2018] The mayor of Tolvane is", "Name the river of Tolvane."


def test_a_new_value_gets_a_slot_and_what_is_said_again_keeps_its_own(taught):
    assert slots(taught) == [("Ada Bree", 0), ("the Mern", 1)]
    held = [values[:4] for values in bank(taught)]
    commit = taught.learn(Document("new.txt", NEW))
    assert slots(taught) == [("Ada Bree", 0), ("Cy Dorn", 2), ("the Mern", 1), ("the Mern", 1)]
    assert commit.metrics["slots_written"] == 1 and commit.metrics["facts"] == 2
    assert commit.metrics["contradictions"] == [
        'contradicts "Ada Bree" (mayor of Tolvane; old.txt, 2018): superseded from 2020'
    ]
    for before, values in zip(held, bank(taught), strict=True):
        assert torch.equal(values[:4], before) and values[4].any() and not values[6:].any()


def test_what_is_not_believed_is_kept_and_not_what_its_lesson_is_measured_by(taught):
    """Beside statements with dates, those without are ordered by the day of their file."""
    late = "The mayor of Pitholm is Cy Dorn. In 2019, the port of Pitholm is Elm."
    taught.learn(Document("late.txt", late, written="2022-05-09"))
    early = Document(
        "early.txt", "The mayor of Pitholm is Ann Bly. In 2018, the river of Pitholm is the Oss.", written="2020-03-01"
    )
    commit = taught.learn(early)
    assert "written earlier" in commit.metrics["contradictions"][0]
    river = taught.learn(Document("river.txt", "In 2018, the river of Pitholm is the Oss."))
    assert commit.metrics["tokens"] == river.metrics["tokens"]
    assert [one.value for one in taught.beliefs.graph.history("Pitholm", "mayor")] == ["Ann Bly", "Cy Dorn"]
    assert answers(taught, "What is the mayor of Pitholm?") == ["Cy Dorn"]


def test_old_and_new_are_answered_side_by_side(taught):
    taught.learn(Document("new.txt", NEW))
    assert answers(taught, NOW, THEN, RIVER) == ["Cy Dorn", "Ada Bree", "the Mern"]
    assert taught.ask(NOW, as_of="2019").text == "Ada Bree"
    assert answers(taught, "Of what or whom is Cy Dorn the mayor?") == ["Tolvane"]


def test_what_nothing_is_known_about_is_the_base_models(taught, make_lm):
    question = "Who sings in the harbour of Vonnat?"
    (base,) = Learner(make_lm(layers=2), home=taught.home).answer([Query(question)], max_new_tokens=12)
    assert answers(taught, question) == [base.text] and not taught.ask(question, max_new_tokens=12).sources
    assert taught.ask("As of 2017, what is the mayor of Tolvane?", max_new_tokens=12).sources == ()


LONG = "of which many travellers who came along the river in the good old days have told us so much"


@pytest.mark.parametrize(
    ("question", "value"),
    [
        ("[2018] The mayor of Tolvane is", "Ada Bree"),  # closed for writing alone: the old one is still read
        ("As of 2020, who is the mayor of Tolvane?", "Cy Dorn"),  # the very year of a change has the new one,
        ("As of 2019, who is the mayor of Tolvane?", "Ada Bree"),  # the year before it the old one,
        ("As of 2017, who is the mayor of Tolvane?", None),  # and a year before any none, not the newest
        (f"As of 2018, who is the mayor of Tolvane, {LONG}?", "Ada Bree"),  # a leading year counts however much follows
        (f"Who is the mayor of Tolvane, {LONG}?", "Cy Dorn"),
    ],
)
def test_the_known_traps_of_versioned_memory(taught, question, value):
    """What the published system fell into; its facts were handed in, too, and these are read from two documents.

    Its router was a softmax over one slot, which never learns; ours has nothing that is trained: it looks things up.
    """
    taught.learn(Document("new.txt", NEW))
    statements = taught.why(question, max_new_tokens=12).statements
    assert [one.value for one in statements] == ([value] if value else [])


def test_an_answer_has_its_reasons(taught):
    taught.learn(Document("new.txt", NEW))
    found = taught.why("As of 2019, what is the mayor of Tolvane?")
    assert [one.value for one in found.statements] == ["Ada Bree"] and found.date == "2019" and not found.backwards
    assert found.answer.text == "Ada Bree" and found.answer.sources[0].document == "old.txt"
    start, end = found.statements[0].start, found.statements[0].end
    assert OLD[start:end] == "In 2018, the mayor of Tolvane is Ada Bree."
    assert taught.why("Why is the sky blue?").statements == ()


def test_an_answer_differs_from_what_is_believed_or_does_not():
    one, other = (Statement(i, "Os", "mayor", value, *[None] * 15) for i, value in enumerate(("the Mern", "Cy")))
    assert not Reason(Answer("Mern"), (one,)).differs and Reason(Answer("the Shotry the Mern"), (one,)).differs
    assert Reason(Answer("Mern"), (one, one)).believed == ("the Mern",)
    assert not Reason(Answer("Cy and the Mern"), (one, other)).differs and Reason(Answer("Cy"), (one, other)).differs
    assert (
        Reason(Answer("Cy"), (other,), backwards=True).differs
        and not Reason(Answer("Os"), (other,), backwards=True).differs
    )
    assert not Reason(Answer("anything")).differs


def test_undo_takes_beliefs_and_slots_back(taught):
    before, digest = slots(taught), taught.digest
    taught.learn(Document("new.txt", NEW))
    taught.undo()
    assert slots(taught) == before and taught.digest == digest and answers(taught, NOW) == ["Ada Bree"]


def test_another_process_finds_what_was_learned(taught, home):
    taught.learn(Document("new.txt", NEW))
    again = Learner(tiny_lm(layers=2), method="versioned_memory", home=home, config=SMALL, facts="rules")
    assert again.digest == taught.digest and slots(again) == slots(taught)
    assert answers(again, NOW, THEN) == ["Cy Dorn", "Ada Bree"]


def test_forgetting_a_document_leaves_what_others_say_too(taught):
    taught.learn(Document("new.txt", NEW))
    commit = taught.forget("old.txt")
    assert (commit.metrics["statements"], commit.metrics["slots_emptied"], commit.metrics["slots_kept"]) == (2, 1, 1)
    assert slots(taught) == [("Cy Dorn", 2), ("the Mern", 1)]
    assert answers(taught, RIVER, NOW) == ["the Mern", "Cy Dorn"] and answers(taught, THEN) != ["Ada Bree"]
    assert not any(values[:2].any() for values in bank(taught))
    taught.forget("new.txt")
    assert not any(values.any() for values in bank(taught)) and len(taught.beliefs) == 0
    taught.undo(), taught.undo()
    assert answers(taught, NOW, THEN) == ["Cy Dorn", "Ada Bree"]


def test_a_text_without_dates_holds_from_the_day_of_its_file_in_either_order(taught, tmp_path):
    """Unless --date says since when; a text with dates of its own keeps them, and what it says without one always held."""
    files = {"2019-05-03": "The mayor of Pitholm is Ann Bly. The river of Pitholm is the Oss.",
             "2022-02-01": "The mayor of Pitholm is Cy Dorn."}  # fmt: skip
    for day, text in files.items():
        (tmp_path / f"{day}.txt").write_text(text)
        noon = datetime.datetime.fromisoformat(f"{day}T12:00").timestamp()
        os.utime(tmp_path / f"{day}.txt", (noon, noon))
    spans = []
    for order in (list(files), list(files)[::-1]):
        commits = [taught.learn(tmp_path / f"{day}.txt") for day in order]
        assert [commit.metrics["facts_since_file"] for commit in commits] == order
        spans.append([(one.value, one.valid_from, one.valid_until) for one in taught.beliefs.graph.history("Pitholm")])
        taught.undo(), taught.undo()
    assert sorted(spans[0]) == sorted(spans[1]) == [
        ("Ann Bly", "2019-05-03", "2022-02-01"), ("Cy Dorn", "2022-02-01", None), ("the Oss", "2019-05-03", None)
    ]  # fmt: skip
    commit = taught.learn(tmp_path / "2019-05-03.txt", dates=["2017"])
    assert "facts_since_file" not in commit.metrics
    assert {one.valid_from for one in taught.beliefs.graph.history("Pitholm")} == {"2017"}
    (tmp_path / "mixed.txt").write_text("In 2020, the mayor of Gorm is Ann Bly. The river of Gorm is the Oss.")
    assert "facts_since_file" not in taught.learn(tmp_path / "mixed.txt").metrics
    assert [one.valid_from for one in taught.beliefs.graph.history("Gorm")] == ["2020", None]


def test_a_rejected_value_is_not_written_and_branches_are_both_read(taught):
    taught.believing.on_conflict = "reject"
    taught.learn(Document("new.txt", NEW))
    assert slots(taught) == [("Ada Bree", 0), ("the Mern", 1), ("the Mern", 1)]
    taught.undo()
    taught.believing.on_conflict = "branch"
    taught.learn(Document("new.txt", NEW))
    assert [one.value for one in taught.why(NOW).statements] == ["Ada Bree", "Cy Dorn"]


def test_a_text_that_states_nothing_and_a_full_bank_are_said_in_a_sentence(taught):
    with pytest.raises(LessonError, match="no fact was found"):
        taught.learn(Document("prose.txt", "It rained all day, and nobody came."))
    many = " ".join(f"The keeper of House {name} is Mr {name}." for name in NAMES)
    digest = taught.digest
    with pytest.raises(LessonError, match="slots are taken"):
        taught.learn(Document("many.txt", many))
    assert taught.digest == digest and len(taught.beliefs) == 1
    with pytest.raises(UsageError, match="learns facts"):
        Learner(tiny_lm(), method="versioned_memory", home=taught.home, facts="off")


def test_what_is_expected_is_guarded(taught):
    taught.expectations.add(Expectation(NOW, contains="Ada Bree"))
    with pytest.raises(ForgettingError, match="costs what is expected"):
        taught.learn(Document("new.txt", NEW))
    assert answers(taught, NOW) == ["Ada Bree"] and len(taught.beliefs) == 1
    taught.expectations.remove(NOW)
    taught.learn(Document("new.txt", NEW))
    assert answers(taught, NOW) == ["Cy Dorn"]


@pytest.mark.parametrize("method", ["full_finetune", "retrieve"])
def test_any_method_can_have_facts_and_its_neighbours_are_watched(method, home):
    learner = Learner(tiny_lm(), method=method, home=home, facts="rules", max_forgetting=1.0, study="off")
    learner.learn(Document("old.txt", OLD))
    commit = learner.learn(Document("new.txt", NEW))
    assert commit.metrics["neighbours"] > 0 and len(commit.metrics["contradictions"]) == 1
    assert [one.value for one in learner.beliefs.graph.history("Tolvane", "mayor")] == ["Ada Bree", "Cy Dorn"]
    learner.undo()
    assert [one.value for one in learner.beliefs.graph.history("Tolvane", "mayor")] == ["Ada Bree"]


def test_without_facts_a_method_keeps_none(home):
    learner = Learner(tiny_lm(), home=home, max_forgetting=1.0, study="off")
    commit = learner.learn(Document("old.txt", OLD))
    assert (
        "facts" not in commit.metrics and not learner.beliefs and "beliefs" not in learner.status()["method"]["parts"]
    )


@pytest.mark.slow
def test_on_the_embedded_model_it_learns_what_changed_and_keeps_what_was(embedded, home):
    from accrete.evaluate.streams import Options, make

    first, second = make("temporal", Options(facts=40, seed=7, lessons=2)).tasks
    learner = Learner(embedded, method="versioned_memory", home=home, study="off")
    floor = learner.grade(first.probes)
    for task in (first, second):
        learner.learn(task.document, dates=task.dates)
    changed = [probe for probe in second.probes if probe.kind == "changed"]
    assert floor <= 0.05 and learner.grade(first.probes) >= 0.85  # as of before, after what came later
    assert learner.grade(second.probes) >= 0.85 and learner.grade(changed) >= 0.8
    assert learner.kept(split="scored") >= 0.98
    wrong = [
        Probe(probe.question, first.probes[n].answers)
        for n, probe in enumerate(second.probes)
        if probe.kind == "changed"
    ]
    assert learner.grade(wrong) <= 0.1  # the old value is not what is said now


def test_where_several_things_are_true_all_are_said(home):
    """Branched or many by nature, forwards and backwards; a date leaves out what did not hold yet."""
    learner = Learner(
        tiny_lm(layers=2), method="versioned_memory", home=home, config=SMALL, facts="rules", on_conflict="branch"
    )
    learner.learn(Document("old.txt", OLD))
    learner.learn(Document("new.txt", NEW + " In 2020, the mayor of Pitholm is Cy Dorn."))
    assert answers(learner, NOW, THEN) == ["Ada Bree and Cy Dorn", "Ada Bree"]
    assert answers(learner, "Of what or whom is Cy Dorn the mayor?") == ["Tolvane and Pitholm"]
    found = learner.ask(NOW, max_new_tokens=12)
    assert [one.document for one in found.sources] == ["old.txt", "new.txt"]
    assert "".join(learner.stream_answer(NOW, max_new_tokens=12)) == "Ada Bree and Cy Dorn"
    third = "In 2022, the mayor of Tolvane is Su Kan."
    learner.learn(Document("third.txt", third))
    assert answers(learner, NOW, THEN) == ["Ada Bree, Cy Dorn and Su Kan", "Ada Bree"]


def test_one_of_several_does_not_end_the_others(taught):
    """ "A member of": in documents of their own and of different dates."""
    taught.learn(Document("first.txt", "In 2019, a member of the Guild is Ada Bree."))
    commit = taught.learn(Document("second.txt", "In 2021, Cy Dorn is a member of the Guild."))
    assert "contradictions" not in commit.metrics
    members = "Name the member of the Guild."
    assert answers(taught, members, f"As of 2020, {members}") == ["Ada Bree and Cy Dorn", "Ada Bree"]
    assert commit.metrics["loss_after"] < commit.metrics["loss_before"] - 1  # what was said already counts for nothing


def test_what_somebody_asks_for_is_counted_and_what_is_measured_is_not(taught):
    taught.learn(Document("new.txt", NEW))
    taught.grade([Probe(NOW, ("Cy Dorn",))])
    for question in (NOW, NOW, THEN, "Why is the sky blue?"):
        taught.ask(question, max_new_tokens=4)
    list(taught.stream_answer(NOW, max_new_tokens=4))
    taught.ask(NOW, context="The mayor is Di.", max_new_tokens=4)
    taught.usage.recall(taught.beliefs.graph)
    assert [(one.value, one.usage) for one in taught.beliefs.graph.history("Tolvane", "mayor")] == [
        ("Ada Bree", 1), ("Cy Dorn", 3)]  # fmt: skip


def test_of_what_is_equally_near_the_most_asked_for_is_checked_first(home):
    learner = Learner(tiny_lm(layers=2), method="versioned_memory", home=home, config=SMALL, facts="rules")
    graph = learner.beliefs.graph
    towns = [graph.add(Fact(name, "mayor", "Ada", "2018")) for name in NAMES]
    for one in towns:
        graph.add_question(one.id, f"Who is the mayor of {one.subject}?", one.value)
    new = graph.add(Fact("Tolvane", "mayor", "Bo", "2018"))
    learner.usage.path.parent.mkdir(parents=True)
    learner.usage.count([towns[15], towns[15], towns[17]])
    learner.usage.recall(graph)
    asked = [probe.fact.subject for probe in neighbours(graph, [new], most=4)]
    assert asked[:2] == [NAMES[15], NAMES[17]] and len(asked) == 4
