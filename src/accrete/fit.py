"""The training loop: one plain function. Ends at a Report."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from accrete.errors import AccreteError
from accrete.gates.entries import Gate
from accrete.lm.batch import Batch
from accrete.lm.model import LM
from accrete.lm.prefix_cache import PrefixCache
from accrete.types import Report

# Multiplying in bfloat16 on a CPU, torch keeps about 16 MB of prepared kernels for every shape of batch, 1024 kernels in each
# of two caches: lessons of ever new shapes would grow the process by more than 1 GB. Few are used twice, and those made again
# are the same and cost nothing that shows (LOG.md). The numbers are read at the first such product: this must come before it.
for _cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(_cache, "32")

SHORT = 512  # tokens of a row: the attention weights of longer ones need much room

Loss = Callable[[LM, Batch, Tensor], Tensor]
"""(lm, batch, logits_NV where its targets are predicted) -> a scalar in nats."""


def fit(
    lm: LM,
    batches: Iterable[Batch],
    *,
    losses: Sequence[Loss],
    optimizer: torch.optim.Optimizer,
    gate: Gate | None = None,
    first_layer: int = 0,
    clip: float = 1.0,
    progress: Callable[[int, float], None] = lambda step, loss: None,
) -> Report:
    """One optimiser step per batch on the sum of the losses; `batches` decides when it is over.

    `first_layer` is the first block that the optimised parameters touch. What comes before it cannot change, so it runs
    once per text and is kept: for late adapters that is most of the forward pass.

    Raises AccreteError when a loss is no longer a number; the caller takes the update back.
    """
    prefix = PrefixCache(lm, first_layer) if first_layer and lm.anatomy else None
    steps = tokens = 0
    first = last = None
    for batch in batches:
        with lm.autocast(), _attention(batch):
            logits_NV = lm.target_logits(batch, prefix.hidden(batch) if prefix else None)
            parts = [loss(lm, batch, logits_NV) for loss in losses]
        total = torch.stack(parts).sum()
        if not math.isfinite(value := float(total.detach())):
            raise AccreteError(f"The loss was {value} after {steps} steps: a lower learning rate may help.")
        optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        if clip:
            torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], clip)
        gate.step(optimizer) if gate else optimizer.step()
        last = float(parts[0].detach())
        first = last if first is None else first
        steps, tokens = steps + 1, tokens + batch.targets
        progress(steps, last)
    optimizer.zero_grad(set_to_none=True)
    return Report(steps=steps, tokens=tokens, loss_before=first, loss_after=last)


def _attention(batch: Batch) -> contextlib.AbstractContextManager[None]:
    """Attention as plain matrix products for short rows on a CPU: the fused kernel is twice as slow there (LOG.md)."""
    plain = batch.ids_BT.device.type == "cpu" and batch.ids_BT.shape[1] <= SHORT
    return sdpa_kernel(SDPBackend.MATH) if plain else contextlib.nullcontext()
