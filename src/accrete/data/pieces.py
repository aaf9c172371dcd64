"""Cut a document into short passages to write questions about: whole paragraphs where they fit. Ends at spans of the text.

A paragraph stays whole because its sentences speak of one thing by turns: a piece that begins with "It" has lost what it
is about.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from accrete.data.chunks import chunks, sentences
from accrete.types import Document, Passage

MOST_SENTENCES = 12
HEADING = 12  # words; a line as short as that without an end mark belongs to what follows it
_BREAK = re.compile(r"\n[^\S\n]*\n")

Span = tuple[int, int]


def pieces(
    document: Document, size: int, measure: Callable[[str], int] = len, joined: int | None = None
) -> tuple[Passage, ...]:
    """Passages of whole paragraphs, at most `size` as `measure` counts and MOST_SENTENCES each.

    A paragraph that is larger is cut between its sentences, a sentence that is larger at words. Small paragraphs share a
    passage, as long as it is no larger than `joined` (`size` without it).
    """
    text = document.text
    found: list[Passage] = []
    held: list[Span] = []
    used = 0

    def close() -> None:
        nonlocal used
        if held:
            start, end = held[0][0], held[-1][1]
            found.append(Passage(text[start:end], document.name, start, end))
        held.clear()
        used = 0

    for paragraph in _paragraphs(text):
        costs = [measure(text[start:end]) for start, end in paragraph]
        if used + sum(costs) > (size if joined is None else joined) or len(held) + len(paragraph) > MOST_SENTENCES:
            close()
        for span, cost in zip(paragraph, costs, strict=True):
            if used + cost > size or len(held) == MOST_SENTENCES:
                close()
            if cost > size:
                found += _cut(document, span, size, measure)
            else:
                held.append(span)
                used += cost
    close()
    return tuple(found)


def sentence_texts(passage: Passage) -> list[str]:
    """The sentences of a passage that end like one: no headings, no rows of a table."""
    said = (passage.text[start:end] for start, end in sentences(passage.text))
    return [sentence for sentence in said if not _is_heading(sentence)]


def _paragraphs(text: str) -> Iterator[list[Span]]:
    """The spans of the sentences of each paragraph, a heading with what it heads."""
    paragraph: list[Span] = []
    for start, end in sentences(text):
        apart = paragraph and _BREAK.search(text, paragraph[-1][1], start)
        if apart and not all(_is_heading(text[slice(*span)]) for span in paragraph):
            yield paragraph
            paragraph = []
        paragraph.append((start, end))
    if paragraph:
        yield paragraph


def _is_heading(sentence: str) -> bool:
    ended = sentence.rstrip("\"'”’»)]*_」』")[-1:] in tuple(".!?…。！？")
    return sentence.startswith(("#", "|")) or (not ended and len(sentence.split()) <= HEADING)


def _cut(document: Document, span: Span, size: int, measure: Callable[[str], int]) -> list[Passage]:
    """The parts of a sentence that is too large."""
    start, end = span
    parts = chunks(Document(document.name, document.text[start:end]), size, measure)
    return [replace(part, start=part.start + start, end=part.end + start) for part in parts]
