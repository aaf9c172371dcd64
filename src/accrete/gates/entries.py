"""A gate by entries: which numbers of a tensor an update may change. Ends at one optimiser step.

Masking gradients would not do: under Adam a zero gradient still moves a weight by its momentum, and weight decay moves
them all. So the step is taken, and whatever was closed gets its old bits back: weights and moments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor


class Gate(Protocol):
    """Takes the optimiser's step and leaves everything it does not open bit-identical."""

    def step(self, optimizer: torch.optim.Optimizer) -> None: ...


class EntryGate:
    """`open_entries` maps a parameter to a bool tensor of its shape; parameters that are not named stay wholly open."""

    def __init__(self, open_entries: Mapping[Tensor, Tensor]):
        self.open_entries = dict(open_entries)

    @torch.no_grad()
    def step(self, optimizer: torch.optim.Optimizer) -> None:
        before = {parameter: self._tensors(optimizer, parameter) for parameter in self.open_entries}
        before = {parameter: {key: t.clone() for key, t in tensors.items()} for parameter, tensors in before.items()}
        optimizer.step()
        for parameter, mask in self.open_entries.items():
            for key, now in self._tensors(optimizer, parameter).items():
                # A moment that this step created was zero before it.
                old = before[parameter].get(key, torch.zeros((), dtype=now.dtype, device=now.device))
                now.copy_(torch.where(mask, now, old))

    @staticmethod
    def _tensors(optimizer: torch.optim.Optimizer, parameter: Tensor) -> dict[str, Tensor]:
        """The parameter and every piece of its optimiser state that has an entry for each of its entries."""
        state = optimizer.state.get(parameter, {})
        moments = {key: t for key, t in state.items() if isinstance(t, Tensor) and t.shape == parameter.shape}
        return {"weight": parameter.data} | moments
