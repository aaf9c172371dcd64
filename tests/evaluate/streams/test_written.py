"""A stream as files: everything that is taught and asked is in them, and nothing of someone else's is overwritten."""

import json
from dataclasses import replace

import pytest

from accrete.errors import HomeError, UsageError
from accrete.evaluate.streams import ABSTAINED, Options, digest, make
from accrete.evaluate.streams._written import write
from accrete.types import Document, Example, Fact, Probe


def rows(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_every_lesson_probe_and_text_is_there(tmp_path):
    stream = replace(make("general", Options(lessons=2, facts=5, limit=4)), texts=("One.\nTwo\u2028.", "Ä."))
    assert write(stream, tmp_path / "new" / "folder") == ["lessons.jsonl", "probes.jsonl", "stream.json", "texts.jsonl"]
    folder = tmp_path / "new" / "folder"
    lessons, probes = rows(folder / "lessons.jsonl"), rows(folder / "probes.jsonl")
    for lesson, task in zip(lessons, stream.tasks, strict=True):
        items = tuple(Example(**item) for item in lesson["items"])
        assert Document(lesson["document"], lesson["text"], items) == task.document and lesson["name"] == task.name

    def read(row):
        fact = Fact(**row["fact"]) if row["fact"] else None
        return Probe(row["question"], tuple(row["answers"]), row["context"], fact, row["kind"], row["as_of"])

    for task in stream.tasks:
        assert tuple(read(row) for row in probes if row.get("lesson") == task.name) == task.probes
    for name, kept in stream.keep.items():
        assert tuple(read(row) for row in probes if row.get("set") == name) == kept
    assert (
        tuple(json.loads(line)["text"] for line in (folder / "texts.jsonl").read_text().split("\n")[:-1])
        == stream.texts
    )
    about = json.loads((folder / "stream.json").read_text())
    assert (about["digest"], about["score"], about["about"]) == (digest(stream), "contains", dict(stream.about))


def test_temporal_is_written_in_the_form_that_it_reads(tmp_path):
    stream = make("temporal", Options(facts=6, lessons=2))
    assert write(stream, tmp_path) == ["facts.jsonl", "items.jsonl", "passages.jsonl", "probes.jsonl"]
    assert make("temporal", Options(data=tmp_path)) == stream
    undated = replace(stream, tasks=(replace(stream.tasks[0], probes=(Probe("Q?", (ABSTAINED,)),)),))
    assert "lessons.jsonl" in write(undated, tmp_path / "undated")
    assert rows(tmp_path / "undated" / "probes.jsonl")[0]["answers"] == [""]


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "facts.jsonl").write_text("mine")
    with pytest.raises(UsageError, match="holds files already"):
        write(make("temporal", Options(facts=2)), tmp_path)
    assert (tmp_path / "facts.jsonl").read_text() == "mine"
    for name in ("temporal", "identity"):
        with pytest.raises(HomeError, match="Cannot write into"):
            write(make(name, Options(facts=2)), tmp_path / "facts.jsonl")
