"""Cut a text into passages at sentence ends. Ends at character spans that cover the text."""

from __future__ import annotations

import re

from accrete.types import Document, Passage

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+|\n{2,}")


def chunks(document: Document, size: int = 800) -> tuple[Passage, ...]:
    """Passages of at most about `size` characters, made of whole sentences where these are not longer themselves."""
    text, passages, start, end = document.text, [], 0, 0
    for stop in [match.end() for match in _SENTENCE_END.finditer(text)] + [len(text)]:
        if stop - start > size and end > start:
            passages.append(_passage(document, start, end))
            start = end
        end = stop
    passages.append(_passage(document, start, len(text)))
    return tuple(passage for passage in passages if passage.text)


def _passage(document: Document, start: int, end: int) -> Passage:
    piece = document.text[start:end]
    start += len(piece) - len(piece.lstrip())
    return Passage(piece.strip(), document.name, start, start + len(piece.strip()))
