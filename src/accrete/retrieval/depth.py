"""Which layer's states tell what a question asks for: the model says so by its own study items. Ends at a layer.

Items with one answer are one question in several wordings. In a good layer the states from which their answers begin lie
near each other and away from those of all other items, once both are whitened by what the model is always like.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from accrete.retrieval.space import whitening
from accrete.scoring import normalise

SHARES = (0.5, 0.625, 0.75, 0.875, 1.0)  # of the blocks: early ones know the words alone
LEAST = 8  # items that another item agrees with; fewer say little
TEMPERATURE = 0.05  # of the cosines, as when a question is asked


def candidates(layers: int) -> list[int]:
    """The layers of a model that are looked at, in rising order."""
    return sorted({max(1, round(share * layers)) for share in SHARES})


def agreement(asked_ID: Tensor, general_ND: Tensor, answers: Sequence[str], shrinkage: float) -> float | None:
    """How surely an item is taken for one of the same answer: the mean log share of the neighbours' weight, 0 at best.

    `asked_ID` are the states from which the answers begin, `general_ND` those of other text. None for fewer than LEAST
    items that have another wording here.
    """
    mean_D, matrix_DD = whitening(general_ND, shrinkage)
    unit_ID = functional.normalize((asked_ID - mean_D) @ matrix_DD, dim=-1)
    numbers = {answer: number for number, answer in enumerate(dict.fromkeys(map(normalise, answers)))}
    group_I = torch.tensor([numbers[normalise(answer)] for answer in answers])
    itself_II = torch.eye(len(answers), dtype=torch.bool)
    same_II = (group_I[:, None] == group_I[None, :]) & ~itself_II
    paired_I = same_II.any(1)
    if int(paired_I.sum()) < LEAST:
        return None
    logits_II = (unit_ID @ unit_ID.T / TEMPERATURE).masked_fill(itself_II, -torch.inf)
    share_I = logits_II.masked_fill(~same_II, -torch.inf)[paired_I].logsumexp(1) - logits_II[paired_I].logsumexp(1)
    return float(share_I.mean())


def best_layer(
    asked: Mapping[int, Tensor], general: Mapping[int, Tensor], answers: Sequence[str], shrinkage: float
) -> int:
    """The layer of highest agreement, the later of two alike; the last one where the items say too little."""
    found = {layer: agreement(asked[layer], general[layer], answers, shrinkage) for layer in sorted(asked)}
    known = {layer: value for layer, value in found.items() if value is not None}
    return max(known, key=lambda layer: (known[layer], layer)) if known else max(asked)
