"""Any documents with questions: which document a question belongs to, what is studied, what is shown."""

import json

import pytest

from accrete.errors import DocumentError, UsageError
from accrete.evaluate.streams import Options, make

TEXTS = {
    "b-travel.txt": "Travel is approved by Ines Holm.",
    "a-leave.md": "Leave lasts thirty days.",
    "c.txt": "Nothing.",
}


def lay(folder, probes, texts=TEXTS, name="probes.jsonl"):
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in probes]
    (folder / name).write_text("".join(line + "\n" for line in lines))
    return folder


def load(folder, **options):
    return make("documents", Options(data=folder, **options))


def asked(stream):
    return {task.name: [probe.question for probe in task.probes] for task in stream.tasks}


def test_a_task_a_document_in_the_order_of_names(tmp_path):
    probes = [
        {"question": "Who approves?", "answer": "Ines Holm"},
        {"question": "How long?", "answers": ["30 days", "thirty days"]},
        {"question": "What else?", "answer": "cannot be found"},
    ]
    stream = load(lay(tmp_path, probes))
    assert asked(stream) == {"a-leave.md": ["How long?"], "b-travel.txt": ["Who approves?"], "c.txt": ["What else?"]}
    first = stream.tasks[0]
    assert list(asked(stream)) == sorted(asked(stream)) and first.document.text == TEXTS["a-leave.md"]
    assert first.probes[0].answers == ("30 days", "thirty days") and first.probes[0].context == TEXTS["a-leave.md"]
    assert stream == load(tmp_path)


@pytest.mark.parametrize("name", ["c.txt", "c"])
def test_a_question_may_name_its_document(tmp_path, name):
    stream = load(lay(tmp_path, [{"question": "Who?", "answer": "Ines Holm", "document": name}]))
    assert asked(stream) == {"c.txt": ["Who?"]}
    assert stream.about["left out"] == ["a-leave.md", "b-travel.txt"]  # nobody asks about them


def test_names_in_folders(tmp_path):
    texts = {"x/note.txt": "One.", "y/note.txt": "Two.", "y/note.md": "Three."}
    for name, complaint in (
        ("note.txt", "several documents"),
        ("y/note", "several documents"),
        ("y/note.tx", "Did you mean"),
    ):
        with pytest.raises(DocumentError, match=f"probes.jsonl, line 1: .*{complaint}"):
            load(lay(tmp_path, [{"question": "Q?", "answer": "A", "document": name}], texts))
    assert asked(load(lay(tmp_path, [{"question": "Q?", "answer": "A", "document": "y/note.txt"}]))) == {
        "y/note.txt": ["Q?"]
    }


def test_its_context_finds_a_document_before_its_answer_does(tmp_path):
    row = {"question": "Who?", "answer": "thirty days", "context": "approved by  Ines HOLM"}
    (task,) = load(lay(tmp_path, [row])).tasks
    assert task.name == "b-travel.txt" and task.probes[0].context == row["context"]


def test_an_answer_is_found_as_words_and_not_inside_of_one(tmp_path):
    stream = load(lay(tmp_path, [{"question": "Q?", "answer": "art"}], {"a.txt": "A party.", "b.txt": "Fine art!"}))
    assert list(asked(stream)) == ["b.txt"]


def test_study_items_beside_a_text(tmp_path):
    items = '{"question": "Approver?", "answer": "Ines Holm"}\n{"question": "who approves", "answer": "Ines Holm"}\n'
    texts = {**TEXTS, "b-travel.jsonl": items, "d.jsonl": '{"question": "Own?", "answer": "Yes"}\n'}
    stream = load(lay(tmp_path, [{"question": "Who approves?", "answer": "Ines Holm"},
                                 {"question": "Else?", "answer": "None", "document": "d"}], texts))  # fmt: skip
    travel, alone = stream.tasks
    assert [item.question for item in travel.document.items] == ["Approver?"]  # the other is what is asked
    assert travel.document.text == TEXTS["b-travel.txt"] and stream.about["items that a probe asks"] == 1
    assert (alone.name, alone.document.text, len(alone.document.items)) == ("d.jsonl", "", 1)


def test_a_jsonl_of_texts_is_a_document_of_its_own(tmp_path):
    stream = load(
        lay(tmp_path, [{"question": "Q?", "answer": "Gamma"}], {"a.txt": "Alpha", "a.jsonl": '{"text": "Gamma"}\n'})
    )
    assert asked(stream) == {"a.jsonl": ["Q?"]}


