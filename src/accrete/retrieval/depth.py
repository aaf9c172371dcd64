"""Which layer's states find the next token: the model says so by what it knows in general. Ends at a layer.

Items with one answer are one question in several wordings. In a good layer each of them would be answered from the others,
its own states left out, with all other questions as a crowd that may mislead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch.nn import functional

from accrete.retrieval.space import States, whitening
from accrete.scoring import normalise

SHARES = (0.5, 0.625, 0.75, 0.875, 1.0)  # of the blocks: early ones know the words alone
LEAST, MOST = 8, 200  # items that another one agrees with: fewer say little, more nothing new
TEMPERATURE = 0.05  # of the cosines, as when a question is asked


def candidates(layers: int) -> list[int]:
    """The layers of a model that are looked at, in rising order."""
    return sorted({max(1, round(share * layers)) for share in SHARES})


def found_share(general: States, answers: Sequence[str], shrinkage: float) -> float | None:
    """The mean weight that the next token of an item gets from its neighbours in all other items, 0 to 1.

    `general` are items by their states, `answers` those of the first of them. Counted over the items whose answer another
    one has; None where they are fewer than LEAST.
    """
    numbers = {answer: number for number, answer in enumerate(dict.fromkeys(map(normalise, answers)))}
    group_I = torch.tensor([numbers[normalise(answer)] for answer in answers], dtype=torch.long)
    paired = torch.nonzero((group_I[:, None] == group_I[None, :]).sum(1) > 1)[:MOST, 0]
    if len(paired) < LEAST:
        return None
    mean_D, matrix_DD = whitening(general.states_ND, shrinkage)
    keys_ND = functional.normalize((general.states_ND - mean_D) @ matrix_DD, dim=-1)
    owner_N = torch.arange(len(general.lengths_I)).repeat_interleave(general.lengths_I)
    asked_Q = torch.isin(owner_N, paired)
    cosines_QN = (keys_ND[asked_Q] @ keys_ND.T).masked_fill(owner_N[asked_Q][:, None] == owner_N[None, :], -torch.inf)
    right_QN = general.tokens_N[asked_Q][:, None] == general.tokens_N[None, :]
    return float((torch.softmax(cosines_QN / TEMPERATURE, -1) * right_QN).sum(1).mean())


def best_layer(general: Mapping[int, States], answers: Sequence[str], shrinkage: float) -> int:
    """The layer in which most is found, the later of two alike; the last one where the items say too little."""
    found = {layer: found_share(states, answers, shrinkage) for layer, states in general.items()}
    known = {layer: share for layer, share in found.items() if share is not None}
    return max(known, key=lambda layer: (known[layer], layer)) if known else max(general)
