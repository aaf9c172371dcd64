"""The space in which states are compared: whitened by what the model is always like. Ends at unit vectors.

States of one model point in much the same direction whatever is asked. Measured against their mean and covariance on general
questions, what is left is what this question asks for (whitening of sentence vectors: 2103.15316).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from accrete.retrieval.datastore import Entries


@dataclass(frozen=True)
class States:
    """Of some texts: how each asks (cues [I, D]), and the states [N, D] of each before its next tokens [N]."""

    cues_ID: Tensor
    lengths_I: Tensor
    states_ND: Tensor
    tokens_N: Tensor


class Space:
    """Two linear maps to unit vectors, of cues and of the states of one layer. Empty until fitted; then it never changes.

    It also holds the sentinels as it sees them, to say how near new keys come to what the model knows.
    """

    def __init__(self, shrinkage: float, cue_weight: float):
        self.shrinkage, self.cue_weight = shrinkage, cue_weight
        self._state: dict[str, Tensor] = {}

    @property
    def fitted(self) -> bool:
        return bool(self._state)

    @property
    def layer(self) -> int:
        return int(self._state["layer"])

    def fit(self, layer: int, general: States, sentinels: States) -> None:
        """Whiten by general texts: x -> C^-1/2 (x - mean), C shrunk towards a multiple of one."""
        mean_cue, matrix_cue = whitening(general.cues_ID.float(), self.shrinkage)
        mean_state, matrix_state = whitening(general.states_ND.float(), self.shrinkage)
        self._state = {
            "layer": torch.tensor(layer),
            "cue mean": mean_cue,
            "cue matrix": matrix_cue,
            "state mean": mean_state,
            "state matrix": matrix_state,
        }
        known = self.entries(sentinels)
        self._state |= {
            "sentinel cues": known.cues_ID.half(),
            "sentinel lengths": known.lengths_I.int(),
            "sentinel keys": known.keys_ND.half(),
            "sentinel values": known.values_N.int(),
        }

    def cues(self, cues_ID: Tensor) -> Tensor:
        """Unit vectors [I, D] in float32."""
        return self._map("cue", cues_ID)

    def states(self, states_ND: Tensor) -> Tensor:
        """Unit vectors [N, D] in float32."""
        return self._map("state", states_ND)

    def entries(self, of: States) -> Entries:
        return Entries(self.cues(of.cues_ID), of.lengths_I, self.states(of.states_ND), of.tokens_N)

    def reach(self, new: Entries) -> Tensor:
        """[sentinels]: how like any state of each sentinel the likest key is that would say something else."""
        known = Entries(*(self._state[f"sentinel {name}"] for name in ("cues", "lengths", "keys", "values")))
        if not len(known.lengths_I):
            return torch.zeros(0)
        cues_SI = known.cues_ID.float() @ new.cues_ID.T
        cues_MN = new.of_item(cues_SI).repeat_interleave(known.lengths_I.long(), dim=0)
        likeness_MN = (known.keys_ND.float() @ new.keys_ND.T + self.cue_weight * cues_MN) / (1 + self.cue_weight)
        same_MN = known.values_N[:, None] == new.values_N[None, :]
        harmful_M = likeness_MN.masked_fill(same_MN, -1.0).amax(1)
        owners_M = known.of_item(torch.arange(len(known.lengths_I)))
        return torch.full((len(known.lengths_I),), -1.0).scatter_reduce(0, owners_M, harmful_M, "amax")

    def _map(self, which: str, vectors_ND: Tensor) -> Tensor:
        mean_D, matrix_DD = (self._state[f"{which} {name}"].to(vectors_ND.device) for name in ("mean", "matrix"))
        return functional.normalize((vectors_ND.float() - mean_D) @ matrix_DD, dim=-1)

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self._state)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._state = dict(state)


def whitening(states_ND: Tensor, shrinkage: float) -> tuple[Tensor, Tensor]:
    """(mean [D], C^-1/2 [D, D]) of states, their covariance C mixed with `shrinkage` of its mean variance."""
    mean_D = states_ND.mean(0)
    centred_ND = states_ND - mean_D
    covariance_DD = centred_ND.T @ centred_ND / len(states_ND)
    scale = covariance_DD.trace().clamp(min=1e-12) / len(mean_D)
    even_DD = torch.eye(len(mean_D), device=states_ND.device) * scale
    variances_D, directions_DD = torch.linalg.eigh((1 - shrinkage) * covariance_DD + shrinkage * even_DD)
    return mean_D, directions_DD * variances_D.clamp(min=1e-12 * scale).rsqrt() @ directions_DD.T
