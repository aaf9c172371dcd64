"""Token sequences and padded batches of them. Ends before any model.

Shape suffixes here and in `lm/`: B batch, T tokens of this call, K tokens so far (cached and these), D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

IGNORED = -100  # the label of a token that is not a target


@dataclass(frozen=True)
class Sequence:
    """Token ids of which those from `target_from` on are to be predicted (0: all but the very first)."""

    ids: tuple[int, ...]
    target_from: int = 0

    @property
    def targets(self) -> int:
        return len(self.ids) - max(1, self.target_from)


@dataclass(frozen=True)
class Batch:
    """Right-padded sequences. `labels_BT` stands where the ids stand: the loss does the one shift.

    The last `general` rows are general material, on which a method may be held to its base.
    """

    ids_BT: Tensor
    mask_BT: Tensor
    labels_BT: Tensor
    general: int = 0

    @property
    def targets(self) -> int:
        """How many tokens are predicted: the first of a row never is."""
        return int((self.labels_BT[:, 1:] != IGNORED).sum())

    @property
    def predicting_BT(self) -> Tensor:
        """Where the next token is a target: labels are shifted here, once."""
        return functional.pad(self.labels_BT[:, 1:] != IGNORED, (0, 1))

    @property
    def targets_N(self) -> Tensor:
        """The ids that are to be predicted there, row after row."""
        labels_BT = self.labels_BT[:, 1:]
        return labels_BT[labels_BT != IGNORED]


def collate(
    sequences: SequenceOf[Sequence], device: torch.device | str = "cpu", pad: int = 0, general: int = 0
) -> Batch:
    """Stack sequences into one batch, padding to the longest; the last `general` of them are general material."""
    width = max(len(sequence.ids) for sequence in sequences)
    ids = torch.full((len(sequences), width), pad)
    mask = torch.zeros((len(sequences), width), dtype=torch.bool)
    labels = torch.full((len(sequences), width), IGNORED)
    for row, sequence in enumerate(sequences):
        length = len(sequence.ids)
        ids[row, :length] = torch.tensor(sequence.ids)
        mask[row, :length] = True
        labels[row, sequence.target_from : length] = ids[row, sequence.target_from : length]
    return Batch(ids.to(device), mask.to(device), labels.to(device), general)
