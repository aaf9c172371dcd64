"""Invented passages: three kinds of gaps, a limit that leaves them balanced, several passages a lesson."""

import json
import os
from collections import Counter

import pytest

from accrete.errors import DocumentError, UsageError
from accrete.evaluate.streams import Options, make

PASSAGES = 6


def passage(number):
    row = {"train_context": f"Passage {number}."}
    for name in ("mem", "gen", "hard_gen"):
        row[f"{name}_input"] = [f"{name} {number}-{i} begins" for i in range(2)]
        row[f"{name}_target"] = [f"{name} {number}-{i} ends" for i in range(2)]
    return row


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "fictional.jsonl"
    path.write_text("\n".join(json.dumps(passage(number)) for number in range(PASSAGES)))
    return path


def test_a_lesson_is_a_passage_with_three_kinds_of_gaps(file):
    stream = make("fictional", Options(data=file))
    assert sorted(task.document.text for task in stream.tasks) == [f"Passage {i}." for i in range(PASSAGES)]
    for task in stream.tasks:
        assert Counter(probe.kind for probe in task.probes) == {"memorised": 2, "generalised": 2, "hard": 2}
        for probe in task.probes:
            assert probe.context == task.document.text and probe.question.split()[1].split("-")[0] in task.document.text
            assert probe.answers == (probe.question.replace("begins", "ends"),)
    kinds = {probe.kind: probe.question.split()[0] for probe in stream.tasks[0].probes}
    assert kinds == {"memorised": "mem", "generalised": "gen", "hard": "hard_gen"}


def test_several_passages_a_lesson_and_a_balanced_limit(file):
    stream = make("fictional", Options(data=file, lessons=2, facts=3, limit=12))
    texts = [text for task in stream.tasks for text in task.document.text.split("\n\n")]
    assert sorted(texts) == [f"Passage {i}." for i in range(PASSAGES)]
    for task in stream.tasks:
        assert len(task.probes) == 6 and len({probe.context for probe in task.probes}) == 3
    for limit in (6, 12, 18):
        tasks = make("fictional", Options(data=file, limit=limit)).tasks
        assert set(Counter(probe.kind for task in tasks for probe in task.probes).values()) == {limit // 3}
        assert {len(task.probes) for task in tasks} == {limit // PASSAGES}


def test_the_seed_decides_and_too_much_is_refused(file):
    assert make("fictional", Options(data=file)) == make("fictional", Options(data=file))
    assert make("fictional", Options(data=file)).tasks != make("fictional", Options(data=file, seed=1)).tasks
    with pytest.raises(UsageError, match="only 6 passages"):
        make("fictional", Options(data=file, lessons=7))


def test_gaps_without_their_ends_are_named(file):
    rows = [passage(0), passage(1) | {"gen_target": ["one only"]}]
    file.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DocumentError, match=r'fictional.jsonl, line 2: "gen_input" and "gen_target"'):
        make("fictional", Options(data=file))


@pytest.mark.skipif(not os.environ.get("ACCRETE_DATA"), reason="the real file is not at hand")
def test_the_real_file():
    stream = make("fictional", Options(lessons=65))
    assert [len(task.probes) for task in stream.tasks] == [15] * 65
    memorised = [probe for task in stream.tasks for probe in task.probes if probe.kind == "memorised"]
    assert all(probe.question in probe.context and probe.answers[0] in probe.context for probe in memorised)
