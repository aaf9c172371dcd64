"""The frozen part of a model, computed once per text. Ends at what enters the first block that can change."""

from __future__ import annotations

import torch
from torch import Tensor

from accrete.lm.batch import Batch
from accrete.lm.model import LM, Hidden


class PrefixCache:
    """Outputs of `lm.prefix(..., layer)` by text, for batches whose composition changes from step to step.

    The key is the whole row of ids: positions follow from it in right-padded batches, and layer, dtype and weights below
    `layer` cannot change while one cache lives, so it must not outlive the training run it was made for.
    """

    def __init__(self, lm: LM, layer: int):
        self.lm, self.layer = lm, layer
        self._rows: dict[tuple[int, ...], Tensor] = {}

    @torch.no_grad()
    def hidden(self, batch: Batch) -> Hidden:
        """The same as `lm.prefix(batch, layer)`, running only the rows not seen before."""
        lengths = batch.mask_BT.sum(-1).tolist()
        keys = [tuple(ids[:length]) for ids, length in zip(batch.ids_BT.tolist(), lengths, strict=True)]
        new = [row for row, key in enumerate(keys) if key not in self._rows]
        if new:
            index = torch.tensor(new, device=batch.ids_BT.device)
            part = Batch(batch.ids_BT[index], batch.mask_BT[index], batch.labels_BT[index])
            h_BTD = self.lm.prefix(part, self.layer).h_BTD
            self._rows.update({keys[row]: h_BTD[i, : lengths[row]].clone() for i, row in enumerate(new)})
        h_BTD = torch.nn.utils.rnn.pad_sequence([self._rows[key] for key in keys], batch_first=True)
        h_BTD = torch.nn.functional.pad(h_BTD, (0, 0, 0, batch.ids_BT.shape[1] - h_BTD.shape[1]))
        positions = (batch.mask_BT.long().cumsum(-1) - 1).clamp(min=0)
        return Hidden(h_BTD, batch.mask_BT, positions, self.layer)
