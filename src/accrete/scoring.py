"""Is an answer right? SQuAD's normalisation, exact match, token F1, contains. Pure; ends at numbers from 0 to 1."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
SENTINEL_TOKENS = 24  # so far the answer to a sentinel is written, when it is made and when it is graded
LONG_ANSWER = 6  # words; a longer truth is graded by overlap, because no one repeats a sentence word for word


def normalise(text: str) -> str:
    """Lower case, no punctuation, no articles, single spaces (the SQuAD 1.1 rule)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, truth: str) -> float:
    return float(normalise(answer) == normalise(truth))


def token_f1(answer: str, truth: str) -> float:
    """Harmonic mean of precision and recall over words, counted with repetition; two empty texts agree."""
    given, wanted = normalise(answer).split(), normalise(truth).split()
    if not given or not wanted:
        return float(given == wanted)
    common = sum((Counter(given) & Counter(wanted)).values())
    return 2 * common / (len(given) + len(wanted))


def contains(answer: str, truth: str) -> float:
    """Whether the truth stands in the answer, on word boundaries."""
    wanted = normalise(truth)
    return float(f" {wanted} " in f" {normalise(answer)} ") if wanted else float(not normalise(answer))


def grade(answer: str, truths: Sequence[str]) -> float:
    """The best over the accepted answers: `contains` for short ones, token F1 for sentences."""

    def one(truth: str) -> float:
        return token_f1(answer, truth) if len(truth.split()) > LONG_ANSWER else contains(answer, truth)

    return max((one(truth) for truth in truths), default=0.0)
