"""How surely a model answers so when it reads a text: whether that text speaks of what is asked. Ends at numbers.

    nats(q, t, a) = -log P(a | t, q) / tokens of a

Of the base model, whatever stands beside it: a text that does not speak of what is asked does not lead to its words.
"""

from __future__ import annotations

from collections.abc import Sequence

from accrete.lm.forced import log_likelihoods
from accrete.lm.model import LM
from accrete.lm.prompts import study_sequence


class AnswerNats:
    """Call it with (question, text, answer); what was asked before is known."""

    def __init__(self, lm: LM, most: int = 50_000):
        self.lm, self.most = lm, most
        self._known: dict[tuple[str, str, str], float] = {}

    def __call__(self, rows: Sequence[tuple[str, str, str]]) -> list[float]:
        new = [row for row in dict.fromkeys(rows) if row not in self._known]
        if len(self._known) + len(new) > self.most:
            self._known = {row: self._known[row] for row in rows if row in self._known}
        sequences = [study_sequence(self.lm, question, answer, text) for question, text, answer in new]
        for row, sequence, found in zip(new, sequences, log_likelihoods(self.lm, sequences), strict=True):
            self._known[row] = -found / sequence.targets
        return [self._known[row] for row in rows]
