"""TemporalWiki's and StreamingQA's layouts, laid out small as their descriptions say."""

import gzip
import json

import pytest

from accrete.errors import DocumentError
from accrete.evaluate.streams import Options, digest, make
from accrete.evaluate.streams._written import write

CHANGED = (
    'subject,relation,object\nMarek Vold,member of sports team,FC Tarn\n"Ostby, Inc",chief executive officer,Lene Aas\n'
)
UNCHANGED = "subject,relation,object\nTarn,country,Norway\nVold,river mouth,Skagerrak\nLene Aas,occupation,lawyer\n"
DIFFSET = (
    'text\n"Ski season. Nothing about the others, but FC Tarn played."\n'
    '"Marek Vold. Marek Vold moved,\nin August, to FC Tarn."\n"Marek Vold again, FC Tarn again."\n'
)


def twiki(folder, diffset=True):
    probes = folder / "twiki_probes"
    probes.mkdir()
    for month in ("0801-0901", "0901-1001"):
        (probes / f"{month}_changed.csv").write_text(CHANGED)
        (probes / f"{month}_unchanged.csv").write_text(UNCHANGED)
    if diffset:
        (folder / "TWiki_Diffsets").mkdir()
        (folder / "TWiki_Diffsets" / "wikipedia_0809_gpt2.csv").write_text(DIFFSET)
    return folder


def load(folder, **options):
    return make("temporal", Options(data=folder, **options))


def test_temporalwiki(tmp_path):
    first, second = load(twiki(tmp_path)).tasks
    assert (first.name, second.name) == ("2021-09", "2021-10")
    assert [(p.question, p.answers, p.kind, p.as_of) for p in first.probes[:3]] == [
        ("Marek Vold member of sports team", ("FC Tarn",), "changed", "2021-09"),
        ("Ostby, Inc chief executive officer", ("Lene Aas",), "changed", "2021-09"),
        ("Tarn country", ("Norway",), "unchanged", "2021-09"),
    ]
    passage = "Marek Vold. Marek Vold moved, in August, to FC Tarn."
    assert [probe.context for probe in first.probes] == [passage, "", "", "", ""]
    assert first.document.text == passage and second.document.text == ""
    assert first.probes[0].fact.valid_from == "2021-09" and first.probes[2].fact.valid_from is None
    assert {item.answer for item in first.document.items} == {"FC Tarn", "Lene Aas"}  # what changed is taught
    assert any("September 2021" in item.question for item in first.document.items)
    assert not {item.question for item in first.document.items} & {probe.question for probe in first.probes}


@pytest.mark.parametrize("layout", ["with a Diffset", "probes alone", "nothing changed", "one passage for two"])
def test_temporalwiki_that_was_written_is_read_back(tmp_path, layout):
    """The first month's kinds, the passages that answer and those that merely name a subject, and no text at all."""
    (tmp_path / "there").mkdir()
    there = twiki(tmp_path / "there", diffset=layout in ("with a Diffset", "one passage for two"))
    if layout == "nothing changed":
        for file in there.glob("twiki_probes/*_changed.csv"):
            file.unlink()
    if layout == "one passage for two":
        told = 'text\n"Marek Vold of FC Tarn met Lene Aas, chief of Ostby, Inc, in Tarn."\n'
        (there / "TWiki_Diffsets" / "wikipedia_0809_gpt2.csv").write_text(told)
    stream = load(there)
    write(stream, tmp_path / "written")
    again = load(tmp_path / "written")
    assert again.tasks == stream.tasks and digest(again) == digest(stream)
    rows = [json.loads(line) for line in (tmp_path / "written" / "passages.jsonl").read_text("utf-8").splitlines()]
    assert {row["subject"] for row in rows if not row["text"]} <= {None}, "nothing is about nobody"


def test_a_limit_asks_about_as_many_changed_as_unchanged(tmp_path):
    cut = load(twiki(tmp_path), limit=4)
    assert [[probe.kind for probe in task.probes] for task in cut.tasks] == [["changed", "unchanged"]] * 2
    assert {i.answer for i in cut.tasks[0].document.items} == set(cut.tasks[0].probes[0].answers)
    assert len(load(tmp_path, lessons=1).tasks) == 1


def test_the_names_and_columns_of_the_authors_code(tmp_path):
    folder = tmp_path / "20240201_20240301" / "updated"
    folder.mkdir(parents=True)
    (folder / "final_updated_item.csv").write_text("subject,relation,objective\nTolva,mayor,Bo Reed\n")
    (folder / "final_updated_item.json").write_text('[["Other", "mayor", "No One"]]')
    (folder / "final_updated_id.json").write_text('[["Q1", "P6", "Q2"]]')
    (tmp_path / "wikipedia_20240201_20240301_subset.csv").write_text("id,url,title,text\n1,u,Tolva,Bo Reed of Tolva.\n")
    (task,) = load(tmp_path).tasks
    assert (task.name, task.document.text) == ("2024-03", "Bo Reed of Tolva.")
    assert [probe.answers for probe in task.probes] == [("Bo Reed",)]
    (folder / "final_updated_item.csv").unlink()
    assert load(tmp_path).tasks[0].probes[0].answers == ("No One",)


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("0801-0901_changed.csv", "subject,relation\na,b\n", r'_changed.csv, line 2: "object" is missing'),
        ("0801-0901_changed.csv", 'subject,relation,object\na,"b\nc",d\ne,,f\n', r'_changed.csv, line 4: "relation"'),
        ("0801-0901_changed.jsonl", '["a", "b"]\n', r"_changed.jsonl, line 1 is no triple"),
    ],
)
def test_a_malformed_row_is_named(tmp_path, name, text, complaint):
    (tmp_path / name).write_text(text)
    with pytest.raises(DocumentError, match=complaint):
        load(tmp_path)


