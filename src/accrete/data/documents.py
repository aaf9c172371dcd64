"""Read documents: text, Markdown, PDF, HTML, source code, .jsonl of study items or of texts, and folders of all these.
Ends at a Document, a list of files, or one sentence that says why there is none."""

from __future__ import annotations

import datetime
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accrete.data import formats
from accrete.errors import DocumentError
from accrete.types import Document, Example, Probe

LARGEST = 64 * 2**20  # bytes: more than any document that one lesson could hold


@dataclass(frozen=True)
class Found:
    """The files of a folder that may be documents, and what was left out: (path, reason)."""

    documents: tuple[Path, ...]
    left_out: tuple[tuple[Path, str], ...] = ()


def read_document(path: str | Path) -> Document:
    """A file as a document, by its suffix; a PDF is one by its first bytes as well.

    .jsonl lines of {"question", "answer"[, "context"]} are study items, lines of {"text"[, "title"]} are one text.
    Raises DocumentError for whatever is no document, larger than 64 MB, or does harm when it is unpacked.
    """
    path = Path(path)
    name, suffix = _shown(path), path.suffix.lower()
    raw = _bytes(path)
    items: tuple[Example, ...] = ()
    if suffix == ".pdf" or formats.is_pdf(raw):
        text = formats.pdf_text(raw, name)
    elif suffix in {".html", ".htm", ".xhtml"}:
        text = formats.html_text(raw, name)
    else:
        text = formats.decode(raw, name)
    if not text.strip():
        raise DocumentError(f"{name} is empty.")
    if suffix == ".jsonl" and not formats.is_pdf(raw):
        text, items = _records(name, text)
    written = datetime.date.fromtimestamp(path.stat().st_mtime).isoformat()
    return Document(_shown(Path(path.name)), text=text, items=items, source=name, written=written)


def known_as(document: str | Path | Document) -> list[str]:
    """What a document may be known by: a file by what it says, and by its name, for it may have changed since."""
    if isinstance(document, Document):
        return [document.sha256, document.name]
    if Path(document).is_file():
        return [read_document(document).sha256, Path(document).name, str(document)]
    return [str(document)]


def read_probes(path: str | Path) -> tuple[Probe, ...]:
    """Questions to measure with: .jsonl lines of {"question", "answer" or "answers"[, "context", "as_of"]}."""
    path = Path(path)
    name = _shown(path)
    probes = []
    for row, where in _rows(name, formats.decode(_bytes(path), name)):
        answers = row.get("answers") or [_field(row, "answer", where)]
        if not isinstance(answers, list) or not all(isinstance(answer, str) and answer.strip() for answer in answers):
            raise DocumentError(f'{where}: "answers" must be a list of texts.')
        context = _field(row, "context", where, default="")
        as_of = _field(row, "as_of", where, default="") or None
        probes.append(Probe(_field(row, "question", where), tuple(answers), context, as_of=as_of))
    return tuple(probes)


def find_documents(path: str | Path) -> Found:
    """The files below a folder that may be documents, in an order that stays; a file is found as itself.

    Nothing is opened. Left out are hidden files and folders, links out of the folder, and what is no document by its
    suffix. Raises DocumentError when nothing is found.
    """
    top = Path(path)
    if not _is_folder(top):
        return Found((top,))
    files: list[Path] = []
    links: list[Path] = []
    left_out: list[tuple[Path, str]] = []

    def unreadable(error: OSError) -> None:
        left_out.append((Path(error.filename), f"cannot be read: {error.strerror}"))

    for folder, below, names in os.walk(top, onerror=unreadable):
        for name in list(below):
            place = Path(folder, name)
            if name.startswith(".") or place.is_symlink():
                below.remove(name)
                left_out.append((place, "hidden" if name.startswith(".") else "a link to a folder"))
        for name in names:
            place = Path(folder, name)
            if name.startswith("."):
                left_out.append((place, "hidden"))
            elif place.is_symlink():
                links.append(place)
            elif not place.is_file():
                left_out.append((place, "no regular file"))
            elif reason := formats.WHY_NOT.get(place.suffix.lower()):
                left_out.append((place, reason))
            else:
                files.append(place)
    kept, reasons = _follow(top, files, links)
    files += kept
    left_out += reasons
    if not files:
        raise DocumentError(f"There is no document in {_shown(top)}{_counted(left_out)}.")
    return Found(tuple(sorted(files, key=lambda place: place.parts)), tuple(sorted(left_out)))


