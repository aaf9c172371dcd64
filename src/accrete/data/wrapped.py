"""Text that was wrapped at a width, with its sentences on one line each again. Ends at a text of the same length.

A line end is taken for a wrap where the next word would not have fitted, within a paragraph that ends as a sentence does: the
lines of lists, tables and headings lie as they please. One that ends a sentence may stay.
"""

from __future__ import annotations

import itertools
import re

NARROW = 40  # characters; nobody wraps prose at fewer
RAGGED = 10  # characters that a line may fall short of the widest, the next word included
_ENDED = re.compile(r"[.!?…][\"'”’»)\]]*\s*$")
_OWN_LINE = re.compile(r"\s*(?:[-*+•>|#]|\d{1,3}[.)]\s|[^\W\d][^:|.\n]{1,60}?[:|]\s)|\s{4,}\S|.*\|\s*$")


def unwrapped(text: str) -> str:
    """`text` with a space for each line end that is but a wrap, so that every character keeps its place."""
    lines = text.split("\n")
    widest = 0  # of the paragraph; 0 between paragraphs, and in those that are no prose
    joined = [lines[0]]
    for place, (line, below) in enumerate(itertools.pairwise(lines)):
        if not place or not lines[place - 1].strip():
            paragraph = list(itertools.takewhile(str.strip, lines[place:]))
            prose = paragraph and _ENDED.search(paragraph[-1])
            widest = max(len(one.rstrip()) for one in paragraph) if prose else 0
        joined += [" " if widest and _is_wrap(line, below, widest) else "\n", below]
    return "".join(joined)


def _is_wrap(line: str, below: str, widest: int) -> bool:
    """Whether a line of a paragraph this wide goes on in the one below."""
    if not below.strip() or _ENDED.search(line) or _OWN_LINE.match(below) or line.lstrip()[:1] in ("|", "#"):
        return False
    return len(line.rstrip()) >= NARROW and len(line.rstrip()) + 1 + len(below.split(maxsplit=1)[0]) > widest - RAGGED
