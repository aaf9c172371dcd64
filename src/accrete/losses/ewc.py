"""Elastic weight consolidation, online (1612.00796, 1805.06370). Ends at a penalty in nats.

    weight / 2 * sum_i F_i (theta_i - theta*_i)^2        F <- decay F + F_new,  theta* <- theta   at every consolidation

F_i is the mean over examples of the squared gradient of ONE example's log-likelihood, its labels drawn from the model
itself: the square of a batch's mean gradient is no Fisher information, and the labels of the data are not the model's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Sequence as SequenceOf

import torch
from torch import Tensor, nn

from accrete.errors import HistoryError
from accrete.lm.batch import Batch, Sequence, collate
from accrete.lm.model import LM


class EWC:
    """Holds parameters, by name, to where they were at the last consolidation, each as firmly as it mattered there.

    `guard` names the parameters that are trained now; those of them never consolidated are free.
    """

    def __init__(self, weight: float, decay: float, generator: torch.Generator):
        self.weight, self.decay, self.generator = weight, decay, generator
        self.fisher: dict[str, Tensor] = {}
        self.anchor: dict[str, Tensor] = {}
        self._held: list[tuple[nn.Parameter, Tensor, Tensor]] = []

    def guard(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self._held = [
            (p, self.fisher[n].to(p.device), self.anchor[n].to(p.device))
            for n, p in parameters.items()
            if n in self.fisher
        ]

    @property
    def holds(self) -> bool:
        """Whether any of the guarded parameters was consolidated before."""
        return bool(self._held)

    def __call__(self, lm: LM, batch: Batch, output_BTV: Tensor) -> Tensor:
        return self.penalty().to(output_BTV.device)

    def penalty(self) -> Tensor:
        """The penalty (nats) of where the guarded parameters are now."""
        terms = [(fisher * (p - anchor) ** 2).sum() for p, fisher, anchor in self._held]
        return self.weight / 2 * torch.stack(terms).sum() if terms else torch.zeros(())

    def consolidate(self, lm: LM, parameters: Mapping[str, nn.Parameter], sequences: SequenceOf[Sequence]) -> None:
        """Measure what matters for `sequences` now, join it to what mattered before, and anchor here."""
        new = self._fisher(lm, parameters, sequences)
        for name, parameter in parameters.items():
            before = self.fisher.get(name)
            self.fisher[name] = new[name] if before is None else self.decay * before.to(new[name].device) + new[name]
            self.anchor[name] = parameter.detach().clone()

    def forget(self, names: Iterable[str]) -> None:
        """Let go of parameters that were replaced."""
        for name in names:
            self.fisher.pop(name, None)
            self.anchor.pop(name, None)

    def _fisher(
        self, lm: LM, parameters: Mapping[str, nn.Parameter], sequences: SequenceOf[Sequence]
    ) -> dict[str, Tensor]:
        squares = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
        for sequence in sequences:
            batch = collate([sequence], lm.device, lm.pad)
            log_probabilities = lm.logits(batch)[0, max(1, sequence.target_from) - 1 : -1].float().log_softmax(-1)
            drawn = torch.multinomial(log_probabilities.detach().exp().cpu(), 1, generator=self.generator)
            likelihood = log_probabilities.gather(1, drawn.to(lm.device)).sum()
            gradients = torch.autograd.grad(likelihood, list(parameters.values()))
            for name, gradient in zip(parameters, gradients, strict=True):
                squares[name] += gradient**2
        return {name: total / max(1, len(sequences)) for name, total in squares.items()}

    def state_dict(self) -> dict[str, Tensor]:
        return {f"fisher/{n}": t for n, t in self.fisher.items()} | {f"anchor/{n}": t for n, t in self.anchor.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        tensors: dict[str, dict[str, Tensor]] = {"fisher": {}, "anchor": {}}
        for key, tensor in state.items():
            kind, _, name = key.partition("/")
            if kind not in tensors:
                raise HistoryError(f'The saved anchor does not fit: "{key}" is unknown.')
            tensors[kind][name] = tensor.clone()
        self.fisher, self.anchor, self._held = tensors["fisher"], tensors["anchor"], []