def is_code(document: Document) -> bool:
    """Whether it was read from a file of source code or settings, where every character counts."""
    return Path(document.source or document.name).suffix.lower() in formats.CODE


def _follow(top: Path, files: list[Path], links: list[Path]) -> tuple[list[Path], list[tuple[Path, str]]]:
    """The links to files that are in the folder and not found by themselves, and the others with why not."""
    root, known = top.resolve(), {file.resolve() for file in files} if links else set()
    kept: list[Path] = []
    reasons: list[tuple[Path, str]] = []
    for link in sorted(links):
        try:
            target = link.resolve(strict=True)
        except (OSError, RuntimeError):  # a circle is a RuntimeError
            reasons.append((link, "a broken link"))
            continue
        if not target.is_relative_to(root):
            reasons.append((link, "a link out of the folder"))
        elif target in known:
            reasons.append((link, "a link to a file that is here"))
        elif not target.is_file():
            reasons.append((link, "no regular file"))
        elif reason := formats.WHY_NOT.get(link.suffix.lower()):
            reasons.append((link, reason))
        else:
            known.add(target)
            kept.append(link)
    return kept, reasons


def _counted(left_out: list[tuple[Path, str]]) -> str:
    """' (left out: 2 hidden, 1 an image)'"""
    reasons = [reason for _, reason in left_out]
    counts = [f"{reasons.count(reason)} × {reason}" for reason in dict.fromkeys(reasons)]
    return f" (left out: {', '.join(counts)})" if counts else ""


def _shown(path: Path) -> str:
    """A path as text that can be printed and stored: a name on disk may be any bytes."""
    text = os.fsencode(path).decode("utf-8", "replace")
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _bytes(path: Path) -> bytes:
    """The whole file. What is no regular file (a pipe, a device) might never end and is not opened."""
    name = _shown(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise DocumentError(f"{name} is a directory; name the files in it.")
        if not stat.S_ISREG(status.st_mode):
            raise DocumentError(f"{name} is no regular file; save what it gives to a file first.")
        if status.st_size > LARGEST:
            raise DocumentError(f"{name} is larger than {LARGEST // 2**20} MB; split it.")
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)  # a file may grow, or not say how large it is
    except FileNotFoundError:
        raise DocumentError(f"There is no file {name}.") from None
    except OSError as error:
        raise DocumentError(f"Cannot read {name}: {error.strerror}.") from None
    except ValueError:
        raise DocumentError(f"Cannot read {name}: this is no name of a file.") from None
    if len(raw) > LARGEST:
        raise DocumentError(f"{name} is larger than {LARGEST // 2**20} MB; split it.")
    if not raw.strip():
        raise DocumentError(f"{name} is empty.")
    return raw


def _records(name: str, text: str) -> tuple[str, tuple[Example, ...]]:
    """The text or the study items of a .jsonl file; one of the two is empty."""
    items: list[Example] = []
    texts: list[str] = []
    for row, where in _rows(name, text):
        if "text" in row and "question" not in row:
            title = _field(row, "title", where, default="").strip()
            body = _field(row, "text", where).strip("\n")
            texts.append(f"{title}\n\n{body}" if title and not body.startswith(title) else body)
        elif "question" in row or "answer" in row:
            question, answer = _field(row, "question", where), _field(row, "answer", where)
            items.append(Example(question, answer, _field(row, "context", where, default="")))
        else:
            raise DocumentError(f'{where} has neither "question" and "answer" nor "text".')
        if items and texts:
            raise DocumentError(f"{where}: the file mixes study items with texts; put them into two files.")
    return "\n\n".join(texts), tuple(items)


def _rows(name: str, text: str) -> list[tuple[dict[str, Any], str]]:
    """The objects of a .jsonl file, each with the place to name when it is wrong."""
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            row = json.loads(line)
            json.dumps(row, ensure_ascii=False).encode()  # an escaped half of a surrogate pair is no text
        except (ValueError, RecursionError):
            raise DocumentError(f"{where} is not valid JSON.") from None
        if not isinstance(row, dict):
            raise DocumentError(f'{where} is not an object like {{"question": "...", "answer": "..."}}.')
        rows.append((row, where))
    if not rows:
        raise DocumentError(f"{name} is empty.")
    return rows


def _field(row: dict[str, Any], key: str, where: str, default: str | None = None) -> str:
    value = row.get(key, default)
    if not isinstance(value, str) or (default is None and not value.strip()):
        raise DocumentError(f'{where}: "{key}" is missing or is no text.')
    if "\0" in value:
        raise DocumentError(f'{where}: "{key}" holds a NUL character.')
    return value
