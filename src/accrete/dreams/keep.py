"""Which of the written pairs are worth studying: sound, novel, diverse, of each fact a few. Pure; ends at what was kept.

What a pair says is right is for another to decide (reread.py): this looks at the words alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from accrete.lm.tasks import NOT_STATED
from accrete.scoring import contains, normalise
from accrete.types import Example

LONGEST_QUESTION = 50  # words
LONGEST_ANSWER = 40
ALIKE = 0.8  # share of words and pairs of words in common from which two questions are one

_NUMBER = re.compile(r"\d[\d.,:]*\d|\d")
_WITHIN = re.compile(r"(?<=[^.!?\s])\s+[\"'“‘(]*([^\W\d_]\w*)")  # a word that begins no sentence
_WORD = re.compile(r"[^\W_]+")
_OF_THE_TEXT = re.compile(r"\b(passage|paragraph|excerpt)\b", re.IGNORECASE)
_OF_THE_TEXT_UNNAMED = re.compile(r"\b(the|this) (text|article|document|author|story)\b", re.IGNORECASE)
_LOST = re.compile(r"\b(it|he|she|him|they|them)\b|\b(is|are|was|were) (its|his|her|their)\b", re.IGNORECASE)


@dataclass
class Chosen:
    """The pairs to study, and how many were left out for what reason."""

    pairs: list[Example] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def why_not(pair: Example) -> str:
    """Why a pair cannot be a study item; empty when it may be one."""
    question, answer = normalise(pair.question), normalise(pair.answer)
    if not question or not answer:
        return "empty"
    if answer == normalise(NOT_STATED):
        return "not stated"
    if len(question.split()) > LONGEST_QUESTION or len(answer.split()) > LONGEST_ANSWER:
        return "too long"
    if contains(pair.question, pair.answer):
        return "answer in the question"
    named = marks(pair.question)
    about_text = _OF_THE_TEXT.search(pair.question) or (not named and _OF_THE_TEXT_UNNAMED.search(pair.question))
    if about_text or (not named and _LOST.search(pair.question)):
        return "unclear"  # without the passage no one knows what "it" is
    return ""


def choose(passage: str, written: Iterable[Example], *, per_fact: int, most: int) -> Chosen:
    """Of the pairs about one passage the sound and novel ones: of each fact at most `per_fact`, unlike each other.

    Of two answers to a question the one written more often counts. At most `most` in all: when there are more, every fact
    keeps its first before any its second.
    """
    chosen = Chosen()
    count: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], Example] = {}
    for pair in written:
        key = normalise(pair.question), normalise(pair.answer)
        count[key] += 1
        first.setdefault(key, pair)
    answers: dict[str, list[str]] = {}
    for (question, answer), pair in first.items():
        if reason := why_not(pair) or ("" if _of(passage, pair) else "made up"):
            chosen.left_out[reason] += 1
        else:
            answers.setdefault(question, []).append(answer)
    facts: dict[tuple[str, frozenset[str]], list[Example]] = {}
    for question, given in answers.items():
        answer = max(given, key=lambda answer, question=question: count[question, answer])  # type: ignore[misc]
        chosen.left_out["outvoted"] += len(given) - 1
        pair = first[question, answer]
        facts.setdefault((answer, marks(pair.question)), []).append(pair)
    kept = []
    for (_, names), pairs in facts.items():
        # A question that names nothing ("Which town is known for its silk?") may be about any fact of the answer.
        kept.append(_diverse(pairs, per_fact if names else 2 * per_fact))
        chosen.left_out["alike"] += len(pairs) - len(kept[-1])
    turns = [pairs[turn] for turn in range(max(map(len, kept), default=0)) for pairs in kept if turn < len(pairs)]
    chosen.pairs = turns[:most]
    chosen.left_out["too many"] += len(turns) - len(chosen.pairs)
    chosen.left_out = +chosen.left_out
    return chosen


def settle(passages: Iterable[Sequence[Example]]) -> Chosen:
    """The pairs about all passages together: a question that two of them answer differently is no question by itself."""
    answers: dict[str, set[str]] = {}
    first: dict[str, Example] = {}
    chosen = Chosen()
    for pairs in passages:
        for pair in pairs:
            question = normalise(pair.question)
            answers.setdefault(question, set()).add(normalise(pair.answer))
            chosen.left_out["known"] += question in first
            first.setdefault(question, pair)
    chosen.pairs = [pair for question, pair in first.items() if len(answers[question]) == 1]
    chosen.left_out["ambiguous"] = len(first) - len(chosen.pairs)
    chosen.left_out = +chosen.left_out
    return chosen


def restates(sentence: str, other: str) -> bool:
    """Whether `other` may be `sentence` in other words: all of its names and numbers and no others, and not the same."""
    one, two = normalise(sentence), normalise(other)
    if not two or one == two or not 0.4 <= len(two.split()) / max(1, len(one.split())) <= 2.5:
        return False
    words = set(one.split()), set(two.split())
    return all(set(normalise(mark).split()) <= words[1] for mark in marks(sentence)) and all(
        set(normalise(mark).split()) <= words[0] for mark in marks(other)
    )


def marks(text: str) -> frozenset[str]:
    """The numbers and the capitalised words within a sentence."""
    words = (match[1] for match in _WITHIN.finditer(text) if match[1][0].isupper())
    return frozenset(_NUMBER.findall(text)) | frozenset(words)


def _of(passage: str, pair: Example) -> bool:
    """Whether the names and numbers of a pair stand in the passage."""
    said = set(_WORD.findall(passage.lower()))
    return all(said.issuperset(_WORD.findall(mark.lower())) for mark in marks(pair.question) | marks(pair.answer))


def _diverse(pairs: Sequence[Example], count: int) -> list[Example]:
    """The first pair, and then always the one least like those taken, as long as it is not too much like one of them."""
    grams = [_grams(pair.question) for pair in pairs]
    taken = [0]
    nearest = [_alike(grams[0], other) for other in grams]
    while len(taken) < min(count, len(pairs)):
        best = min(range(len(pairs)), key=nearest.__getitem__)
        if nearest[best] >= ALIKE:
            break
        taken.append(best)
        nearest = [max(near, _alike(grams[best], other)) for near, other in zip(nearest, grams, strict=True)]
    return [pairs[i] for i in taken]


def _grams(text: str) -> frozenset[str]:
    words = normalise(text).split()
    return frozenset(words) | {f"{a} {b}" for a, b in pairwise(words)}


def _alike(one: frozenset[str], two: frozenset[str]) -> float:
    return len(one & two) / len(one | two) if one | two else 1.0
