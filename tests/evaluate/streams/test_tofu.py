"""TOFU: a lesson is an author, the probes are what was studied, and other knowledge is kept."""

import json
import os

import pytest

from accrete.errors import DocumentError, UsageError
from accrete.evaluate.streams import Options, make

AUTHORS, PAIRS = 12, 20


def write(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))


@pytest.fixture
def folder(tmp_path):
    pairs = [
        {"author_id": author, "question": f"Question {i} about {author}?", "answer": f"Answer {i} about {author}."}
        for author in range(AUTHORS)
        for i in range(PAIRS)
    ]
    write(tmp_path / "tofu_full.jsonl", pairs)
    write(tmp_path / "full.json", [{key: row[key] for key in ("question", "answer")} for row in pairs])
    for name in ("real_authors", "world_facts"):
        write(
            tmp_path / f"tofu_{name}.jsonl",
            [{"question": f"{name} {i}?", "option1": "x", "answer": "y"} for i in range(9)],
        )
    return tmp_path


def test_a_lesson_is_an_author_asked_what_was_studied(folder):
    stream = make("tofu", Options(data=folder))
    assert len(stream.tasks) == 10 and stream.score == "grade" and "study questions" in stream.about["probes"]
    for task in stream.tasks:
        author = task.name.split()[-1]
        assert task.document.text.split("\n\n") == [f"Answer {i} about {author}." for i in range(PAIRS)]
        studied = [(item.question, (item.answer,)) for item in task.document.items]
        assert [(probe.question, probe.answers) for probe in task.probes] == studied
        assert {probe.kind for probe in task.probes} == {"studied"}
        assert all(probe.answers[0] in probe.context and probe.context in task.document.text for probe in task.probes)
        assert max(len(probe.context.split("\n\n")) for probe in task.probes) == 5


def test_what_is_kept_is_asked_plainly(folder):
    keep = make("tofu", Options(data=folder)).keep
    assert set(keep) == {"real_authors", "world_facts"} and all(len(probes) == 9 for probes in keep.values())
    assert keep["world_facts"][0].question == "world_facts 0?" and keep["world_facts"][0].answers == ("y",)


def test_the_limit_cuts_questions_and_no_study(folder):
    stream = make("tofu", Options(data=folder, lessons=3, limit=7))
    assert sorted(len(task.probes) for task in stream.tasks) == [2, 2, 3]
    assert {len(task.document.items) for task in stream.tasks} == {PAIRS}
    assert {len(probes) for probes in stream.keep.values()} == {7}


def test_without_author_ids_every_twenty_rows_are_an_author(folder):
    told = make("tofu", Options(data=folder, seed=2))
    assert make("tofu", Options(data=folder / "full.json", seed=2)).tasks[3].probes == told.tasks[3].probes


def test_the_seed_draws_the_authors(folder):
    drawn = {tuple(task.name for task in make("tofu", Options(data=folder, lessons=2, seed=s)).tasks) for s in range(5)}
    assert len(drawn) > 1
    with pytest.raises(UsageError, match="only 12 authors"):
        make("tofu", Options(data=folder, lessons=13))


def test_a_missing_set_is_named(folder):
    (folder / "tofu_world_facts.jsonl").unlink()
    with pytest.raises(DocumentError, match=r"has (no|none of) .*world_facts"):
        make("tofu", Options(data=folder))


@pytest.mark.skipif(not os.environ.get("ACCRETE_DATA"), reason="the real files are not at hand")
def test_the_real_files():
    stream = make("tofu", Options())
    assert [len(task.probes) for task in stream.tasks] == [20] * 10
    assert {name: len(probes) for name, probes in stream.keep.items()} == {"real_authors": 100, "world_facts": 117}
