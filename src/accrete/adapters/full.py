"""All weights of the model, trainable, with the base kept beside them. Ends at tensors that differ from the base."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from accrete.errors import HistoryError
from accrete.lm.model import LM


class FullAdapter:
    """The weights themselves. At birth they are the base; its state is what differs from it, so an untaught one is empty."""

    first_layer = 0

    def __init__(self, lm: LM):
        self._parameters: dict[str, nn.Parameter] = dict(lm.model.named_parameters())
        self._base = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        for parameter in self._parameters.values():
            parameter.requires_grad_(True)

    def parameters(self) -> list[nn.Parameter]:
        return list(self._parameters.values())

    @contextlib.contextmanager
    def off(self) -> Iterator[None]:
        """The base model answers inside this context. The parameters point at other tensors; none is copied."""
        taught = {name: parameter.data for name, parameter in self._parameters.items()}
        try:
            for name, parameter in self._parameters.items():
                parameter.data = self._base[name]
            yield
        finally:
            for name, parameter in self._parameters.items():
                parameter.data = taught[name]

    @torch.no_grad()
    def remove(self) -> None:
        """Give the model back as it was."""
        self.load_state_dict({})
        for parameter in self._parameters.values():
            parameter.requires_grad_(False)

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors that are not bit-identical to the base (as bits, 0 and -0 differ)."""
        return {name: p.detach() for name, p in self._parameters.items() if not _same_bits(p, self._base[name])}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Become base + `state`; a tensor of another name or shape raises HistoryError and changes nothing."""
        for name, tensor in state.items():
            if name not in self._parameters or self._parameters[name].shape != tensor.shape:
                raise HistoryError(f"The saved state does not fit this model: {name} is unknown or of another shape.")
        for name, parameter in self._parameters.items():
            # New storage, not a copy into the old: after an interrupt inside `off` that may still be the base's.
            parameter.data = state.get(name, self._base[name]).to(parameter.device, parameter.dtype, copy=True)


def _same_bits(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.detach().view(-1).view(torch.uint8), other.view(-1).view(torch.uint8))
