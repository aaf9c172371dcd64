"""What counts as another document, and which facts no longer hold: on streams small enough to say so by hand."""

import pytest

from accrete.evaluate import streams
from accrete.evaluate.control import BEFORE, control, related, superseded
from accrete.evaluate.streams import Options, Stream, Task
from accrete.types import Document, Example, Fact, Probe


def task(name, text, *probes, items=()):
    return Task(name, Document(name, text, items), probes)


def about(subject, value, kind="", as_of=None, until=None, relation="mayor", answers=None):
    return Probe(
        f"Who is the {relation} of {subject}?", answers or (value,), "", Fact(subject, relation, value, as_of, until),
        kind, as_of,
    )  # fmt: skip


def test_a_probe_is_related_to_what_was_said_of_its_subject_before():
    tasks = [
        task("one", "Ada is the mayor of Old Ely.", about("Old Ely", "Ada")),
        task("two", "Bo is the mayor of Ely.", about("Ely", "Bo"), about("Old Ely", "Ada"), about("Bath", "Ada")),
        task("three", "Cy.", about("Ely", "Cy"), Probe("Which?", ("Ada",)), Probe("How?", ("Dee",)), Probe("?", ("",))),
    ]
    assert related(tasks) == [[True], [True, True, False], [True, True, False, True]]  # "Ely" stands in "Old Ely"
    items = task("one", "", about("Bath", "x"), items=(Example("Who runs Bath?", "Ada"),))
    assert related([items, task("two", "", about("Bath", "y"), about("Bathe", "y"))])[1] == [True, False]


def test_only_a_fact_with_another_value_at_the_end_is_superseded():
    tasks = [
        task("2018", "", about("A", "1", "new", "2018"), about("B", "1", "new", "2018"), about("C", "1", "new", "2018")),
        task("2020", "", about("A", "2", "changed", "2020"), about("B", "1", "unchanged", "2020"),
             about("C", "2", "changed", "2020")),
        task("2022", "", about("A", "2", "unchanged", "2022"), about("B", "1", "unchanged", "2022"),
             about("C", "1", "changed", "2022")),
    ]  # fmt: skip
    assert superseded(tasks) == [[True, False, False], [False, False, True], [False] * 3]  # C came back to what it was


def test_another_spelling_supersedes_nothing_and_an_interval_decides_where_no_later_probe_does():
    tasks = [
        task("2018", "", about("A", "Ed", "new", "2018"), about("B", "x", "new", "2018", "2020"),
             about("C", "x", "new", "2018", "2030"), Probe("Now?", ("x",), as_of="2018")),
        task("2020", "", about("A", "Edward", "unchanged", "2020"), about("A", "Rome", "changed", "2020", relation="seat")),
    ]  # fmt: skip
    assert superseded(tasks) == [[False, True, False, False], [False, False]]


def test_lessons_about_other_things_are_each_others_control():
    made = streams.make("world", Options(lessons=3, facts=5))
    assert control(made, Options(lessons=3, facts=5)).of == BEFORE


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("temporal", Options(limit=6)),
        ("world", Options(lessons=1, facts=5)),
        ("identity", Options(lessons=1)),
    ],
)
def test_periods_of_the_same_things_and_single_lessons_have_a_document_of_another_seed(name, options):
    made = streams.make(name, options)
    found = control(made, options)
    assert found.of.startswith(f"{name} with seed 1") and found.task.probes
    assert set(found.task.probes) <= set(made.tasks[0].probes)
    assert found.task.document.text != made.tasks[0].document.text
    said = found.task.document.text.lower()
    assert not any(p.fact.subject.lower() in said for p in found.task.probes if p.fact)
    assert control(made, options) == found


def test_a_document_that_no_seed_changes_has_one_of_the_fictional_world(tmp_path):
    (tmp_path / "note.txt").write_text("The lighthouse of Norvik was built in 1874. Edda Kolm keeps it.")
    (tmp_path / "probes.jsonl").write_text('{"question": "Who keeps the lighthouse?", "answer": "Edda Kolm"}\n')
    options = Options(data=tmp_path)
    found = control(streams.make("documents", options), options)
    assert found.of == "the stream world: world 1" and len(found.task.probes) == 1


def test_where_nothing_can_be_told_apart_there_is_a_reason():
    stream = Stream("identity", (task("one", "Text.", Probe("Does it say?", ("",))),))
    found = control(stream, Options())
    assert found.task is None and not found.of and "no document was found" in found.reason