def test_a_single_file_and_named_probes(tmp_path):
    lay(tmp_path, [{"question": "Q?", "answer": "anything"}], name="mine.jsonl")
    stream = make("documents", Options(data=tmp_path / "c.txt", probes=tmp_path / "mine.jsonl"))
    assert asked(stream) == {"c.txt": ["Q?"]}
    inside = make("documents", Options(data=tmp_path, probes=tmp_path / "mine.jsonl"))
    assert "mine.jsonl" not in [*asked(inside), *inside.about["left out"]]


def test_the_passage_of_a_long_document_is_its_paragraph(tmp_path):
    filler = "\n\n".join(f"Paragraph {number} says nothing at all about it." * 5 for number in range(20))
    text = f"{filler}\n\nThe gate opens at seven for visitors.\n\nSeven swans.\n\n{filler}"
    stream = load(lay(tmp_path, [{"question": "When does the gate open?", "answer": "seven"}], {"long.txt": text}))
    assert stream.tasks[0].probes[0].context == "The gate opens at seven for visitors."
    unbroken = " ".join(["word"] * 2_000 + ["the gate opens at seven"] + ["word"] * 2_000)
    (tmp_path / "long.txt").write_text(unbroken)
    context = load(tmp_path).tasks[0].probes[0].context
    assert "opens at seven" in context and len(context) <= 1_200


def test_limit_and_lessons(tmp_path):
    probes = [
        {"question": f"Q{n} {name}?", "answer": "x", "document": name} for n in range(4) for name in ("a-leave", "c")
    ]
    lay(tmp_path, probes)
    assert {name: len(found) for name, found in asked(load(tmp_path, limit=3)).items()} == {"a-leave.md": 2, "c.txt": 1}
    assert list(asked(load(tmp_path, limit=1))) == ["a-leave.md"]
    assert list(asked(load(tmp_path, lessons=1))) == ["a-leave.md"]


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (['{"question": "Q?"', ""], "line 1 is not valid JSON"),
        ([{"question": "Q?", "answer": "A"}, {"question": "Q?"}], 'line 2: "answer" is missing'),
        ([{"answer": "A"}], 'line 1: "question" is missing'),
        ([{"question": "Q?", "answers": "A"}], 'line 1: "answers" is missing or is no list'),
        ([{"question": "Q?", "answers": ["A", ""]}], 'line 1: "answers" is missing or is no text'),
        ([{"question": "Q?", "answer": "A", "document": 3}], 'line 1: "document" is missing or is no text'),
        (["[]"], "line 1 is no object"),
        ([""], "holds no questions"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, rows, complaint):
    with pytest.raises(DocumentError, match=f"probes.jsonl.*{complaint}"):
        load(lay(tmp_path, rows))


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(UsageError, match="--data"):
        make("documents", Options())
    with pytest.raises(DocumentError, match="no file or folder"):
        load(tmp_path / "nowhere")
    (tmp_path / "a.txt").write_text("Text.")
    with pytest.raises(DocumentError, match=r"probes.jsonl of questions; name one with --probes"):
        load(tmp_path)
    (tmp_path / "a.txt").rename(tmp_path / "probes.jsonl")
    with pytest.raises(DocumentError, match="no document in"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("What is it? It is blue.", "line 2 is not valid JSON"),
        ("[1, 2]", "line 2 is no object"),
        ({"question": "Who?"}, 'line 2: "answer" is missing'),
        ({"answer": "Ines Holm"}, 'line 2: "question" is missing'),
        ({"question": "Who?", "answers": "Ines Holm"}, 'line 2: "answers" is missing or is no list'),
    ],
)
def test_a_file_of_another_form_is_told_what_form_it_should_have(tmp_path, row, problem):
    lay(tmp_path, [{"question": "Who approves?", "answer": "Ines Holm"}, row])
    with pytest.raises(DocumentError) as raised:
        load(tmp_path)
    said = str(raised.value)
    assert "probes.jsonl" in said and problem in said
    assert '{"question": "...", "answer": "..."}' in said and '"answers": [...]' in said and ".csv" in said


def test_a_wrong_name_is_not_a_wrong_form(tmp_path):
    with pytest.raises(DocumentError) as raised:
        load(lay(tmp_path, [{"question": "Who?", "answer": "Ines Holm", "document": "no.txt"}]))
    assert "Such a file has" not in str(raised.value)
