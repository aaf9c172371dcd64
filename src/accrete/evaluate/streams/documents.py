"""Any documents with a file of questions about them: what a person has, measured like a benchmark.

`data` is a file, or a folder of files that are learned one by one in the order of their names; `probes`, or a probes.jsonl in
that folder, holds lines of {"question", "answer" or "answers"[, "document"][, "context"]}. A .jsonl of study items beside a
text of the same stem is that text's; items that ask just what a probe asks are left out. A probe belongs to the document that
it names (by file name, with its folder or without its suffix, as it likes); one that names none belongs to the first whose
text holds its context, else to the first whose text holds an answer, else to the last. Its passage for the ceiling is its
context, else the paragraph that holds an answer and shares most words with the question, and all of a short document. A
document that nobody asks about is left out.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from accrete.data.documents import find_documents, read_document
from accrete.errors import DocumentError, UsageError, did_you_mean
from accrete.evaluate.streams import Options, Stream, Task
from accrete.evaluate.streams._limits import drawn, evenly
from accrete.evaluate.streams._rows import objects, shown, text_of, texts_of
from accrete.scoring import normalise
from accrete.types import Document, Probe

PROBES = "probes.jsonl"
FORMAT = (
    'Such a file has a line for every question: {"question": "...", "answer": "..."}, or "answers": [...], and where they help'
    ' "document" (its name) and "context"; .json (a list of these), .csv and .tsv (with such columns) are read too.'
)
OPTIONS = {
    "lessons": "documents, the first so many [all]",
    "limit": "questions in all [all]",
    "data": "a document, or a folder of them",
    "probes": 'a file of {"question": "...", "answer": "..."} lines, or a .json, .csv or .tsv [probes.jsonl in that folder]',
}
SHORT = 1_200  # characters: a document to be shown whole
_BLANK = re.compile(r"\n\s*\n")


def make(options: Options) -> Stream:
    """A task a document. `lessons` takes the first so many, `limit` spreads the questions over them."""
    if options.data is None:
        raise UsageError('The stream "documents" needs --data: a document, or a folder of them.')
    if not options.data.exists():
        raise DocumentError(f"There is no file or folder {shown(options.data)}.")
    folder = options.data if options.data.is_dir() else options.data.parent
    asked = options.probes or folder / PROBES
    if not asked.exists():
        raise DocumentError(f"There is no file {shown(asked)} of questions; name one with --probes.")
    documents = _documents(options.data, asked)
    piles = _assigned(documents, asked)
    studied = [_unasked(document, pile) for document, pile in zip(documents, piles, strict=True)]
    learned = [(document, pile) for document, pile in zip(studied, piles, strict=True) if pile][: options.lessons]
    shares = evenly(options.limit, [len(pile) for _, pile in learned])
    tasks = [
        Task(document.name, document, tuple(drawn(pile, share, f"{options.seed}:{document.name}")))
        for (document, pile), share in zip(learned, shares, strict=True)
        if share
    ]
    about = {
        "documents": [task.name for task in tasks],
        "left out": [document.name for document in documents if document.name not in {task.name for task in tasks}],
        "items that a probe asks": sum(len(d.items) for d in documents) - sum(len(d.items) for d in studied),
    }
    return Stream("documents", tuple(tasks), score="grade", about=about)


# --- documents ------------------------------------------------------------------------------------------------------


def _documents(data: Path, asked: Path) -> list[Document]:
    """Every document but the questions, named by its place in the folder, with the study items beside it."""
    files = [file for file in find_documents(data).documents if file.resolve() != asked.resolve()]
    found: dict[Path, Document] = {}
    for file in sorted(files, key=lambda file: file.suffix.lower() == ".jsonl"):  # texts first
        document = read_document(file)
        name = file.relative_to(data).as_posix() if data.is_dir() else file.name
        text = next((other for other in found if other.with_suffix("") == file.with_suffix("")), None)
        if text and document.items and not document.text:
            found[text] = replace(found[text], items=(*found[text].items, *document.items))
        else:
            found[file] = replace(document, name=name.encode("utf-8", "replace").decode())
    if not found:
        raise DocumentError(f"There is no document in {shown(data)} besides the questions.")
    return [found[file] for file in sorted(found, key=lambda file: file.parts)]


def _unasked(document: Document, probes: Sequence[Probe]) -> Document:
    """The document without the study items that ask just what a probe asks."""
    asked = {normalise(probe.question) for probe in probes}
    return replace(document, items=tuple(item for item in document.items if normalise(item.question) not in asked))


# --- probes ---------------------------------------------------------------------------------------------------------


def _assigned(documents: Sequence[Document], path: Path) -> list[list[Probe]]:
    """The probes of the file, a pile a document."""
    piles: list[list[Probe]] = [[] for _ in documents]
    texts = [f" {normalise(document.text)} " for document in documents]
    for asked in _rows(path):
        number = _named(asked, documents)
        if number is None:
            number = _holder(texts, (asked.context,)) if asked.context else None
            number = _holder(texts, asked.answers) if number is None else number
            number = len(documents) - 1 if number is None else number
        passage = asked.context or _passage(documents[number].text, asked.question, asked.answers)
        piles[number].append(Probe(asked.question, asked.answers, passage))
    return piles


@dataclass(frozen=True)
class _Asked:
    """A row of the file; `document` and `context` are empty where it has none, `where` is its place for messages."""

    question: str
    answers: tuple[str, ...]
    document: str
    context: str
    where: str


def _rows(path: Path) -> list[_Asked]:
    """The rows of the file; DocumentError for one that is no question says what such a file holds."""
    try:
        found = [
            _Asked(
                text_of(row, "question", where),
                texts_of(row, "answers", where) if row.get("answers") else (text_of(row, "answer", where),),
                text_of(row, "document", where, default=""),
                text_of(row, "context", where, default=""),
                where,
            )
            for row, where in objects(path)
        ]
    except DocumentError as error:
        raise DocumentError(f"{error} {FORMAT}") from None
    if not found:
        raise DocumentError(f"{shown(path)} holds no questions. {FORMAT}")
    return found


def _named(asked: _Asked, documents: Sequence[Document]) -> int | None:
    """The number of the document that a probe names, if it names one."""
    name, where = asked.document, asked.where
    if not name:
        return None
    for names in zip(*(_names(document) for document in documents), strict=True):
        if names.count(name) == 1:
            return names.index(name)
        if name in names:
            raise DocumentError(f'{where}: there are several documents "{name}"; name the folder and the suffix too.')
    raise DocumentError(f'{where}: there is no document "{name}".{did_you_mean(name, (d.name for d in documents))}')


def _names(document: Document) -> tuple[str, ...]:
    """How it may be called, the most exact first."""
    path = Path(document.name)
    return document.name, path.name, path.with_suffix("").as_posix(), path.stem


def _holder(texts: Sequence[str], wanted: Iterable[str]) -> int | None:
    """The first of the normalised texts that holds one of these, on word boundaries."""
    spans = [f" {span} " for one in wanted if (span := normalise(one))]
    return next((number for number, text in enumerate(texts) if any(span in text for span in spans)), None)


def _passage(text: str, question: str, answers: Sequence[str]) -> str:
    """What of the document answers the question, as far as words can tell."""
    if len(text) <= SHORT:
        return text
    words = set(normalise(question).split())
    paragraphs = [piece for paragraph in _BLANK.split(text) for piece in textwrap.wrap(paragraph, SHORT)]
    said = [f" {normalise(paragraph)} " for paragraph in paragraphs]
    best = max(
        range(len(paragraphs)),
        key=lambda i: (_holder([said[i]], answers) is not None, len(words & set(said[i].split())), -i),
    )
    return paragraphs[best]
