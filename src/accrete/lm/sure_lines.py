"""Which lines of what a model wrote it was sure of. Ends at its texts, without the others.

    nats(line) = -log P(line | prompt, lines above)

A model that lists what a text says goes on listing where the text says nothing of the kind, but then it wavers.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch

from accrete.lm.forced import target_logits, targets_of
from accrete.lm.model import LM
from accrete.lm.prompts import study_sequence


def line_nats(lm: LM, prompts: Sequence[str], texts: Sequence[str]) -> list[list[float]]:
    """Of every text the nats of each of its lines."""
    found = [[0.0] * (text.count("\n") + 1) for text in texts]
    rows = [i for i, text in enumerate(texts) if text]
    sequences = [study_sequence(lm, prompts[i], texts[i]) for i in rows]
    for place, logits_NV in target_logits(lm, sequences):
        targets_N = targets_of(sequences[place], logits_NV.device)
        nats_N = -torch.log_softmax(logits_NV.float(), -1).gather(1, targets_N[:, None])[:, 0]
        breaks = [str(lm.tokenizer.decode([token])).count("\n") for token in targets_N.tolist()]
        lines = found[rows[place]]
        for line, nats in zip(itertools.accumulate(breaks, initial=0), nats_N.tolist(), strict=False):
            lines[min(line, len(lines) - 1)] += nats
    return found


def sure_lines(lm: LM, prompts: Sequence[str], texts: Sequence[str], most: float) -> list[str]:
    """The texts without the lines that cost more than `most` nats."""
    kept = []
    for text, nats in zip(texts, line_nats(lm, prompts, texts), strict=True):
        kept.append("\n".join(line for line, cost in zip(text.split("\n"), nats, strict=True) if cost <= most))
    return kept
