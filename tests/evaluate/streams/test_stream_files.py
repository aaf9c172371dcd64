"""Where a stream's files are looked for, what is wrong with them in one sentence, and how a limit is shared out."""

import gzip
import json
import lzma
import os
from pathlib import Path

import pytest

from accrete.errors import DocumentError, UsageError
from accrete.evaluate.streams import Options, _files, make, names
from accrete.evaluate.streams._limits import counted, drawn, evenly

TEXT = {"text": str}
READ_FROM_FILES = ("counterfact", "factbook", "fictional", "squad", "tofu")


@pytest.mark.parametrize("stream", READ_FROM_FILES)
def test_a_stream_without_its_data_says_how_to_name_it(stream, tmp_path, monkeypatch):
    monkeypatch.delenv("ACCRETE_DATA", raising=False)
    assert stream in names()
    with pytest.raises(DocumentError, match="--data or ACCRETE_DATA"):
        make(stream, Options())
    with pytest.raises(DocumentError, match=r"has (no|none of) eval/.*jsonl.xz"):
        make(stream, Options(data=tmp_path))
    with pytest.raises(DocumentError, match=r"no data at .*nowhere"):
        make(stream, Options(data=tmp_path / "nowhere"))


@pytest.mark.parametrize("stream", READ_FROM_FILES)
def test_a_malformed_line_is_named(stream, tmp_path):
    path = tmp_path / "rows.jsonl"
    (tmp_path / "world_factbook_documents_2020-01-01.jsonl").write_text('{"code": "x", "text": "y"}\n')
    path.write_text('\n{"no": "field"}\n')
    with pytest.raises(DocumentError, match=r'rows.jsonl, line 2: "\w+" is missing'):
        make(stream, Options(data=path))
    path.write_text('\n\n{"cut')
    with pytest.raises(DocumentError, match=r"rows.jsonl, line 3: not valid JSON"):
        make(stream, Options(data=path))


@pytest.mark.parametrize("stream", READ_FROM_FILES)
@pytest.mark.skipif(not os.environ.get("ACCRETE_DATA"), reason="the real files are not at hand")
def test_the_same_options_give_the_same_stream_of_the_real_file(stream):
    limited = make(stream, Options(limit=12, seed=3))
    assert limited == make(stream, Options(limit=12, seed=3))
    assert limited != make(stream, Options(limit=12, seed=4))
    assert 10 <= sum(len(task.probes) for task in limited.tasks) <= 12 and all(task.probes for task in limited.tasks)
    assert json.dumps(limited.about)


def test_a_name_is_found_with_and_without_its_folder_and_its_xz(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCRETE_DATA", str(tmp_path))
    for name in ("b.json", "a.jsonl", "eval/a.jsonl", "eval/a.jsonl.xz"):  # the later, the better
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
        assert _files.located(None, "eval/a.jsonl.xz", "b.json") == tmp_path / name
    assert _files.located(tmp_path / "b.json", "eval/a.jsonl.xz") == tmp_path / "b.json"


def test_all_names_are_told_that_would_do(tmp_path, monkeypatch):
    monkeypatch.delenv("ACCRETE_DATA", raising=False)
    told = "eval/squad_v1_dev_half.jsonl.xz, dev-v1.1.json, dev-v2.0.json, train-v1.1.json, train-v2.0.json"
    with pytest.raises(DocumentError, match=f"has none of {told}"):
        make("squad", Options(data=tmp_path))
    with pytest.raises(DocumentError, match=f"One of {told} is read here: .*--data"):
        make("squad", Options())
    with pytest.raises(DocumentError, match=r"has no eval/counterfact\.jsonl\.xz\."):
        make("counterfact", Options(data=tmp_path))


@pytest.mark.parametrize("stream", ["general", "identity", "temporal", "world"])
@pytest.mark.parametrize("limit", [1, 2, 5, 9, 1_000])
def test_a_limit_is_that_of_the_whole_stream(stream, limit):
    """Of questions; of facts where each is asked in every lesson."""
    made = make(stream, Options(limit=limit, facts=4, lessons=3))
    questions = [probe for task in made.tasks for probe in task.probes]
    asked = {(p.fact.subject, p.fact.relation) for p in questions} if stream == "temporal" else questions
    assert 1 <= len(asked) <= limit
    assert len(asked) == limit or limit > (4 if stream == "temporal" else 9)


def test_rows_of_lines_lists_and_packed_files_are_the_same(tmp_path):
    wanted = [{"text": "a\u2028b"}, {"text": "c"}]
    lines = "\ufeff" + "\r\n".join(json.dumps(row, ensure_ascii=False) for row in wanted) + "\n\n"
    (tmp_path / "a.jsonl").write_bytes(lines.encode())
    (tmp_path / "a.jsonl.xz").write_bytes(lzma.compress(lines.encode()))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "a.json").write_text(json.dumps(wanted, indent=1))
    assert [_files.rows(path, TEXT) for path in sorted(tmp_path.iterdir())] == [wanted] * 4


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"text": "a"}\n["text"]', "line 2: not an object"),
        (b'{"text": "a"}\n{"text": 3}', 'line 2: "text" is not a text'),
        (b'{"text": " "}', 'line 1: "text" is empty'),
        (b'{"text": "a"}\n{"text": "\xff"}', "line 2 is not UTF-8"),
        (b'{"text": "\\ud800"}', "line 1: not valid JSON"),
        (b'[{"text": "a"}, {}]', 'item 2: "text" is missing'),
        (b'[{"text": "a"},\n oops]', "line 2: not valid JSON"),
        (b"\n", "holds no rows"),
        (b"", "is empty"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(content, problem, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(DocumentError, match=f"a.jsonl.*{problem}"):
        _files.rows(path, TEXT)


def test_a_cut_off_or_missing_file_is_named(tmp_path):
    for suffix, packed in (
        (".xz", lzma.compress(b'{"text": "a"}' * 99)),
        (".gz", gzip.compress(b'{"text": "a"}' * 99)),
    ):
        for content in (packed[:-20], b"plain text", packed[:-40] + bytes(40)):
            path = tmp_path / f"a.jsonl{suffix}"
            path.write_bytes(content)
            with pytest.raises(DocumentError, match=f"a.jsonl{suffix} is damaged: it cannot be unpacked"):
                _files.rows(path, TEXT)
    with pytest.raises(DocumentError, match=r"no file .*gone.json"):
        _files.whole(Path(tmp_path / "gone.json"))


def test_a_limit_is_shared_evenly_and_wholly():
    assert evenly(None, [3, 1]) == [3, 1]
    assert evenly(7, [9, 1, 9]) == [3, 1, 3]
    assert evenly(2, [9, 9, 9]) == [1, 1, 0]
    assert evenly(99, [2, 0, 5]) == [2, 0, 5]


def test_asking_for_more_than_there_is_is_refused_and_the_default_gives_way():
    assert (counted(None, 4, 3, "things"), counted(None, 4, 9, "things"), counted(9, 4, 9, "things")) == (3, 4, 9)
    with pytest.raises(UsageError, match="only 9 things; 10"):
        counted(10, 4, 9, "things")


def test_what_is_drawn_stands_in_its_order():
    letters = "abcdefghij"
    assert drawn(letters, 10, "x") == list(letters) and drawn(letters, 4, "x") == sorted(drawn(letters, 4, "x"))
    assert len({tuple(drawn(letters, 4, str(seed))) for seed in range(9)}) > 1
