"""The lines of a job: what is cut off, damaged or out of order counts for nothing, and is written anew."""

import json

import pytest

from accrete.evaluate.record import append, keep, lines, mend


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "ant.jsonl"
    for step in (1, 2, 3):
        append(path, {"step": step, "said": "a\u2028b"})
    return path


def steps(path):
    return [line["step"] for line in lines(path)]


def test_lines_come_back_as_written(path):
    assert steps(path) == [1, 2, 3] and lines(path)[0]["said"] == "a\u2028b" and mend(path) == ""
    assert lines(path.with_name("none.jsonl")) == [] and mend(path.with_name("none.jsonl")) == ""


@pytest.mark.parametrize(
    ("tail", "left"),
    [
        ('{"step": 4, "les', [1, 2, 3]),
        ('{"step": 4}', [1, 2, 3]),  # no end of the line: it may be half a number
        ('{"step": 5}\n', [1, 2, 3]),
        ('{"step": 3}\n{"step": 4}\n', [1, 2, 3]),  # two processes wrote
        ("\x00\x00\n", [1, 2, 3]),
        ("[4]\n", [1, 2, 3]),
        ('{"step": 4}\n\n{"step": 5}\n', [1, 2, 3, 4]),
        ('{"step": "4"}\n', [1, 2, 3]),
    ],
)
def test_what_is_damaged_is_dropped_with_a_sentence_and_what_was_whole_stays(path, tail, left):
    whole = path.read_text()
    path.write_text(whole + tail)
    assert steps(path) == left
    assert mend(path) == f"line {len(left) + 1} of ant.jsonl was damaged: it is measured again from there"
    assert steps(path) == left and path.read_text().startswith(whole) and mend(path) == ""
    append(path, {"step": len(left) + 1})
    assert steps(path)[-1] == len(left) + 1


def test_a_line_damaged_in_the_middle_takes_what_follows_with_it(path):
    rows = path.read_text().split("\n")
    path.write_text("\n".join([rows[0], rows[1][:-3], *rows[2:]]))
    assert steps(path) == [1] and "line 2" in mend(path) and steps(path) == [1]


def test_the_base_is_one_line_of_step_0(tmp_path):
    path = tmp_path / "base.jsonl"
    append(path, {"step": 1})
    assert lines(path) == []
    path.write_text(json.dumps({"step": 0}) + "\n" + json.dumps({"step": 0}) + "\n")
    assert len(lines(path)) == 1 and "line 2" in mend(path) and mend(path) == ""


def test_the_first_lines_are_kept(path):
    keep(path, 2)
    assert steps(path) == [1, 2]
    keep(path, 0)
    assert path.read_bytes() == b""
    keep(path.with_name("none.jsonl"), 0)
