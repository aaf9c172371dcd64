"""What a model would have written where the text is given: its logits at every target. Ends at tensors, one per sequence."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from accrete.lm.batch import IGNORED, Batch, Sequence, collate
from accrete.lm.decode import NOTHING, Conditioning, alike, conditioned, running
from accrete.lm.states import entering

if TYPE_CHECKING:
    from accrete.lm.model import LM


@torch.no_grad()
def target_logits(
    lm: LM, sequences: SequenceOf[Sequence], conditionings: SequenceOf[Conditioning] = (), batch_size: int = 16
) -> Iterator[tuple[int, Tensor]]:
    """(row, logits [targets, V]) of every sequence, those of similar length first.

    The conditionings do here what they do in decoding, each position being a step of its own; the text of `passages` is
    expected to be in the sequence already.
    """
    conditionings = conditionings or [NOTHING] * len(sequences)
    for rows in alike([sequence.ids for sequence in sequences], conditionings, batch_size):
        batch = collate([sequences[i] for i in rows], lm.device, lm.pad)
        wanted_BT = batch.labels_BT[:, 1:] != IGNORED
        of_rows = [conditionings[i] for i in rows]
        with running(of_rows), entering(lm, of_rows[0].layer) as states:
            hidden_ND, logits_NV = _at_targets(lm, batch, wanted_BT)
        hidden_ND = states[-1][:, :-1][wanted_BT] if states else hidden_ND
        counts = wanted_BT.sum(1).tolist()
        places = [place for place, count in enumerate(counts) for _ in range(count)]
        logits_NV = conditioned(hidden_ND, logits_NV, places, of_rows)
        yield from zip(rows, torch.split(logits_NV, counts), strict=True)


def log_likelihoods(
    lm: LM, sequences: SequenceOf[Sequence], conditionings: SequenceOf[Conditioning] = ()
) -> list[float]:
    """The log-likelihood of every sequence's targets (nats, summed)."""
    found = [0.0] * len(sequences)
    for row, logits_NV in target_logits(lm, sequences, conditionings):
        targets_N = targets_of(sequences[row], logits_NV.device)
        found[row] = float(torch.log_softmax(logits_NV, -1).gather(1, targets_N[:, None]).sum())
    return found


def targets_of(sequence: Sequence, device: torch.device) -> Tensor:
    """The ids [targets] that a sequence wants predicted."""
    return torch.tensor(sequence.ids[max(1, sequence.target_from) :], device=device)


def _at_targets(lm: LM, batch: Batch, wanted_BT: Tensor) -> tuple[Tensor, Tensor]:
    """States [N, D] before the head and logits [N, V] where the next token is a target."""
    mask = None if bool(batch.mask_BT.all()) else batch.mask_BT.long()
    if lm.anatomy is None:  # an unknown architecture may do more between body and head than we know
        output = lm.model(input_ids=batch.ids_BT, attention_mask=mask, use_cache=False, output_hidden_states=True)
        return output.hidden_states[-1][:, :-1][wanted_BT], output.logits[:, :-1][wanted_BT].float()
    hidden_BTD = lm.anatomy.body(input_ids=batch.ids_BT, attention_mask=mask, use_cache=False).last_hidden_state
    hidden_ND = hidden_BTD[:, :-1][wanted_BT]
    return hidden_ND, lm.anatomy.head(hidden_ND).float()
