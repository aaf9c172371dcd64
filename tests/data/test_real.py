"""Real text and questions: what is held out stays out, and nothing that is measured is taught."""

from __future__ import annotations

import itertools
import json
import lzma
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accrete.data.real import Unseen, held_out, mixed, pieces_of, real_questions, real_text, rows, texts
from accrete.errors import DocumentError
from accrete.lm.tasks import ANSWER, CONTINUE, NOT_STATED
from accrete.lm.tokenizer import TURN_END, TURN_START

OUT = [f"t{i}" for i in range(2_000) if held_out(f"t{i}")]
TURN = re.compile(r"<\|im_start\|>(user|assistant)\n (.*?)<\|im_end\|>\n", re.DOTALL)


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    if path.suffix == ".xz":
        with lzma.open(path, "wt", encoding="utf-8") as file:
            file.write(text)
    else:
        path.write_text(text, "utf-8")
    return path


def words(mark: str, count: int = 400) -> str:
    return " ".join(f"{mark}{i}" for i in range(count))


# --- files, and which of their texts are held out


def test_rows_of_a_packed_file_and_of_a_plain_one(tmp_path: Path) -> None:
    lines = [{"id": "a", "text": "é"}, {"id": "b", "text": "\u2028 two\nlines"}]
    assert list(rows(write(tmp_path / "t.jsonl.xz", lines))) == lines
    assert list(rows(write(tmp_path / "t.jsonl", lines))) == lines
    (tmp_path / "t.txt").write_text("one\ntwo", "utf-8")
    assert list(rows(tmp_path / "t.txt")) == [{"text": "one\ntwo"}]


def test_text_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"nowhere\.txt"):
        list(real_text([tmp_path / "nowhere.txt"]))


def test_one_text_in_fifty_is_held_out_by_its_id() -> None:
    assert 20 <= len(OUT) <= 60
    assert OUT[:5] == ["t19", "t49", "t80", "t87", "t94"]  # for ever: another rule would teach what was measured


def test_what_is_held_out_is_never_trained_on(tmp_path: Path) -> None:
    lines = [{"id": f"t{i}", "text": words(f"w{i}x", 60)} for i in range(600)]
    path = write(tmp_path / "t.jsonl", lines)
    kept, trained = list(texts(path, kept_back=True)), list(texts(path))
    assert sorted(kept + trained) == sorted(line["text"] for line in lines)
    assert kept == [line["text"] for line in lines if line["id"] in OUT] != []
    pieces = list(real_text([path], piece=5_000))
    assert len(pieces) == len(trained)
    marks = {re.match(r"w\d+x", text)[0] for text in kept}
    assert not [piece for piece in pieces if marks & set(re.findall(r"w\d+x", piece))]


def test_what_has_no_id_is_never_held_out(tmp_path: Path) -> None:
    path = tmp_path / OUT[0]  # a plain file whose name would be held out, were it an id
    path.write_text("plain", "utf-8")
    assert (list(texts(path)), list(texts(path, kept_back=True))) == (["plain"], [])
    path = write(tmp_path / "t.jsonl", [{"text": "nameless"}])
    assert (list(texts(path)), list(texts(path, kept_back=True))) == (["nameless"], [])
    number = next(i for i in range(1_000) if held_out(str(i)))
    path = write(tmp_path / "n.jsonl", [{"id": number, "text": "numbered"}])
    assert (list(texts(path)), list(texts(path, kept_back=True))) == ([], ["numbered"])


# --- pieces


@settings(deadline=None)
@given(text=st.text(alphabet="ab é\n", max_size=1_500), size=st.integers(210, 600))
def test_pieces_are_the_text_cut_before_spaces(text: str, size: int) -> None:
    pieces, place = list(pieces_of(text, size)), 0
    assert all(len(piece) <= size for piece in pieces)
    for piece in pieces:
        found = text.find(piece, place)
        assert found >= 0  # in order, none twice
        place = found + len(piece)
        assert place == len(text) or text[place].isspace() or " " not in piece.strip()


def test_a_text_without_spaces_is_cut_where_it_must_be() -> None:
    assert list(pieces_of("x" * 1_000, 400)) == ["x" * 400, "x" * 400]  # and a tail of 200 left out
    assert list(pieces_of("x" * 1_001, 400)) == ["x" * 400, "x" * 400, "x" * 201]
    assert list(pieces_of("x" * 200, 400)) == list(pieces_of("", 400)) == []


