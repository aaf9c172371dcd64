"""Dated facts as files: what is written is read back, and what is wrong is named with its line."""

import json

import pytest

from accrete.errors import DocumentError, HomeError, UsageError
from accrete.evaluate.streams import Options, make
from accrete.evaluate.streams.temporal import read, write

FACTS = [
    {"subject": "Tolva", "relation": "mayor", "value": "Ann Moss", "valid_from": "2018", "valid_until": "2020"},
    {"subject": "Tolva", "relation": "mayor", "value": "Bo Reed", "valid_from": "2020", "valid_until": None},
]


def probe(period, **other):
    value, start, end = ("Ann Moss", "2018", "2020") if period == "2018" else ("Bo Reed", "2020", None)
    return {
        "prompt": f"[{period}] The mayor of Tolva is", "ground_truth": value, "subject": "Tolva", "relation": "mayor",
        "current_value": value, "previous_value": None, "valid_from": start, "valid_until": end,
        "timestamp": period, "is_changed": period == "2020", **other,
    }  # fmt: skip


def passage(period, **other):
    return {"timestamp": period, "text": f"In {period}, Tolva had a mayor. In {period}, nothing else.", **other}


def lay(folder, **files):
    tables = {
        "facts": FACTS,
        "passages": [passage("2018"), passage("2020")],
        "probes": [probe("2018"), probe("2020")],
        **files,
    }
    for name, rows in tables.items():
        if rows is not None:
            text = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
            (folder / f"{name}.jsonl").write_text(text, "utf-8")
    return folder


@pytest.mark.parametrize("options", [{"facts": 40}, {"facts": 40, "limit": 7, "lessons": 3}])
def test_what_is_written_is_read_back(tmp_path, options):
    stream = make("temporal", Options(**options))
    write(stream, tmp_path / "new" / "folder")
    assert read(tmp_path / "new" / "folder") == stream
    assert make("temporal", Options(data=tmp_path / "new" / "folder")) == stream


def test_the_fields_of_a_probe(tmp_path):
    stream = make("temporal", Options(facts=40))
    write(stream, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "probes.jsonl").read_text("utf-8").splitlines()]
    assert set(rows[0]) == {
        "prompt", "ground_truth", "subject", "relation", "current_value", "previous_value", "valid_from", "valid_until",
        "timestamp", "is_changed",
    }  # fmt: skip
    assert len(rows) == 160
    held = {(row["subject"], row["relation"], row["timestamp"]): row["current_value"] for row in rows}
    for row in rows:
        before = held.get((row["subject"], row["relation"], str(int(row["timestamp"]) - 2)))
        assert row["ground_truth"] == row["current_value"]
        if row["is_changed"]:
            assert row["previous_value"] == before != row["current_value"] and row["valid_from"] == row["timestamp"]
        else:
            assert before in (None, row["current_value"])
            assert (row["previous_value"] is None) == (row["valid_from"] == "2018")


def test_lessons_and_limit_of_what_is_read(tmp_path):
    write(make("temporal", Options(facts=20)), tmp_path)
    cut = make("temporal", Options(data=tmp_path, lessons=2, limit=3))
    assert [(task.name, len(task.probes), len(task.document.items)) for task in cut.tasks] == [
        ("2018", 3, 40),
        ("2020", 3, 40),
    ]


def test_other_data_of_that_shape(tmp_path):
    stream = read(lay(tmp_path))
    first, second = stream.tasks
    assert (first.name, first.document.text) == ("2018", passage("2018")["text"])
    assert [(p.question, p.answers, p.kind, p.as_of) for p in second.probes] == [
        ("[2020] The mayor of Tolva is", ("Bo Reed",), "changed", "2020")
    ]
    assert second.probes[0].context == passage("2020")["text"]  # it names no subject, but speaks of it
    assert {item.answer for item in first.document.items} == {"Ann Moss"}
    assert {item.answer for item in second.document.items} == {"Bo Reed"}  # 2020 is no longer of the first
    assert len(second.document.items) == 2 and first.probes[0].kind == "new"


def test_lists_by_period(tmp_path):
    keyed = {
        "facts": FACTS,
        "passages": {"2018": ["Tolva is a town.", "Elsewhere."], "2020": ["tolva changed.", "Elsewhere."]},
        "probes": {
            "2018": {"changed": [], "unchanged": [probe("2018")]},
            "2020": {"changed": [probe("2020")], "unchanged": []},
        },
    }
    for row in (keyed["probes"]["2018"]["unchanged"][0], keyed["probes"]["2020"]["changed"][0]):
        del row["timestamp"], row["is_changed"]
    for name, content in keyed.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content, indent=1))
    first, second = read(tmp_path).tasks
    assert first.document.text == "Tolva is a town.\n\nElsewhere."
    assert (second.probes[0].kind, second.probes[0].context) == ("changed", "tolva changed.")