def test_what_is_studied_and_shown_is_told(tmp_path):
    told = load(twiki(tmp_path)).about
    assert told["items"].startswith(
        "two plain questions about each changed triple; unchanged ones are asked, not studied"
    )
    assert told["probes with a passage"] == "1 of 10"  # without one the ceiling is the floor


def test_probes_without_a_triple_are_named(tmp_path):
    (tmp_path / "0801-0901_changed.csv").write_text("subject,relation,object\n")
    with pytest.raises(DocumentError, match="hold no triples"):
        load(tmp_path)


def asked(number, year, **other):
    return {
        "qa_id": f"eval-{number}", "question": f"Barack who said {number}?", "answers": [f"Ann {number}", "She", "She"],
        "answers_additional": ["not for scoring"], "question_ts": 1609459200, "evidence_ts": (year - 1970) * 31556952 + 86400,
        "evidence_id": f"key-{number}", "recent_or_past": "past", "written_or_generated": "written", **other,
    }  # fmt: skip


def streamingqa(folder, rows, name="streaminqa_eval.jsonl.gz"):
    with gzip.open(folder / name, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return folder


def test_streamingqa_by_the_year_of_its_evidence(tmp_path):
    streamingqa(tmp_path, [asked(1, 2019), asked(2, 2008), asked(3, 2019)])
    streamingqa(tmp_path, [asked(9, 2010)], "streaminqa_train.jsonl.gz")  # not asked where eval lies beside
    old, new = load(tmp_path).tasks
    assert (old.name, new.name) == ("2008", "2019")
    assert [(p.question, p.answers, p.kind, p.as_of) for p in new.probes] == [
        ("Barack who said 1?", ("Ann 1", "She"), "past", "2021-01-01"),
        ("Barack who said 3?", ("Ann 3", "She"), "past", "2021-01-01"),
    ]
    assert new.document.text == ""
    assert [item.answer for item in new.document.items] == ["Ann 1", "Ann 3"]
    assert new.document.items[0].question.startswith("As of ") and "2019: Barack who" in new.document.items[0].question
    assert load(tmp_path) == load(tmp_path / "streaminqa_eval.jsonl.gz")
    assert [len(task.probes) for task in load(tmp_path, limit=2).tasks] == [1, 1]


def test_streamingqa_with_its_articles(tmp_path):
    streamingqa(tmp_path, [asked(1, 2019), asked(2, 2019)])
    articles = [
        {"sorting_key": "key-1", "publication_ts": 1, "text": "Ann 1 spoke."},
        {"sorting_key": "key-7", "text": "No."},
    ]
    (tmp_path / "wmt_docs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in articles))
    told = load(tmp_path).about
    assert told["probes with a passage"] == "1 of 2" and "after the date of its evidence" in told["items"]
    (task,) = load(tmp_path).tasks
    assert [probe.context for probe in task.probes] == ["Ann 1 spoke.", ""] and task.document.text == "Ann 1 spoke."


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (asked(2, 2019, answers=[]), r'gz, line 2: "answers" is missing'),
        (asked(2, 2019, question=None), r'gz, line 2: "question" is missing'),
        (asked(2, 2019, evidence_ts="long ago"), r'gz, line 2: "evidence_ts" is missing or is no time'),
        (asked(2, 2019, question_ts=10**30), r'gz, line 2: "question_ts"'),
    ],
)
def test_a_malformed_question_is_named(tmp_path, row, complaint):
    with pytest.raises(DocumentError, match=complaint):
        load(streamingqa(tmp_path, [asked(1, 2019), row]))


def test_what_cannot_be_unpacked_is_named(tmp_path):
    streamingqa(tmp_path, [asked(number, 2019) for number in range(50)])
    file = tmp_path / "streaminqa_eval.jsonl.gz"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(DocumentError, match=r"eval.jsonl.gz is damaged"):
        load(tmp_path)
    file.write_text("no archive")
    with pytest.raises(DocumentError, match=r"eval.jsonl.gz is damaged"):
        load(tmp_path)


def test_a_folder_of_something_else(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DocumentError, match="holds no facts, passages and probes"):
        load(tmp_path)
    with pytest.raises(DocumentError, match="There is no data at"):
        load(tmp_path / "nowhere")