def test_real_text_reads_jsonl_packed_and_plain(tmp_path: Path) -> None:
    said = {mark: words(mark) for mark in "pqr"}
    (tmp_path / "p.txt").write_text(said["p"], "utf-8")
    write(tmp_path / "q.jsonl", [{"text": said["q"]}])
    write(tmp_path / "r.jsonl.xz", [{"text": said["r"]}])
    paths = [tmp_path / "p.txt", tmp_path / "q.jsonl", tmp_path / "r.jsonl.xz"]
    pieces = [piece for piece in real_text(paths, piece=500) if TURN_START not in piece]
    assert all(200 < len(piece) <= 500 for piece in pieces)
    for mark, text in said.items():
        mine = sorted((piece for piece in pieces if piece.startswith(mark)), key=text.index)
        assert text.startswith(" ".join(mine))  # in order, cut between words, nothing lost but a short tail
        assert len(text) - len(" ".join(mine)) <= 201
    assert pieces != sorted(pieces)
    assert list(real_text(paths, piece=500)) == list(real_text(paths, piece=500)) != list(real_text(paths, 1, 500))


def test_a_few_pieces_are_to_be_continued(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", [{"text": words(f"w{i}x", 60)} for i in range(800)])
    drawn = list(real_text([path]))
    tasks = [document for document in drawn if TURN_START in document]
    assert 0.02 < len(tasks) / len(drawn) < 0.07
    for document in tasks:
        (_, asked), (_, reply) = TURN.findall(document)
        instruction, text = asked.split("\n\n", 1)
        assert instruction == CONTINUE
        mark = re.match(r"w\d+x", text)[0]
        assert f"{text} {reply}" == words(mark, 60)
        assert 0.2 < len(text) / len(f"{text} {reply}") < 0.6


# --- what is measured


PASSAGE = "The quick river runs past the old mill and turns its wheel every day but Sunday."
EVALUATED = [{"question": "Who built the old bridge?", "context": PASSAGE, "answers": ["Ula"]},
             {"question": "When was the mill closed for good?", "answers": ["1984"]}]  # fmt: skip


@pytest.fixture
def unseen(tmp_path: Path) -> Unseen:
    return Unseen([write(tmp_path / "evaluated.jsonl", EVALUATED)])


@pytest.mark.parametrize(
    ("text", "overlaps"),
    [
        ("Who built the old bridge?", True),
        ("Read this and say: WHO  built\nthe old bridge", True),  # whatever its capitals, spaces and marks
        ("Tell me when was the mill closed for good, please.", True),
        ("Who built the old bridges?", False),
        ("Who built the bridge?", False),
        ("", False),
        (PASSAGE, True),
        (" ".join(PASSAGE.split()[2:14]), True),  # twelve words in a row
        (" ".join(PASSAGE.split()[2:13]), False),
        (PASSAGE.lower().replace(" ", "  ").replace(".", ""), True),
    ],
)
def test_what_repeats_an_evaluation(unseen: Unseen, text: str, overlaps: bool) -> None:
    assert unseen.overlaps(text) is overlaps
    assert not Unseen([]).overlaps(text)


def question_rows(count: int, each: int = 5) -> list[dict[str, Any]]:
    return [{"doc_id": f"d{i}", "context": f"Passage {i} is about {words(f'c{i}x', 8)}.", "question": f"Question {k} of {i}?",
             "answers": [f"answer {k} of {i}", "another"]} for i in range(count) for k in range(each)]  # fmt: skip


def conversations(documents: Iterator[str]) -> list[list[tuple[str, str]]]:
    found = []
    for document in documents:
        turns = TURN.findall(document)
        assert "".join(f"<|im_start|>{who}\n {said}<|im_end|>\n" for who, said in turns) == document
        assert [who for who, _ in turns] == ["user", "assistant"] * (len(turns) // 2)
        found.append([(turns[i][1], turns[i + 1][1]) for i in range(0, len(turns), 2)])
    return found


def passage_and_turns(conversation: list[tuple[str, str]]) -> tuple[str, list[tuple[str, str]]]:
    (first, reply), *rest = conversation
    passage, question = first.removeprefix(f"{ANSWER}\n\n").split("\n\n")
    return passage, [(question, reply), *rest]


def test_questions_are_gathered_by_passage_and_some_are_put_to_another(tmp_path: Path) -> None:
    lines = question_rows(200)
    documents = list(real_questions([write(tmp_path / "q.jsonl", lines)], Unseen([])))
    truth = {(line["context"], line["question"]): line["answers"][0] for line in lines}
    asked, foreign = [], 0
    for conversation in conversations(iter(documents)):
        passage, turns = passage_and_turns(conversation)
        for question, reply in turns:
            if reply == NOT_STATED:
                foreign += 1
                assert (passage, question) not in truth and any(question == other for _, other in truth)
            else:
                assert reply == truth[passage, question]
                asked.append((passage, question))
    assert sorted(asked) == sorted(truth.keys() - {(line["context"], line["question"]) for line in lines
                                                   if held_out(line["doc_id"])})  # fmt: skip
    assert 0.08 < foreign / (foreign + len(asked)) < 0.17
    instructed = sum(ANSWER in document for document in documents)
    assert 0.4 < instructed / len(documents) < 0.6
    assert all(ANSWER in document for document in documents if f"{NOT_STATED}{TURN_END}" in document)
    assert documents == list(real_questions([tmp_path / "q.jsonl"], Unseen([])))
    assert sorted(documents) != documents


def test_questions_about_texts_that_are_held_out_are_left_out(tmp_path: Path) -> None:
    lines = [line | {"doc_id": OUT[0] if line["question"].endswith(" 3?") else "t0"} for line in question_rows(6)]
    text = "".join(real_questions([write(tmp_path / "q.jsonl", lines)], Unseen([])))
    assert "Question 0 of 2?" in text and "of 3?" not in text and "answer 0 of 3" not in text


def test_nothing_that_is_measured_is_taught(tmp_path: Path, unseen: Unseen) -> None:
    """Neither as a question of its own passage, nor as one put to another, nor as a passage, nor in a task."""
    lines = question_rows(150, each=1)
    lines += [{"doc_id": f"e{i}", "context": f"Tale {i} of nothing.", "question": EVALUATED[i % 2]["question"],
               "answers": ["Ula"]} for i in range(150)]  # fmt: skip
    lines += [{"doc_id": "e", "context": f"Once upon a time. {PASSAGE}", "question": "Who dreams?", "answers": ["Lo"]}]
    tasks = [{"prompt": f"Answer this: {EVALUATED[0]['question']}", "completion": "Ula"},
             {"prompt": "Write a question.", "completion": EVALUATED[1]["question"]},
             {"prompt": "Write a text.", "completion": PASSAGE}, {"prompt": "Say hello.", "completion": "Hello."}]  # fmt: skip
    paths = [write(tmp_path / "q.jsonl", lines), write(tmp_path / "tasks.jsonl", tasks)]
    documents = list(real_questions(paths, unseen))
    assert len(documents) > 140 and sum("Say hello." in document for document in documents) == 1
    assert not [document for document in documents if unseen.overlaps(document)]
    assert "Who dreams?" not in "".join(documents)  # its passage is gone
    assert any(unseen.overlaps(document) for document in real_questions(paths, Unseen([])))  # so there was something


def test_a_passage_is_never_said_to_be_silent_about_its_own_question(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", question_rows(1, each=400))
    assert f"{NOT_STATED}{TURN_END}" not in "".join(real_questions([path], Unseen([])))


def test_rows_too_long_or_without_an_answer_are_left_out(tmp_path: Path) -> None:
    line = question_rows(1, each=1)[0]
    lines = [line | {"context": "short"}, line | {"context": "x " * 900}, line | {"context": "mute", "answers": []}]
    tasks = [{"prompt": " p ", "completion": " c "}, {"prompt": "p", "completion": "  "},
             {"prompt": "p" * 1_700, "completion": "c"}]  # fmt: skip
    paths = [write(tmp_path / "q.jsonl", lines), write(tmp_path / "t.jsonl", tasks)]
    found = conversations(real_questions(paths, Unseen([])))
    assert len(found) == 2 and [("p", "c")] in found
    (reading,) = [conversation for conversation in found if conversation != [("p", "c")]]
    assert passage_and_turns(reading)[0] == "short"


# --- two streams


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_mixed_keeps_the_share_of_characters(share: float) -> None:
    first, second = ("a" * (50 + i % 30) for i in range(3000)), itertools.repeat("b" * 200)
    text = "".join(mixed(first, second, share))
    assert text.count("b") / len(text) == pytest.approx(share, abs=0.03)
    assert text.count("a") == sum(50 + i % 30 for i in range(3000))


def test_mixed_goes_on_when_one_runs_dry() -> None:
    assert sorted(mixed(iter(["a" * 9] * 50), iter(["b", "c"]), 0.5)) == ["a" * 9] * 50 + ["b", "c"]


def test_mixed_without_a_share_is_the_first() -> None:
    assert list(mixed(iter("abc"), iter("xyz"), 0.0)) == list("abc")
