"""A gate by neurons: TF-IDF over how active they are, so that an update leaves the general ones alone. Ends at their numbers.

    df_j  = texts of a corpus on which mean |a_j| is above the mean over neurons        idf_j = ln(N / (1 + df_j))
    tf_j  = mean |a_j| / max_k mean |a_k|  on the text to be learned                    open: tf_j idf_j >= threshold * max

a is the neuron's output before the down projection, as it was born, reading what the base model's MLP reads. Nothing of this
touches a forward pass: a gate there would let later tokens decide about earlier ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Sequence as SequenceOf
from typing import Any

import torch
from torch import Tensor, nn

from accrete.errors import HistoryError, UsageError
from accrete.lm.batch import Sequence, collate
from accrete.lm.model import LM
from accrete.lm.states import entering_module

FEWEST = 8  # texts that say anything about what is general


class NeuronGate:
    """The counts of a calibration corpus for each layer, and which neurons they leave open for a text.

    `neurons` says by layer which module's input they read ([B, T, D]) and what they make of it ([B, T, J]). The model must
    answer as its base while they are measured.
    """

    def __init__(self, lm: LM, neurons: Mapping[int, tuple[nn.Module, Callable[[Tensor], Tensor]]], threshold: float):
        self.lm, self.neurons, self.threshold = lm, dict(neurons), threshold
        self.texts = 0
        self.counts: dict[int, Tensor] = {}

    def calibrate(self, sequences: SequenceOf[Sequence]) -> None:
        """Count anew, over these texts."""
        if len(sequences) < FEWEST:
            raise UsageError(
                f"Calibration takes at least {FEWEST} texts of some sentences each; there are {len(sequences)}."
            )
        counts: dict[int, Tensor] = {}
        for activity in self.activities(sequences):
            for i, mean_BJ in activity.items():
                above_J = (mean_BJ > mean_BJ.mean(-1, keepdim=True)).sum(0).float().cpu()
                counts[i] = above_J + counts.get(i, torch.zeros(()))
        self.texts, self.counts = len(sequences), counts

    def open(self, sequences: SequenceOf[Sequence]) -> dict[int, Tensor] | None:
        """The numbers of the neurons that a lesson of these texts may change, by layer; None, all, without calibration."""
        if not self.texts:
            return None
        sums: dict[int, Tensor] = {}
        for activity in self.activities(sequences):
            for i, mean_BJ in activity.items():
                sums[i] = sums.get(i, torch.zeros(())) + mean_BJ.sum(0).cpu()
        return {i: self._chosen(total_J / total_J.max(), self.counts[i]) for i, total_J in sums.items()}

    def _chosen(self, tf_J: Tensor, df_J: Tensor) -> Tensor:
        score_J = tf_J * torch.log(self.texts / (1 + df_J)).clamp(min=0)
        return torch.nonzero(score_J >= self.threshold * score_J.max()).flatten()

    @torch.no_grad()
    def activities(self, sequences: SequenceOf[Sequence], batch_size: int = 16) -> Iterator[dict[int, Tensor]]:
        """Batch by batch and layer by layer, mean |a_j| over the tokens of each text: [B, J]."""
        for start in range(0, len(sequences), batch_size):
            batch = collate(sequences[start : start + batch_size], self.lm.device, self.lm.pad)
            weights_BT1 = (batch.mask_BT / batch.mask_BT.sum(-1, keepdim=True))[..., None]
            with contextlib.ExitStack() as stack:
                read = {i: stack.enter_context(entering_module(module)) for i, (module, _) in self.neurons.items()}
                self.lm.prefix(batch, self.lm.layers)
            yield {
                i: (active(read[i][0]).float().abs() * weights_BT1).sum(1) for i, (_, active) in self.neurons.items()
            }

    def state_dict(self) -> dict[str, Any]:
        return {"texts": self.texts} | {f"{i}/counts": counts for i, counts in self.counts.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        counts = {int(key.partition("/")[0]): t.clone() for key, t in state.items() if key != "texts"}
        if counts and counts.keys() != self.neurons.keys():
            raise HistoryError(
                "The saved calibration is of other layers: the option depth is another than when they were taught."
            )
        self.texts, self.counts = int(state["texts"]), counts
