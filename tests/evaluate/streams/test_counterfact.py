"""CounterFact: edits with their prompts studied and rephrased, sane rephrasings first, neighbours kept."""

import json
import os

import pytest

from accrete.errors import UsageError
from accrete.evaluate.streams import Options, make

CITIES = 8


def rows():
    for i in range(CITIES):  # rephrased by the prompt of the hills, after noise
        yield row(f"City{i}", "{} lies in", f"An old band. City{i} is located in", f"Land{i}", f"Town{i} lies in")
    for i in range(CITIES):
        yield row(f"Hill{i}", "{} is located in", f"To reach Hill{i} one goes by", f"Far{i}", f"Peak{i} lies in")


def row(subject, prompt, rephrasing, target, neighbour):
    return {
        "case_id": 1,
        "prompt": prompt.format(subject),
        "subject": subject,
        "target_new": target,
        "ground_truth": "Old",
        "rephrase_prompt": rephrasing,
        "locality_prompt": neighbour,
        "locality_ground_truth": "Old",
    }


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "edits.jsonl"
    path.write_text("\n".join(map(json.dumps, rows())))
    return path


def test_edits_with_a_paraphrase_come_first_and_without_their_noise(file):
    stream = make("counterfact", Options(data=file, lessons=2, facts=4))
    probes = [probe for task in stream.tasks for probe in task.probes]
    assert stream.about["edits"] == stream.about["edits_with_a_paraphrase"] == 8
    assert {probe.question for probe in probes if probe.kind == "rephrase"} == {
        f"City{i} is located in" for i in range(8)
    }
    assert {probe.question for probe in probes if probe.kind == "studied"} == {f"City{i} lies in" for i in range(8)}
    more = make("counterfact", Options(data=file, lessons=2, facts=8))
    assert (more.about["edits"], more.about["edits_with_a_paraphrase"]) == (16, 8)
    assert "To reach Hill0 one goes by" in {probe.question for task in more.tasks for probe in task.probes}


def test_a_lesson_states_what_it_asks(file):
    for task in make("counterfact", Options(data=file, lessons=4, facts=2)).tasks:
        assert len(task.document.items) == 2 and len(task.probes) == 4
        for item in task.document.items:
            assert f"{item.question} {item.answer}." in task.document.text.splitlines()
        for probe in task.probes:
            assert probe.context in task.document.text and probe.answers == (probe.fact.value,)
            assert probe.context.endswith(f"{probe.answers[0]}.")


def test_neighbours_of_the_edits_are_kept_unless_edited_themselves(tmp_path):
    path = tmp_path / "edits.jsonl"
    edits = [
        row("Rome", "{} lies in", "x", "Asia", "Oslo lies in"),
        row("Bonn", "{} lies in", "x", "Asia", "Rome lies in"),  # which another edit changes
        row("Bern", "{} lies in", "x", "Asia", "Oslo lies in"),  # the same again
        row(
            "Rome", "{} is in", "x", "Africa", "Kyiv lies in"
        ),  # a second edit of one subject would contradict the first
    ]
    path.write_text("\n".join(map(json.dumps, edits)))
    stream = make("counterfact", Options(data=path, lessons=1))
    assert [(probe.question, probe.answers) for probe in stream.keep["locality"]] == [("Oslo lies in", ("Old",))]
    assert stream.about["edits"] == 3


def test_the_limit_counts_questions_and_cuts_the_edits(file):
    stream = make("counterfact", Options(data=file, lessons=3, facts=4, limit=8))
    assert sorted(len(task.probes) for task in stream.tasks) == [2, 2, 4]
    assert sum(len(task.document.items) for task in stream.tasks) == 4 == len(stream.keep["locality"])
    assert [len(task.probes) for task in make("counterfact", Options(data=file, lessons=3, limit=1)).tasks] == [1]


def test_the_seed_decides_and_too_much_is_refused(file):
    assert make("counterfact", Options(data=file)) == make("counterfact", Options(data=file))
    assert make("counterfact", Options(data=file)) != make("counterfact", Options(data=file, seed=1))
    with pytest.raises(UsageError, match="only 8 edits a lesson"):
        make("counterfact", Options(data=file, lessons=2, facts=9))


@pytest.mark.skipif(not os.environ.get("ACCRETE_DATA"), reason="the real file is not at hand")
def test_the_real_file():
    stream = make("counterfact", Options())
    assert [len(task.probes) for task in stream.tasks] == [20] * 10 and stream.about["edits_with_a_paraphrase"] == 100
    assert all(probe.fact.subject in probe.question for task in stream.tasks for probe in task.probes)
    assert not any(
        ". " in probe.question.replace(probe.fact.subject, "") for task in stream.tasks for probe in task.probes
    )
    assert len(stream.keep["locality"]) > 90
