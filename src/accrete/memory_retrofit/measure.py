"""What a memory's looks are worth before anything is written. Ends at figures of every layer.

A question in other words than the studied ones should read where it was written, and not where another question was:
`confused` is the share of such questions that read more of another's. `met` is how much of all others each reads, added up:
what a lesson of so many questions may disturb. The entities are new, the wordings are those that training draws from:
held-out ones are for evaluation alone, and more of them are confused (LOG.md). The use of slots (gates/slots.py) is that of
the general questions that a model brings, or of passages of the fictional world; `if_even` is what as many reads that fall
anywhere would give: of a large table few slots are read at all.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from accrete.adapters.memory_layer import MemoryAdapter
from accrete.adapters.product_keys import ProductKeys
from accrete.data.study import text_sequences
from accrete.data.world import World
from accrete.gates.slots import usage
from accrete.lm.batch import Sequence
from accrete.lm.model import LM
from accrete.lm.prompts import study_sequence
from accrete.memory_retrofit.options import Options
from accrete.memory_retrofit.wordings import POSITIONS, WORLDS, asked, looks
from accrete.types import Document

WORLD = WORLDS - 1  # its questions are asked here and trained nowhere
ENTITIES = 48  # about as many as twelve lessons of twenty facts have
GENERAL = 400  # questions
MEANING = {
    "confused": "the share of questions in other words that read more of another question than of their own",
    "met": "what each reads of all other questions, added up; 1 is what it reads of itself",
    "top 1 percent": "the share of all reads that the most read hundredth of the slots takes",
    "entropy": "of the reads; 1 where all slots are read alike",
    "never read": "the share of the slots",
    "if even": "what as many reads that fall anywhere would give",
    "before": "queries and keys at random, which look with the state alone",
}
WINDOW = 128  # tokens of a passage


@torch.no_grad()
def measured(lm: LM, options: Options, start: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    """By layer, of memories that look as `start` says."""
    adapter = MemoryAdapter(lm, options.shape(), options.layers, seed=options.seed, start=start)
    try:
        studied, other = [], []
        for entity, (first, *rest, last) in asked(World(WORLD), ENTITIES, 3, options.dated):
            studied.append((entity, [first, *rest]))
            other.append((entity, [last]))
        of_studied, of_other = looks(lm, adapter, studied), looks(lm, adapter, other)
        general = [study_sequence(lm, *row) for row in lm.background[:GENERAL]] or passages(
            lm, World(WORLD), GENERAL // 10
        )
        reads: dict[int, list[Tensor]] = {i: [] for i in adapter.memories}
        for part in adapter.looks(general):
            for i, slots in part.items():
                reads[i] += slots
        found = {}
        for i, memory in adapter.memories.items():
            keys = memory.product_keys
            firsts = [torch.nonzero(of.question_N % POSITIONS == 0).flatten() for of in (of_studied, of_other)]
            asked_there = [
                (of.z(i, first_F, keys.listen), of.question_N[first_F])
                for of, first_F in zip((of_studied, of_other), firsts, strict=True)
            ]
            found[str(i)] = overlap(keys, *asked_there)
            read = torch.cat(reads[i])
            even = torch.randint(options.slots, read.shape, generator=torch.Generator().manual_seed(0))
            found[str(i)] |= usage(read, options.slots)
            found[str(i)] |= {f"{name}_if_even": value for name, value in usage(even, options.slots).items()}
        return found
    finally:
        adapter.remove()


def passages(lm: LM, world: World, count: int, window: int = WINDOW) -> list[Sequence]:
    """Passages about so many new entities, `window` tokens at a time."""
    documents = [Document("", world.passage([world.entity()])) for _ in range(count)]
    return [part for document in documents for part in text_sequences(lm, document, window)]


def overlap(keys: ProductKeys, studied: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> dict[str, float]:
    """`confused` and `met`, of what [N, Q] some questions look with and which question [N] each is."""
    (studied_NQ, studied_N), (other_MQ, other_M) = studied, other
    (slots_NS, written_NS), (slots_MS, read_MS) = keys.look(studied_NQ), keys.look(other_MQ)
    slots_U = torch.unique(slots_NS)  # of a large table few are read at all
    written_NU, read_MU = _of(slots_U, slots_NS, written_NS), _of(slots_U, slots_MS, read_MS)
    whole_M1 = _squares(slots_MS, read_MS)
    shares_MN = read_MU @ written_NU.T / whole_M1
    same_MN = (other_M[:, None] == studied_N).to(shares_MN.device)
    own_M = shares_MN.masked_fill(~same_MN, -1).amax(1)
    others_MN = shares_MN.masked_fill(same_MN, 0)
    return {"confused": float((own_M < others_MN.amax(1)).float().mean()), "met": float(others_MN.sum(1).mean())}


def _of(slots_U: Tensor, slots_NS: Tensor, weights_NS: Tensor) -> Tensor:
    """[N, U]: how much each reads of these slots, in rising order."""
    place_NS = torch.searchsorted(slots_U, slots_NS).clamp(max=len(slots_U) - 1)
    known_NS = weights_NS * (slots_U[place_NS] == slots_NS)
    return weights_NS.new_zeros(len(slots_NS), len(slots_U)).scatter_add_(1, place_NS, known_NS)


def _squares(slots_MS: Tensor, weights_MS: Tensor) -> Tensor:
    """[M, 1]: what each would read of what was written at itself; heads that meet in a slot add up."""
    meet_MSS = slots_MS[:, :, None] == slots_MS[:, None, :]
    return torch.einsum("ms,mst,mt->m", weights_MS, meet_MSS.to(weights_MS.dtype), weights_MS)[:, None]
