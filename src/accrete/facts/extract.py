"""A document's facts, each with the characters that say it. Ends at facts and spans.

Two readers, and what both find counts once, as the first has it:

    rules    of simple sentences and rows (rules.py)
    model    a language model lists the facts of each passage (lm/tasks.py: LIST_FACTS) that the rules did not read whole,
             then of each sentence of which nothing was found: alone it is read more surely, and named less well (LOG.md)

What a model lists counts only where its subject and its value stand in the passage: it may be wrong about what a passage says,
but not make up what is spoken of. Lines over which it wavers are left out before (lm/sure_lines.py). A fact without a date of
its own has the date of the document.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from accrete.facts.rules import as_row, by_rules
from accrete.facts.simple_sentences import DENIES, PRONOUNS, Found, iso_date, sentences
from accrete.facts.values import value_key
from accrete.lm.tasks import LIST_FACTS, prompt, read_facts
from accrete.scoring import normalise
from accrete.types import Fact, Passage

_LETTERS = re.compile(r"[^\W\d_]{2}")
HEADING = 6  # words, at most, of a line that ends no sentence
Generate = Callable[[Sequence[str]], Sequence[str]]


def extract(
    whole: Passage,
    passages: Sequence[Passage],
    generate: Generate | None = None,
    date: str | None = None,
    subject: str = "",
    told: Callable[[int], None] = lambda read: None,
) -> list[Found]:
    """The facts of a text, in the order in which they stand; `subject` is what rows without a heading are about.

    The rules read the whole of it, a model its passages. `told` hears how many lines the rules have read.
    """
    found = _Collected(date)
    found.add(by_rules(whole, subject, told))
    if generate:
        found.add(_by_model([one for one in passages if any(map(found.lacks, sentences(one)))], generate))
        alone = (one for passage in passages for one in sentences(passage) if one != passage)
        found.add(_by_model(list(filter(found.lacks, alone)), generate))
    return found.in_order()


def unread(text: str, found: Sequence[Found]) -> list[str]:
    """The sentences of which no fact was found; questions and headings state nothing."""
    spans = sorted((one.start, one.end) for one in found)
    starts, ends = [start for start, _ in spans], list(itertools.accumulate((end for _, end in spans), max))
    silent = []
    for one in sentences(Passage(text, "", 0, len(text))):
        before = bisect.bisect_left(
            starts, one.end
        )  # of the facts that begin before it ends, does one end after it began?
        if _states(one.text) and not (before and ends[before - 1] > one.start):
            silent.append(one.text)
    return silent


def _states(sentence: str) -> bool:
    """Whether it may state something: no question, no heading, no line of a table, no number of a chapter."""
    ended = sentence.endswith((".", "!", "…", '"', "”", ")")) or len(sentence.split()) > HEADING
    return ended and sentence[0] not in "#|" and bool(_LETTERS.search(sentence))


class _Collected:
    """Facts as they are found: the same fact counts once, with the name that its relation was given first."""

    def __init__(self, date: str | None):
        self.date = date
        self._found: dict[tuple[str, ...], Found] = {}
        self._said: dict[tuple[int, int], list[Found]] = {}  # by the sentence that says it

    def add(self, facts: Iterable[Found]) -> None:
        for one in facts:
            one = replace(one, fact=_dated(one.fact, self.date, one.ended))
            fact, beside = one.fact, self._said.setdefault((one.start, one.end), [])
            key = (
                normalise(fact.subject),
                normalise(fact.relation),
                value_key(fact.value),
                fact.valid_from or fact.valid_until or "",
            )
            if one.ended and not fact.valid_until:
                continue  # read, and nobody knows until when it held
            if key not in self._found and not any(_same_of(fact, other.fact) for other in beside):
                self._found[key] = one
                beside.append(one)

    def lacks(self, sentence: Passage) -> bool:
        """Whether nothing was found in what may be a sentence; rows are a matter of rules."""
        if as_row(sentence.text) or not _LETTERS.search(sentence.text):
            return False
        return not any(start < sentence.end and sentence.start < end for start, end in self._said)

    def in_order(self) -> list[Found]:
        """As they stand, without what is no more than the date of something else: in 2020, so-and-so was founded in 2020?"""
        kept = [
            one
            for one in self._found.values()
            if not any(
                other is not one
                and value_key(one.fact.value) == (other.fact.valid_from or "")[: len(value_key(one.fact.value))]
                for other in self._said[one.start, one.end]
            )
        ]
        return sorted(kept, key=lambda one: (one.start, one.end))


def _same_of(one: Fact, other: Fact) -> bool:
    """Whether they give the same value to the same subject, under whatever name."""
    return normalise(one.subject) == normalise(other.subject) and value_key(one.value) == value_key(other.value)


# --- what a model lists ------------------------------------------------------------------------------------------------


def _by_model(passages: Sequence[Passage], generate: Generate) -> Iterator[Found]:
    written = generate([prompt(LIST_FACTS, one.text) for one in passages]) if passages else []
    for passage, lines in zip(passages, written, strict=True):
        yield from _grounded(passage, read_facts(lines))


def _grounded(passage: Passage, facts: Iterable[Fact]) -> Iterator[Found]:
    """Those whose subject and value the passage names, with the sentence that has the value."""
    for fact in facts:
        value = _stands(passage.text, fact.value)
        if (
            value is None
            or _stands(passage.text, fact.subject) is None
            or normalise(fact.value) == normalise(fact.subject)
            or {*fact.subject.lower().split()[:1], *fact.value.lower().split()[:1]} & PRONOUNS  # "her husband"
        ):
            continue
        around = Passage(fact.value, passage.document, passage.start + value, passage.start + value + len(fact.value))
        around = next((one for one in sentences(passage) if one.start <= around.start < one.end), around)
        if DENIES.search(around.text) or as_row(around.text):
            continue
        since, until = iso_date(fact.valid_from), iso_date(fact.valid_until)
        yield Found(replace(fact, valid_from=since, valid_until=until), around.start, around.end)


def _stands(text: str, words: str) -> int | None:
    found = re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text, re.IGNORECASE)
    return found.start() if found else None


# --- dates and keys --------------------------------------------------------------------------------------------------


def _dated(fact: Fact, date: str | None, ended: bool) -> Fact:
    if ended:
        return fact if fact.valid_until else replace(fact, valid_until=date)
    if date and not fact.valid_from and not (fact.valid_until and date >= fact.valid_until):
        fact = replace(fact, valid_from=date)
    ends_late = fact.valid_until and (not fact.valid_from or fact.valid_until > fact.valid_from)
    return fact if ends_late else replace(fact, valid_until=None)
