"""The frozen part of a model, computed once per text. Ends at what enters the first block that can change."""

from __future__ import annotations

import torch
from torch import Tensor

from accrete.lm.batch import Batch
from accrete.lm.model import LM, Hidden


class PrefixCache:
    """Outputs of `lm.prefix(..., layer)` by text, for batches whose composition changes from step to step.

    The key is the whole row of ids: positions follow from it in right-padded batches, and layer, dtype and weights below
    `layer` cannot change while one cache lives, so it must not outlive the training run it was made for. Beyond `most` bytes
    the rows that were not asked for longest are dropped: some lessons draw new ones again and again.
    """

    def __init__(self, lm: LM, layer: int, most: int = 256 << 20):
        self.lm, self.layer, self.most = lm, layer, most
        self._rows: dict[tuple[int, ...], Tensor] = {}  # those asked for last at the end
        self._bytes = 0

    @torch.no_grad()
    def hidden(self, batch: Batch) -> Hidden:
        """The same as `lm.prefix(batch, layer)`, running only the rows not seen before."""
        lengths = batch.mask_BT.sum(-1).tolist()
        keys = [tuple(ids[:length]) for ids, length in zip(batch.ids_BT.tolist(), lengths, strict=True)]
        new = {key: row for row, key in enumerate(keys) if key not in self._rows}
        if new:
            index = torch.tensor(list(new.values()), device=batch.ids_BT.device)
            part = Batch(batch.ids_BT[index], batch.mask_BT[index], batch.labels_BT[index])
            h_BTD = self.lm.prefix(part, self.layer).h_BTD
            for key, h_TD in zip(new, h_BTD, strict=True):
                self._rows[key] = h_TD[: len(key)].clone()
                self._bytes += self._rows[key].nbytes
        for key in keys:
            self._rows[key] = self._rows.pop(key)
        h_BTD = torch.nn.utils.rnn.pad_sequence([self._rows[key] for key in keys], batch_first=True)
        h_BTD = torch.nn.functional.pad(h_BTD, (0, 0, 0, batch.ids_BT.shape[1] - h_BTD.shape[1]))
        while self._bytes > self.most:
            self._bytes -= self._rows.pop(next(iter(self._rows))).nbytes
        positions = (batch.mask_BT.long().cumsum(-1) - 1).clamp(min=0)
        return Hidden(h_BTD, batch.mask_BT, positions, self.layer)
