"""How alike two questions are asked, by the model's own states: what they ask, and hardly of whom (LOG.md, 2026-11-23).

    e(q) = state of the last token of the prompt for q, where it enters block 5 of 8, less the mean of general questions
    alike(p, q) = cosine of e(p) and e(q)

Slots that no row reads change nothing here; what changes the weights before that block does. Ends at numbers from -1 to 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from accrete.lm.batch import Sequence as Tokens
from accrete.lm.batch import collate
from accrete.lm.model import LM
from accrete.lm.prompts import prompt_ids

BATCH = 64
DEPTH = 0.625  # of the blocks: where it enters this one a state says what is asked (LOG.md, 2026-11-29)


class Alike:
    """Call it with pairs of questions. `general` are questions about anything; states are kept by their question."""

    def __init__(self, lm: LM, general: Sequence[str], most: int = 50_000):
        self.lm, self.general, self.most = lm, general, most
        self.layer = int(DEPTH * lm.layers)
        self._states: dict[str, Tensor] = {}
        self._mean_D: Tensor | None = None

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        if not pairs:
            return []
        if self._mean_D is None:
            self._mean_D = torch.stack(list(self._run(self.general))).mean(0)
        asked = list(dict.fromkeys(question for pair in pairs for question in pair))
        new = [question for question in asked if question not in self._states]
        if len(self._states) + len(new) > self.most:
            self._states = {question: self._states[question] for question in asked if question in self._states}
        for question, state_D in zip(new, self._run(new), strict=True):
            self._states[question] = functional.normalize(state_D - self._mean_D, dim=0)
        place = {question: row for row, question in enumerate(asked)}
        states_QD = torch.stack([self._states[question] for question in asked])
        one, other = ([place[pair[side]] for pair in pairs] for side in (0, 1))
        return [float(found) for found in (states_QD[one] * states_QD[other]).sum(-1)]

    @torch.no_grad()
    def _run(self, questions: Iterable[str]) -> Iterable[Tensor]:
        """[D] of every question, in their order."""
        prompts = [Tokens(tuple(prompt_ids(self.lm, question))) for question in questions]
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].ids))
        states: list[Tensor] = [torch.empty(0)] * len(prompts)
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            batch = collate([prompts[i] for i in rows], self.lm.device, self.lm.pad)
            h_BTD = self.lm.hidden(batch, self.layer)
            last_B = batch.mask_BT.sum(1) - 1
            for i, state_D in zip(rows, h_BTD[torch.arange(len(rows)), last_B].float(), strict=True):
                states[i] = state_D
        return states
