"""Reading documents and probes: what is accepted, and one sentence for everything else."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from accrete.data import documents
from accrete.data.documents import read_document, read_probes
from accrete.errors import DocumentError
from accrete.types import Example, Probe

READERS = [read_document, read_probes]
GOOD = '{"question": "Who?", "answer": "She"}'


def write(tmp_path: Path, content: str | bytes, name: str = "lesson.jsonl") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(read: Callable, path: Path) -> str:
    with pytest.raises(DocumentError) as caught:
        read(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message.replace(str(path), "FILE")


def test_a_text(tmp_path: Path) -> None:
    path = write(tmp_path, "Ängström.\n", "notes.md")
    document = read_document(str(path))
    assert (document.name, document.text, document.items) == ("notes.md", "Ängström.\n", ())
    assert document.source == str(path)


def test_study_items(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + "\n\n" + '{"question": "Où?", "answer": "Là\u2028", "context": "C"}', "a.JSONL")
    document = read_document(path)
    assert document.items == (Example("Who?", "She"), Example("Où?", "Là\u2028", "C"))
    assert document.text == ""


def test_probes(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + '\n{"question": "Où?", "answers": ["Ici", "Là"], "context": "C"}\n')
    assert read_probes(path) == (Probe("Who?", ("She",)), Probe("Où?", ("Ici", "Là"), "C"))


@pytest.mark.parametrize("read", READERS)
def test_a_bom_and_windows_line_ends_are_accepted(tmp_path: Path, read: Callable) -> None:
    plain = read(write(tmp_path, f"{GOOD}\n{GOOD}\n"))
    windows = read(write(tmp_path, b"\xef\xbb\xbf" + f"{GOOD}\r\n{GOOD}\r\n\r\n".encode()))
    assert windows == plain


def test_a_bom_is_no_part_of_a_text(tmp_path: Path) -> None:
    assert read_document(write(tmp_path, b"\xef\xbb\xbfHello.\r\n", "a.txt")).text.startswith("Hello.")


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "FILE is empty."),
        (" \n\t\r\n ", "FILE is empty."),
        ("\u00a0\u2003\n", "FILE is empty."),
        (b"\xef\xbb\xbf", "FILE is empty."),
        (b"\xef\xbb\xbf \n", "FILE is empty."),
        (b"PK\x03\x04\0\0\0", "FILE is a binary file, not text."),
        ("one\ntwo\ncafé".encode("latin-1"), "FILE is not UTF-8 text (line 3); save it as UTF-8."),
        ("Hello".encode("utf-16"), "FILE is not UTF-8 text (line 1); save it as UTF-8."),
    ],
    ids=["empty", "blank", "wide blanks", "BOM only", "BOM and blanks", "binary", "latin-1", "utf-16"],
)
@pytest.mark.parametrize("name", ["lesson.jsonl", "lesson.txt"])
def test_no_text(tmp_path: Path, read: Callable, name: str, content: str | bytes, complaint: str) -> None:
    assert refusal(read, write(tmp_path, content, name)) == complaint


@pytest.mark.parametrize("read", READERS)
def test_no_file(tmp_path: Path, read: Callable) -> None:
    assert refusal(read, tmp_path / "nowhere.txt") == "There is no file FILE."
    assert refusal(read, tmp_path) == "FILE is a directory; name the files in it."
    assert "Cannot read FILE" in refusal(read, write(tmp_path, "x", "file") / "below")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    path.chmod(0)
    assert refusal(read_document, path) == "Cannot read FILE: Permission denied."


def test_a_file_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "LARGEST", 10)
    assert read_document(write(tmp_path, "x" * 10, "a.txt")).text == "x" * 10
    assert "larger than" in refusal(read_document, write(tmp_path, "x" * 11, "a.txt"))


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"question": "Who?", ', "is not valid JSON."),
        (r'{"question": "Who? \ud83d", "answer": "She"}', "is not valid JSON."),
        ("[" * 100_000, "is not valid JSON."),
        ('["Who?", "She"]', "is not an object"),
        ("null", "is not an object"),
        ("7", "is not an object"),
        ('{"answer": "She"}', '"question" is missing or is no text.'),
        ('{"question": "Who?"}', '"answer" is missing or is no text.'),
        ('{"question": "", "answer": "She"}', '"question" is missing or is no text.'),
        ('{"question": " ", "answer": "She"}', '"question" is missing or is no text.'),
        ('{"question": ["Who?"], "answer": "She"}', '"question" is missing or is no text.'),
        ('{"question": "Who?", "answer": 7}', '"answer" is missing or is no text.'),
        ('{"question": "Who?", "answer": null}', '"answer" is missing or is no text.'),
        ('{"question": "Who?", "answer": "She", "context": 7}', '"context" is missing or is no text.'),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, read: Callable, line: str, complaint: str) -> None:
    message = refusal(read, write(tmp_path, f"{GOOD}\n\n{line}\n{GOOD}\n"))
    assert message.startswith("FILE, line 3")
    assert complaint in message


@pytest.mark.parametrize("answers", ["She", {"a": 1}, 7, ["She", 7], ["She", " "], [None]])
def test_wrong_answers_of_a_probe(tmp_path: Path, answers: object) -> None:
    line = json.dumps({"question": "Who?", "answers": answers})
    assert refusal(read_probes, write(tmp_path, line)) == 'FILE, line 1: "answers" must be a list of texts.'


def test_the_identity_is_of_the_content(tmp_path: Path) -> None:
    first, copy = write(tmp_path, "One text.", "a.txt"), write(tmp_path, "One text.", "b.txt")
    other, items = write(tmp_path, "Another.", "c.txt"), write(tmp_path, GOOD)
    digests = [read_document(path).sha256 for path in (first, copy, other, items)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
