"""Paragraphs that say nothing new. Ends at the words and the document of the earlier paragraph that said it before.

Alike is not the same: "Brota has 46,700 inhabitants" is news beside "Brota has 45,100 inhabitants", and so is a sentence
that negates another or swaps its parts. MinHash finds what is alike; it is left out only where it is the earlier one with
words left out, and none of these a name, a number or a negation in its middle.
"""

from __future__ import annotations

import array
import hashlib
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from accrete.types import Example

ALIKE = 0.7  # share of 5-grams in common, as estimated
GRAM = 5  # words
LEAST_WORDS = 20  # of a paragraph that may be nearly another; shorter ones have to be equal, and in one document
LEAST_CHARACTERS = 60  # of a sentence that may be equal: shorter ones are refrains and answers
PERMUTATIONS = 64
CROWD = 20  # of one pattern no more are remembered, or ten thousand alike would all be compared with each other

_WORD = re.compile(r"[^\W_]+(?:['’.,][^\W_]+)*|[-+=<>≤≥≠±×÷%$€£°]")
_RULE = re.compile(r"^\s*+([-=~*^\"'`#+_.:])\1{2,}+\s*+$", re.MULTILINE)  # under a heading
_SENTENCE = re.compile(r"[.!…。！][\"'”’»)\]*_]*$")
_NAMED = re.compile(r"\d|[a-zß-ÿ,;:]\s+[\"'“‘(]*[A-ZÀ-Þ]")  # a number, or a capital within a sentence
_FILLERS = "a an the that also however indeed very just then thus so too"
_DENIALS = "no not nor none never neither without cannot nicht kein keine nie pas non ne sin nunca"
_NO_NEWS, _NEGATIONS = frozenset(_FILLERS.split()), frozenset(_DENIALS.split())


@dataclass(frozen=True)
class _Paragraph:
    document: str
    beginning: str
    words: bytes  # in their order, four bytes each
    marks: bytes  # names, numbers, signs and negations, likewise
    hashes: Any  # MinHash


@dataclass
class Seen:
    """What was read so far. One object for a run over many documents; `forget` takes one of them back."""

    _equal: dict[bytes, tuple[str, str]] = field(default_factory=dict)
    _alike: dict[int, _Paragraph] = field(default_factory=dict)
    _items: dict[bytes, str] = field(default_factory=dict)
    _index: Any = None
    _count: int = 0
    _documents: set[str] = field(default_factory=set)

    def paragraph(self, text: str, document: str) -> str:
        """'"The first words ..."[ in DOCUMENT]' of what said this before; empty when nothing did, and then it is kept."""
        self._documents.add(document)
        tokens = _WORD.findall(_RULE.sub("", text))
        long = sum(map(str.isalpha, tokens)) >= LEAST_WORDS
        # "It was built by two brothers" says something else in another document; a whole paragraph hardly does.
        digest = _digest(" ".join(text.split()) + ("" if long else "\0" + document))
        if found := self._equal.get(digest):
            return _told(*found, document)
        beginning = " ".join(text.split(maxsplit=8)[:8])[:60]
        if long:
            new = _paragraph(tokens, document, beginning)
            near = self._near(new)
            for candidate in near:
                if _says_it_all(candidate, new):
                    return _told(candidate.document, candidate.beginning, document)
            if len(near) < CROWD:
                self._count += 1
                self._alike[self._count] = new
                self._index.insert(self._count, new.hashes, check_duplication=False)
        elif len(text) < LEAST_CHARACTERS or not _SENTENCE.search(text.rstrip()) or not _NAMED.search(text):
            return ""  # a heading, a question, the words before a list; or "This option is ..." of another option
        self._equal[digest] = (document, beginning)
        return ""

    def item(self, item: Example, document: str) -> str:
        """Where this very item was before; empty when nowhere, and then it is kept."""
        self._documents.add(document)
        digest = _digest("\0".join((item.question, item.answer, item.context)))
        if digest in self._items:
            return "an earlier item" + (f" in {self._items[digest]}" if self._items[digest] != document else "")
        self._items[digest] = document
        return ""

    def forget(self, document: str) -> None:
        """As if the document of this name had never been read: for a lesson that was taken back."""
        if document not in self._documents:
            return
        self._documents.remove(document)
        self._equal = {digest: found for digest, found in self._equal.items() if found[0] != document}
        self._items = {digest: name for digest, name in self._items.items() if name != document}
        for key in [key for key, paragraph in self._alike.items() if paragraph.document == document]:
            self._index.remove(key)
            del self._alike[key]

    def _near(self, new: _Paragraph) -> list[_Paragraph]:
        """At most CROWD earlier paragraphs that share most 5-grams, the first first."""
        if self._index is None:
            from datasketch import MinHashLSH

            self._index = MinHashLSH(threshold=ALIKE, num_perm=PERMUTATIONS)
        keys = sorted(self._index.query(new.hashes))[:CROWD]
        return [self._alike[key] for key in keys if self._alike[key].hashes.jaccard(new.hashes) >= ALIKE]


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()


def _told(where: str, beginning: str, document: str) -> str:
    return f'"{beginning} ..."' + (f" in {where}" if where != document else "")


def _paragraph(tokens: Sequence[str], document: str, beginning: str) -> _Paragraph:
    import numpy as np
    from datasketch import MinHash

    lowered = [token.lower() for token in tokens]
    ids = np.array([zlib.crc32(token.encode()) for token in lowered], dtype=np.uint64)
    grams = np.zeros(len(ids) - GRAM + 1, dtype=np.uint64)
    for place in range(GRAM):  # wraps around, as a hash may
        grams = grams * np.uint64(0x9E3779B97F4A7C15) + ids[place : place + len(grams)]
    hashes = MinHash(num_perm=PERMUTATIONS, hashfunc=int, scheme="affine32")
    distinct = np.unique(grams >> np.uint64(32))
    for start in range(0, len(distinct), 20_000):  # a matrix of these by the permutations is held
        hashes.update_batch(distinct[start : start + 20_000].tolist())
    marks = [int(number) for token, low, number in zip(tokens, lowered, ids, strict=True) if _is_mark(token, low)]
    words = [int(number) for low, number in zip(lowered, ids, strict=True) if low not in _NO_NEWS]
    return _Paragraph(document, beginning, _packed(words), _packed(marks), hashes)


def _packed(numbers: list[int]) -> bytes:
    return array.array("I", numbers).tobytes()


def _is_mark(token: str, lowered: str) -> bool:
    """Whether a word says which one, how much, or that it is not so."""
    if lowered in _NEGATIONS or lowered.endswith(("n't", "n’t")):
        return True
    return (token != lowered or not token.isalpha()) and lowered not in _NO_NEWS


def _says_it_all(earlier: _Paragraph, new: _Paragraph) -> bool:
    words = iter(memoryview(earlier.words).cast("I"))
    if not all(word in words for word in memoryview(new.words).cast("I")):  # `in` goes on from where it stopped
        return False
    place = earlier.marks.find(new.marks)
    while place > 0 and place % 4:
        place = earlier.marks.find(new.marks, place + 1)
    return place >= 0