@pytest.mark.parametrize("name", ["facts", "passages", "probes"])
def test_a_missing_file_is_named(tmp_path, name):
    lay(tmp_path, **{name: None})
    with pytest.raises(DocumentError, match=f"no {name}.jsonl or {name}.json in"):
        make("temporal", Options(data=tmp_path))


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"probes": json.dumps(probe("2018")) + "\n\n{half"}, r"probes.jsonl, line 3 is not valid JSON"),
        ({"probes": "[1]\n"}, r"probes.jsonl, line 1 is no object"),
        ({"probes": [probe("2018"), probe("2020", prompt=" ")]}, r'probes.jsonl, line 2: "prompt" is missing'),
        ({"probes": [probe("2018", ground_truth=7)]}, r'line 1: "ground_truth" is missing or is no text'),
        ({"probes": [probe("2018", timestamp="spring")]}, r'line 1: "timestamp" is no date'),
        ({"probes": [probe("2018", timestamp=None)]}, r'line 1: "timestamp" is missing'),
        ({"probes": [probe("2018", is_changed="no")]}, r'line 1: "is_changed" is neither'),
        ({"probes": [probe("2018", timestamp="2022")]}, r"line 1 asks about 2022, for which there are no passages"),
        ({"probes": [probe("2018", timestamp="2020")]}, r"line 1: the \"timestamp\" 2020 lies outside"),
        ({"probes": [probe("2018", valid_until="2018")]}, r"line 1: \"valid_until\" \(2018\) is not after"),
        ({"probes": [probe("2018", subject="T\ud800")]}, r'line 1: "subject" holds characters that are no text'),
        ({"probes": ""}, r"probes.jsonl is empty"),
        ({"probes": "\n"}, r"probes.jsonl holds no probe"),
        ({"passages": [passage("2018"), {"timestamp": "2020"}]}, r'passages.jsonl, line 2: "text" is missing'),
        ({"passages": [passage("2018"), 3]}, r"passages.jsonl, line 2 is neither a text nor an object"),
        ({"facts": [FACTS[0], {"subject": "Tolva", "relation": "mayor"}]}, r'facts.jsonl, line 2: "value" is missing'),
        ({"items": [{"timestamp": "2018", "question": "Who?"}]}, r'items.jsonl, line 1: "answer" is missing'),
    ],
)  # fmt: skip
def test_what_is_malformed_is_named_with_its_line(tmp_path, files, complaint):
    with pytest.raises(DocumentError, match=complaint):
        make("temporal", Options(data=lay(tmp_path, **files)))


def test_broken_json_names_the_line_and_entries_their_place(tmp_path):
    lay(tmp_path, probes=None)
    (tmp_path / "probes.json").write_text('[\n{"prompt": "x",\n]')
    with pytest.raises(DocumentError, match=r"probes.json, line 3"):
        read(tmp_path)
    (tmp_path / "probes.json").write_text(json.dumps({"2018": {"unchanged": [probe("2018"), {"prompt": "x"}]}}))
    with pytest.raises(DocumentError, match=r'probes.json, "2018", "unchanged", entry 2: "subject" is missing'):
        read(tmp_path)
    (tmp_path / "probes.json").write_text('{"2018": "none"}')
    with pytest.raises(DocumentError, match=r'probes.json, "2018" is no list'):
        read(tmp_path)


def test_bytes_that_are_no_text_are_named_with_their_line(tmp_path):
    lay(tmp_path)
    with (tmp_path / "facts.jsonl").open("ab") as file:
        file.write(b"\xff\xfe\n")
    with pytest.raises(DocumentError, match=r"facts.jsonl, line 3 is not UTF-8"):
        read(tmp_path)


def test_only_dated_facts_can_be_written(tmp_path):
    with pytest.raises(UsageError, match='"identity" has no dated facts'):
        write(make("identity", Options()), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeError, match="Cannot write into"):
        write(make("temporal", Options(facts=2)), tmp_path / "file")


def test_a_period_of_which_only_the_questions_are_known_is_read_back(tmp_path):
    """TemporalWiki without its articles."""
    made = read(lay(tmp_path, passages=[passage("2018", text=""), passage("2020")]))
    assert made.tasks[0].document.text == "" and made.tasks[0].probes
    write(made, tmp_path / "again")
    assert read(tmp_path / "again").tasks == made.tasks
    (tmp_path / "none").mkdir()
    with pytest.raises(DocumentError, match=r"passages\.jsonl, line 1"):
        read(lay(tmp_path / "none", passages=[passage("2018", text=None), passage("2020")]))
