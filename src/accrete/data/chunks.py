"""Cut a text into passages at sentence ends. Ends at character spans that cover the text."""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Iterable, Iterator

from accrete.errors import UsageError
from accrete.types import Document, Passage

# An end mark, what closes after it, and then space; the marks of Chinese and Japanese need no space. Possessive, so that
# a million dots are looked at once.
_END = re.compile(r"(?<![.!?…])([.!?…]++)[\"'”’»)\]*_]*+(?=\s)|[。！？]++[」』”）]*+")
# Lines that begin something of their own: headings, list items, table rows, and the rules under or between them.
_LINE = re.compile(
    r"^[ \t]*+(?:(?P<alone>#{1,6}[ \t]|\|)|(?P<rule>[=~*-]{3,}+[ \t]*+$)|[-*+•][ \t]|\d{1,3}[.)][ \t])", re.MULTILINE
)
_BLANK = re.compile(r"\n[^\S\n]*+\n")

_TITLES = """Dr Mr Mrs Ms Prof St Rev Hon Gen Col Maj Capt Cmdr Lt Sgt Gov Sen Rep Pres Sr Jr Mme Mlle Msgr Messrs Mt Ft Fr
Inc Ltd Corp Co Bros Dept Univ Assn Ave Blvd Ph vs cf eg ie viz approx ca ed eds al"""
_BEFORE_NUMBERS = """no nos nr art fig figs sec sect ch chap vol vols p pp par para ref refs eq eqs tab app op cit
jan feb mar apr jun jul aug sep sept oct nov dec"""
_ABBREVIATIONS, _COUNTERS = frozenset(_TITLES.split()), frozenset(_BEFORE_NUMBERS.split())
_INITIALS = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]")


def chunks(
    document: Document, size: int = 800, measure: Callable[[str], int] = len, overlap: int = 0
) -> tuple[Passage, ...]:
    """Passages of whole sentences, of at most `size` as `measure` counts: characters, or the tokens of a tokenizer.

    With `overlap` a passage begins with so much of the one before as well (`overlapping`).

    A sentence longer than that is cut at words, a longer word anywhere. `measure` sees every sentence once, or twice where
    a passage begins; a passage counts as the sum of its sentences, so `measure` should be (nearly) additive.
    """
    if size < 1:
        raise UsageError("The size of a passage is at least 1.")
    text = document.text
    packed = _Packed(text, size, measure)
    for start, end in sentences(text):
        if packed.add(start, end):
            continue
        for word in re.finditer(r"\S+", text[start:end]):
            if not packed.add(start + word.start(), start + word.end()):
                packed.cut(start + word.start(), start + word.end())
    found = tuple(Passage(text[start:end], document.name, start, end) for start, end in packed.spans)
    return overlapping(document, found, overlap, measure) if overlap else found


def overlapping(
    document: Document, passages: Iterable[Passage], overlap: int, measure: Callable[[str], int] = len
) -> tuple[Passage, ...]:
    """The passages, each after the whole sentences before it, at most `overlap` of them as `measure` counts.

    They say what "It" at its beginning stands for. A passage that begins a paragraph, or goes on within a sentence, stays.
    """
    text, found = document.text, []
    spans = list(sentences(text))
    ends = [end for _, end in spans]
    for passage in passages:
        begin, left = passage.start, overlap
        for number in reversed(range(bisect.bisect_right(ends, passage.start))):
            start, end = spans[number]
            between = text[end:begin]
            left -= measure(text[start:end])
            if left < 0 or between.strip() or _BLANK.search(between):
                break
            begin = start
        found.append(Passage(text[begin : passage.end], document.name, begin, passage.end))
    return tuple(found)


class _Packed:
    """Spans of at most `size`, filled one after the other."""

    def __init__(self, text: str, size: int, measure: Callable[[str], int]) -> None:
        self.text, self.size, self.measure = text, size, measure
        self.spans: list[tuple[int, int]] = []
        self.used = size

    def add(self, start: int, end: int) -> bool:
        """Put a piece into the last span or a new one; False when it is too large for any."""
        if self.spans and self.used < self.size:
            begin, last = self.spans[-1]
            cost = self.measure(self.text[last:end])  # with the space before it
            if self.used + cost <= self.size:
                self.spans[-1], self.used = (begin, end), self.used + cost
                return True
        cost = self.measure(self.text[start:end])
        if cost <= self.size:
            self.spans.append((start, end))
            self.used = cost
            return True
        self.used = self.size  # what follows begins a new one
        return False

    def cut(self, start: int, end: int) -> None:
        """Spans of a word that is too large itself. None has more than `size` characters, or more than one is left."""
        while start < end:
            stop = min(end, start + self.size)
            while stop - start > 1 and self.measure(self.text[start:stop]) > self.size:
                stop = start + (stop - start) // 2
            self.spans.append((start, stop))
            start = stop
        self.used = self.size


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """Spans of the sentences, headings, list items and table rows of a text, without the space between them."""
    start = 0
    for stop in sorted({*_ends(text), len(text)}):
        piece = text[start:stop]
        if kept := piece.strip():
            first = start + len(piece) - len(piece.lstrip())
            yield first, first + len(kept)
        start = stop


def _ends(text: str) -> Iterator[int]:
    """Offsets at which a sentence may end."""
    for match in _BLANK.finditer(text):
        yield match.start()
    for match in _LINE.finditer(text):
        if match["rule"] is None:
            yield match.start()  # a rule belongs to the heading above it
        if match["alone"] or match["rule"]:
            stop = text.find("\n", match.end())
            yield len(text) if stop < 0 else stop
    for match in _END.finditer(text):
        if match[1] is None or not _goes_on(text, match):
            yield match.end()


def _goes_on(text: str, match: re.Match[str]) -> bool:
    """Whether the sentence does not end at this mark: an abbreviation, an initial, a question within a sentence."""
    after = text[match.end() : match.end() + 12].lstrip()
    if match[1] != ".":
        return after[:1].islower()  # "What?" he said. Well ... perhaps.
    before = re.split(r"[\s(\[{\"'“‘/—–]", text[max(0, match.start() - 24) : match.start()])[-1]
    if before.isdigit() and len(before) <= 3:  # the number of a list item: "3. Stir."
        _, newline, line = text[max(0, match.start() - 24) : match.start() - len(before)].rpartition("\n")
        return not line.strip() and bool(newline or match.start() <= 24)
    if before in _ABBREVIATIONS or before.lower() in {"eg", "ie", "vs", "cf"}:
        return True
    if before.lower() in _COUNTERS:
        return bool(re.match(r"\d" if before == "No" else r"\d|[IVXLC]+\b", after))
    if before == "etc":
        return after[:1].islower()
    return _INITIALS.fullmatch(before) is not None and before != "I"
