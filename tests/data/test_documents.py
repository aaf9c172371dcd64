"""Reading documents and probes: what is accepted, and one sentence for everything else."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from accrete.data import documents
from accrete.data.documents import find_documents, read_document, read_probes
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
        (
            "naïve café".encode() + b"\nna\xefve",
            "FILE is UTF-8 text with wrong bytes in it (line 2); save it as UTF-8 again.",
        ),
        (b"\xff\xfeodd", "FILE begins like UTF-16 text, but is not."),
        (b"%\x81\x8d\x8f" * 9, "FILE is in no encoding that could be told (line 1); save it as UTF-8."),
        (b"\x01\x02\x03 and so on", "FILE is a binary file, not text."),
    ],
    ids=[
        "empty",
        "blank",
        "wide",
        "BOM only",
        "BOM, blanks",
        "binary",
        "nearly UTF-8",
        "half UTF-16",
        "odd",
        "controls",
    ],
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


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "a.html", "a.pdf", "a.py", "a"])
def test_a_huge_file_is_refused_at_once(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, "", name)
    os.truncate(path, 200 * 2**20)  # takes no space on disk
    started = time.monotonic()
    assert refusal(read_document, path) == "FILE is larger than 64 MB; split it."
    assert time.monotonic() - started < 1


def test_a_pipe_and_a_device_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    for path in (tmp_path / "pipe.txt", Path("/dev/zero")):
        assert refusal(read_document, path) == "FILE is no regular file; save what it gives to a file first."


@pytest.mark.parametrize("read", READERS)
def test_a_name_no_file_can_have(read: Callable) -> None:
    with pytest.raises(DocumentError, match="no name of a file"):
        read("a\0b")


def test_a_name_of_any_bytes_is_shown_as_text(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9\n.txt"))
    path.write_text("Hello.")
    document = read_document(path)
    assert document.name == "caf\ufffd\ufffd.txt"
    document.source.encode()


# --- .jsonl of texts


def test_lines_of_text_are_one_document(tmp_path: Path) -> None:
    rows = [{"text": "One.\n", "title": "First"}, {"text": "Second\n\nTwo.", "title": "Second"}, {"text": "Three."}]
    document = read_document(write(tmp_path, "\n".join(map(json.dumps, rows))))
    assert document.text == "First\n\nOne.\n\nSecond\n\nTwo.\n\nThree."
    assert document.items == ()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (GOOD + '\n{"text": "T"}', "FILE, line 2: the file mixes study items with texts; put them into two files."),
        ('{"text": "T"}\n' + GOOD, "FILE, line 2: the file mixes study items with texts; put them into two files."),
        ('{"prompt": "P"}', 'FILE, line 1 has neither "question" and "answer" nor "text".'),
        ('{"text": " "}', 'FILE, line 1: "text" is missing or is no text.'),
        ('{"text": "T", "title": 7}', 'FILE, line 1: "title" is missing or is no text.'),
        (r'{"text": "T\u0000"}', 'FILE, line 1: "text" holds a NUL character.'),
        (r'{"question": "Q\u0000", "answer": "A"}', 'FILE, line 1: "question" holds a NUL character.'),
    ],
)
def test_records_that_are_refused(tmp_path: Path, content: str, complaint: str) -> None:
    assert refusal(read_document, write(tmp_path, content)) == complaint


def test_a_row_with_a_question_is_an_item_whatever_else_it_has(tmp_path: Path) -> None:
    line = '{"question": "Who?", "answer": "She", "text": "T", "id": 7}'
    assert read_document(write(tmp_path, line)).items == (Example("Who?", "She"),)


# --- folders


def test_the_documents_of_a_folder(tmp_path: Path) -> None:
    for name in [
        "b.txt",
        "a/z.md",
        "a/b/c.py",
        "README",
        "B.PDF",
        "empty/.keep",
        ".git/config",
        "x.png",
        "y.tar.gz",
        "w.docx",
    ]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    found = find_documents(tmp_path)
    names = [str(path.relative_to(tmp_path)) for path in found.documents]
    assert names == ["B.PDF", "README", "a/b/c.py", "a/z.md", "b.txt"]
    assert {str(path.relative_to(tmp_path)): reason for path, reason in found.left_out} == {
        ".git": "hidden",
        "empty/.keep": "hidden",
        "x.png": "an image",
        "y.tar.gz": "an archive",
        "w.docx": "a format that cannot be read yet",
    }
    assert find_documents(str(tmp_path)) == found


def test_links_are_followed_within_the_folder_only(tmp_path: Path) -> None:
    top, outside = tmp_path / "top", write(tmp_path, "secret", "outside.txt")
    (top / "below").mkdir(parents=True)
    (top / ".data").mkdir()
    for name in ("real.txt", ".data/mounted.txt"):
        (top / name).write_text("x")
    links = {"out.txt": outside, "twice.txt": top / "real.txt", "mounted.txt": top / ".data/mounted.txt"}
    links |= {"broken.txt": tmp_path / "nowhere", "circle.txt": top / "circle.txt", "up": tmp_path, "below/round": top}
    for name, target in links.items():
        (top / name).symlink_to(target)
    os.mkfifo(top / "pipe")
    found = find_documents(top)
    assert [path.name for path in found.documents] == ["mounted.txt", "real.txt"]
    assert {path.name: reason for path, reason in found.left_out} == {
        ".data": "hidden",
        "out.txt": "a link out of the folder",
        "twice.txt": "a link to a file that is here",
        "broken.txt": "a broken link",
        "circle.txt": "a broken link",
        "up": "a link to a folder",
        "round": "a link to a folder",
        "pipe": "no regular file",
    }


def test_a_folder_without_documents(tmp_path: Path) -> None:
    assert refusal(find_documents, tmp_path) == "There is no document in FILE."
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "b.png").write_bytes(b"x")
    assert refusal(find_documents, tmp_path) == "There is no document in FILE (left out: 2 × an image)."


def test_a_file_is_found_as_itself_even_when_it_is_not_there(tmp_path: Path) -> None:
    assert find_documents(tmp_path / "a.png").documents == (tmp_path / "a.png",)
