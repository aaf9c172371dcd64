"""Which domain a question belongs to, by its words. Ends at a name."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping

_WORD = re.compile(r"\w+")


class Topics:
    """The words of each domain. A word counts the more the fewer domains have it; one that all have counts nothing."""

    def __init__(self, texts: Mapping[str, Iterable[str]]):
        self.words = {domain: {word for text in pieces for word in _words(text)} for domain, pieces in texts.items()}
        domains_with = Counter(word for words in self.words.values() for word in words)
        self.weight = {word: math.log(len(self.words) / count) for word, count in domains_with.items()}

    def closest(self, question: str, otherwise: str | None) -> str | None:
        """The domain whose words the question uses most; `otherwise` when none stands out."""
        asked = _words(question)
        scores = {d: sum(self.weight[word] for word in asked & words) for d, words in self.words.items()}
        best = max(scores.values(), default=0.0)
        found = [domain for domain, score in scores.items() if score == best]
        return found[0] if best > 0 and (len(found) == 1 or otherwise not in found) else otherwise


def _words(text: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(text)}
