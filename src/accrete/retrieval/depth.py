"""Which layer's states find the next token: the model says so by its own study items. Ends at a layer.

Items with one answer are one question in several wordings. In a good layer each of them would be answered from the others,
its own states left out, with the states of general questions as a crowd that may mislead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from accrete.retrieval.space import States, whitening
from accrete.scoring import normalise

SHARES = (0.5, 0.625, 0.75, 0.875, 1.0)  # of the blocks: early ones know the words alone
LEAST = 8  # items that another item agrees with; fewer say little
TEMPERATURE = 0.05  # of the cosines, as when a question is asked


def candidates(layers: int) -> list[int]:
    """The layers of a model that are looked at, in rising order."""
    return sorted({max(1, round(share * layers)) for share in SHARES})


def found_share(items: States, general: States, answers: Sequence[str], shrinkage: float) -> float | None:
    """The mean weight that the next token of an item gets from its neighbours in other items and in general text, 0 to 1.

    Counted over the items whose answer another one has; None where they are fewer than LEAST.
    """
    numbers = {answer: number for number, answer in enumerate(dict.fromkeys(map(normalise, answers)))}
    group_I = torch.tensor([numbers[normalise(answer)] for answer in answers])
    paired_I = (group_I[:, None] == group_I[None, :]).sum(1) > 1
    if int(paired_I.sum()) < LEAST:
        return None
    mean_D, matrix_DD = whitening(general.states_ND, shrinkage)
    keys_MD = _unit(torch.cat([items.states_ND, general.states_ND]), mean_D, matrix_DD)
    tokens_M = torch.cat([items.tokens_N, general.tokens_N])
    owner_N = torch.arange(len(answers)).repeat_interleave(items.lengths_I)
    owner_M = functional.pad(owner_N, (0, len(general.tokens_N)), value=-1)
    asked_N = paired_I[owner_N]
    cosines_NM = keys_MD[: len(owner_N)][asked_N] @ keys_MD.T
    cosines_NM = cosines_NM.masked_fill(owner_N[asked_N][:, None] == owner_M[None, :], -torch.inf)
    right_NM = items.tokens_N[asked_N][:, None] == tokens_M[None, :]
    return float((torch.softmax(cosines_NM / TEMPERATURE, -1) * right_NM).sum(1).mean())


def best_layer(
    items: Mapping[int, States], general: Mapping[int, States], answers: Sequence[str], shrinkage: float
) -> int:
    """The layer in which most is found, the later of two alike; the last one where the items say too little."""
    found = {layer: found_share(items[layer], general[layer], answers, shrinkage) for layer in items}
    known = {layer: share for layer, share in found.items() if share is not None}
    return max(known, key=lambda layer: (known[layer], layer)) if known else max(items)


def _unit(states_ND: Tensor, mean_D: Tensor, matrix_DD: Tensor) -> Tensor:
    return functional.normalize((states_ND - mean_D) @ matrix_DD, dim=-1)
