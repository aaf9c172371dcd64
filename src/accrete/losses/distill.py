"""Stay close to another distribution: KL(base || now) on general material. Ends at one number.

Off-policy distillation on fixed text keeps general ability where replaying the text alone would overfit it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

from accrete.lm.batch import IGNORED, Batch
from accrete.lm.model import LM
from accrete.lm.prefix_cache import PrefixCache


class KLToBase:
    """weight * mean over target positions of KL(base || now), on batches of its own.

    `off` is the adapter's context in which the base model answers; `batches` yields general material without end.
    """

    def __init__(
        self,
        weight: float,
        off: Callable[[], contextlib.AbstractContextManager[None]],
        batches: Iterator[Batch],
        first_layer: int = 0,
    ):
        self.weight, self.off, self.batches = weight, off, batches
        self.first_layer = first_layer
        self._prefix: PrefixCache | None = None

    def __call__(self, lm: LM, batch: Batch, output_BTV: Tensor) -> Tensor:
        general = next(self.batches)
        if self.first_layer and self._prefix is None:
            self._prefix = PrefixCache(lm, self.first_layer)
        hidden = self._prefix.hidden(general) if self._prefix else None
        with torch.no_grad(), self.off():
            base_BTV = lm.suffix(hidden) if hidden else lm.logits(general)
        now_BTV = lm.suffix(hidden) if hidden else lm.logits(general)
        return self.weight * kl_divergence(base_BTV, now_BTV, general.labels_BT)


class KLOnGeneral:
    """weight * mean KL(base || now) over the targets of the general rows that are in the batch anyway: no second pass.

    `first_layer` is the first block that can differ from the base: what comes before it runs once per text.
    """

    def __init__(self, weight: float, off: Callable[[], contextlib.AbstractContextManager[None]], first_layer: int = 0):
        self.weight, self.off, self.first_layer = weight, off, first_layer
        self._prefix: PrefixCache | None = None

    def __call__(self, lm: LM, batch: Batch, output_BTV: Tensor) -> Tensor:
        if not batch.general:
            return output_BTV.new_zeros(())
        rows = slice(-batch.general, None)
        general = Batch(batch.ids_BT[rows], batch.mask_BT[rows], batch.labels_BT[rows])
        if self.first_layer and self._prefix is None:
            self._prefix = PrefixCache(lm, self.first_layer)
        with torch.no_grad(), self.off():
            base_BTV = lm.suffix(self._prefix.hidden(general)) if self._prefix else lm.logits(general)
        return self.weight * kl_divergence(base_BTV, output_BTV[rows], general.labels_BT)


def kl_divergence(base_BTV: Tensor, now_BTV: Tensor, labels_BT: Tensor) -> Tensor:
    """Mean KL(base || now) in nats over the positions that predict a target."""
    predicting = labels_BT[:, 1:] != IGNORED
    base = functional.log_softmax(base_BTV[:, :-1][predicting].float(), dim=-1)
    now = functional.log_softmax(now_BTV[:, :-1][predicting].float(), dim=-1)
    return functional.kl_div(now, base, log_target=True, reduction="batchmean")
