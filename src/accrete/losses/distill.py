"""Stay close to another distribution: KL(base || now) on general material. Ends at one number.

Off-policy distillation on fixed text keeps general ability where replaying the text alone would overfit it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

from accrete.lm.batch import Batch
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

    def __call__(self, lm: LM, batch: Batch, logits_NV: Tensor) -> Tensor:
        general = next(self.batches)
        if self.first_layer and self._prefix is None:
            self._prefix = PrefixCache(lm, self.first_layer)
        hidden = self._prefix.hidden(general) if self._prefix else None
        with torch.no_grad(), self.off():
            base_NV = lm.target_logits(general, hidden)
        return self.weight * kl_divergence(base_NV, lm.target_logits(general, hidden))


class KLOnGeneral:
    """weight * mean KL(base || now) over the targets of the general rows that are in the batch anyway: no second pass.

    `first_layer` is the first block that can differ from the base: what comes before it runs once per text.
    """

    def __init__(self, weight: float, off: Callable[[], contextlib.AbstractContextManager[None]], first_layer: int = 0):
        self.weight, self.off, self.first_layer = weight, off, first_layer
        self._prefix: PrefixCache | None = None

    def __call__(self, lm: LM, batch: Batch, logits_NV: Tensor) -> Tensor:
        if not batch.general:
            return logits_NV.new_zeros(())
        rows = slice(-batch.general, None)
        general = Batch(batch.ids_BT[rows], batch.mask_BT[rows], batch.labels_BT[rows])
        if self.first_layer and self._prefix is None:
            self._prefix = PrefixCache(lm, self.first_layer)
        with torch.no_grad(), self.off():
            base_NV = lm.target_logits(general, self._prefix.hidden(general) if self._prefix else None)
        return self.weight * kl_divergence(base_NV, logits_NV[-len(base_NV) :])


def kl_divergence(base_NV: Tensor, now_NV: Tensor) -> Tensor:
    """Mean KL(base || now) in nats over predictions, given by their logits."""
    base = functional.log_softmax(base_NV.float(), dim=-1)
    now = functional.log_softmax(now_NV.float(), dim=-1)
    return functional.kl_div(now, base, log_target=True, reduction="batchmean")
