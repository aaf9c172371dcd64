"""Questions about a document from the keyboard or a pipe, each with its answer. Ends at a probes file in the home."""

import hashlib
import json
import sys
from pathlib import Path

from accrete.cli.session import Session
from accrete.errors import DocumentError, UsageError

NAME_A_FILE = 'name a file of {"question": "...", "answer": "..."} lines with --probes'


def questions_about(document: Path, session: Session) -> Path:
    """The probes that lie beside the document, else what is typed or piped in, kept as a file of the home.

    Raises DocumentError for a document that cannot be learned, before anything is asked, and UsageError where nothing
    comes in or a question has no answer.
    """
    from accrete.data.documents import find_documents, read_document
    from accrete.evaluate.streams.documents import PROBES
    from accrete.files import write_text

    for file in find_documents(document).documents:
        read_document(file)
    beside = (document if document.is_dir() else document.parent) / PROBES
    if beside.is_file():
        print(f"questions: {beside}", file=sys.stderr)
        return beside
    text = _typed() if sys.stdin.isatty() else _piped()
    path = session.home_directory() / "comparisons" / f"typed-{hashlib.sha256(text.encode()).hexdigest()[:10]}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    print(f"the questions are kept: --probes {path} asks them again", file=sys.stderr)
    return path


def _typed() -> str:
    """From a terminal: a question, then its answer, until a question is empty. What will not do is asked again."""
    print("Questions about the document, each with its answer; an empty question ends.", file=sys.stderr)
    rows: list[dict[str, str]] = []
    while question := _line(f"question {len(rows) + 1}: ", may_be_empty=True):
        if any(row["question"] == question for row in rows):
            print("That was asked already; type another, or nothing to end.", file=sys.stderr)
            continue
        if not (answer := _line("   answer: ")):
            break  # the input ended: half a question is none
        rows.append({"question": question, "answer": answer})
    if not rows:
        raise UsageError(f"Nothing to ask: type a question and its answer, or {NAME_A_FILE}.")
    return _lines(rows)


def _line(prompt: str, may_be_empty: bool = False) -> str:
    """A line that was typed, without the blanks around it; empty where the input ends. Asks again for what is no text."""
    while True:
        print(prompt, end="", file=sys.stderr, flush=True)  # results alone go to stdout
        try:
            line = sys.stdin.readline()
        except UnicodeDecodeError:
            print("\nThat is no text; once more.", file=sys.stderr)
            continue
        if not line:
            print(file=sys.stderr)
            return ""
        text = line.strip()
        if not _is_text(text):
            print("That holds characters that are no text; once more.", file=sys.stderr)
        elif text or may_be_empty:
            return text
        else:
            print("A question needs its answer.", file=sys.stderr)


def _piped() -> str:
    """From a pipe: lines that are questions and answers by turns, up to an empty line; or a probes file as it is."""
    try:
        lines = [line.strip() for line in sys.stdin]
    except UnicodeDecodeError:
        raise DocumentError("What was piped in is not UTF-8 text.") from None
    begun = next((number for number, line in enumerate(lines) if line), len(lines))
    if begun < len(lines) and lines[begun].startswith("{"):
        return "".join(f"{line}\n" for line in lines)
    end = next((number for number in range(begun, len(lines)) if not lines[number]), len(lines))
    told = lines[begun:end]
    if not told:
        raise UsageError(f"Nothing to ask: type questions and answers, pipe them in by turns, or {NAME_A_FILE}.")
    if wrong := next((number for number, line in enumerate(told, begun + 1) if not _is_text(line)), None):
        raise DocumentError(f"Line {wrong} of what was piped in holds characters that are no text.")
    if len(told) % 2:
        raise UsageError(
            f'Line {end} of what was piped in, "{told[-1][:60]}", is a question without an answer: they go by turns, a line'
            " each."
        )
    return _lines([{"question": q, "answer": a} for q, a in zip(told[::2], told[1::2], strict=True)])


def _is_text(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _lines(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
