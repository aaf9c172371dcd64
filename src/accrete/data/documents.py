"""Read documents: .txt, .md and other UTF-8 text, and .jsonl of questions and answers. Ends at a Document or one sentence
that says why there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from accrete.errors import DocumentError
from accrete.types import Document, Example, Probe

LARGEST = 64 * 2**20  # bytes: more than any document that one lesson could hold


def read_document(path: str | Path) -> Document:
    """A file as a document: .jsonl lines of {"question", "answer"[, "context"]} are study items, anything else is text."""
    path = Path(path)
    text = _text(path)
    if path.suffix.lower() != ".jsonl":
        return Document(path.name, text=text, source=str(path))
    items = [
        Example(_field(row, "question", where), _field(row, "answer", where), _field(row, "context", where, default=""))
        for row, where in _rows(path, text)
    ]
    return Document(path.name, items=tuple(items), source=str(path))


def read_probes(path: str | Path) -> tuple[Probe, ...]:
    """Questions to measure with: .jsonl lines of {"question", "answer" or "answers"[, "context"]}."""
    path = Path(path)
    probes = []
    for row, where in _rows(path, _text(path)):
        answers = row.get("answers") or [_field(row, "answer", where)]
        if not isinstance(answers, list) or not all(isinstance(answer, str) and answer.strip() for answer in answers):
            raise DocumentError(f'{where}: "answers" must be a list of texts.')
        context = _field(row, "context", where, default="")
        probes.append(Probe(_field(row, "question", where), tuple(answers), context))
    return tuple(probes)


def _text(path: Path) -> str:
    """The whole file as text."""
    if path.is_dir():
        raise DocumentError(f"{path} is a directory; name the files in it.")
    try:
        if path.stat().st_size > LARGEST:
            raise DocumentError(f"{path} is larger than {LARGEST // 2**20} MB; split it.")
        raw = path.read_bytes()
    except FileNotFoundError:
        raise DocumentError(f"There is no file {path}.") from None
    except OSError as error:
        raise DocumentError(f"Cannot read {path}: {error.strerror}.") from None
    if b"\0" in raw[:65_536] and not raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DocumentError(f"{path} is a binary file, not text.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DocumentError(f"{path} is not UTF-8 text (line {line}); save it as UTF-8.") from None
    if not text.strip():
        raise DocumentError(f"{path} is empty.")
    return text


def _rows(path: Path, text: str) -> list[tuple[dict[str, Any], str]]:
    """The objects of a .jsonl file, each with the place to name when it is wrong."""
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
            json.dumps(row, ensure_ascii=False).encode()  # an escaped half of a surrogate pair is no text
        except (ValueError, RecursionError):
            raise DocumentError(f"{where} is not valid JSON.") from None
        if not isinstance(row, dict):
            raise DocumentError(f'{where} is not an object like {{"question": "...", "answer": "..."}}.')
        rows.append((row, where))
    if not rows:
        raise DocumentError(f"{path} is empty.")
    return rows


def _field(row: dict[str, Any], key: str, where: str, default: str | None = None) -> str:
    value = row.get(key, default)
    if not isinstance(value, str) or (default is None and not value.strip()):
        raise DocumentError(f'{where}: "{key}" is missing or is no text.')
    return value
