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

AT_ONCE = 4_096  # keys that are compared with all sentinels


@dataclass(frozen=True)
class States:
    """Of some texts: how each asks (cues [I, D]), and the states [N, D] of each before its next tokens [N]."""

    cues_ID: Tensor
    lengths_I: Tensor
    states_ND: Tensor
    tokens_N: Tensor


class Space:
    """Two linear maps to unit vectors, of cues and of the states of one layer. Empty until fitted; then it never changes.

    It also holds the sentinels as it sees them, to say how near what the model knows comes to a new key.
    """

    def __init__(self, shrinkage: float, cue_weight: float):
        self.shrinkage, self.cue_weight = shrinkage, cue_weight
        self._state: dict[str, Tensor] = {}
        self._maps: dict[tuple[str, torch.device], tuple[Tensor, Tensor]] = {}

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
        self._maps = {}
        self._state = {
            "layer": torch.tensor(layer),
            "cue mean": mean_cue,
            "cue matrix": matrix_cue,
            "state mean": mean_state,
            "state matrix": matrix_state,
        }
        self._state |= {
            "sentinel cues": self.cues(sentinels.cues_ID).half(),
            "sentinel lengths": sentinels.lengths_I.int(),
            "sentinel keys": self.states(sentinels.states_ND).half(),
            "sentinel values": sentinels.tokens_N.int(),
        }

    def cues(self, cues_ID: Tensor) -> Tensor:
        """Unit vectors [I, D] in float32."""
        return self._map("cue", cues_ID)

    def states(self, states_ND: Tensor) -> Tensor:
        """Unit vectors [N, D] in float32."""
        return self._map("state", states_ND)

    def entries(self, of: States, marks_W: Tensor, counts_I: Tensor) -> Entries:
        """What the datastore keeps of some texts, each of which speaks of words with so many of the marks (names.py)."""
        cues_ID, keys_ND = self.cues(of.cues_ID), self.states(of.states_ND)
        reach_N = self._reach(cues_ID, of, keys_ND)
        return Entries(cues_ID, of.lengths_I, keys_ND, of.tokens_N, reach_N, marks_W, counts_I)

    def _reach(self, cues_ID: Tensor, of: States, keys_ND: Tensor) -> Tensor:
        """[N]: how like a key the likest state of a sentinel is that goes on with another token; -1 where there is none."""
        cues_SD, lengths_S, keys_MD, values_M = (
            self._state[f"sentinel {name}"] for name in ("cues", "lengths", "keys", "values")
        )
        reach_N = torch.full((len(keys_ND),), -1.0)
        if not len(values_M) or not len(keys_ND):
            return reach_N
        owners_M = torch.arange(len(lengths_S)).repeat_interleave(lengths_S.long())
        owners_N = torch.arange(len(cues_ID)).repeat_interleave(of.lengths_I)
        cosines_SI = cues_SD.float() @ cues_ID.T
        for start in range(0, len(keys_ND), AT_ONCE):
            rows = slice(start, start + AT_ONCE)
            cosines_MN = cosines_SI[owners_M][:, owners_N[rows]]
            likeness_MN = (keys_MD.float() @ keys_ND[rows].T + self.cue_weight * cosines_MN) / (1 + self.cue_weight)
            same_MN = values_M[:, None] == of.tokens_N[rows][None, :]
            reach_N[rows] = likeness_MN.masked_fill(same_MN, -1.0).amax(0)
        return reach_N

    def _map(self, which: str, vectors_ND: Tensor) -> Tensor:
        matrix_DD, offset_D = self._affine(which, vectors_ND.device)
        return functional.normalize(torch.addmm(offset_D, vectors_ND.float(), matrix_DD), dim=-1)

    def _affine(self, which: str, device: torch.device) -> tuple[Tensor, Tensor]:
        """x -> (x - mean) @ matrix as x @ matrix + offset, made once: it runs at every token."""
        found = self._maps.get((which, device))
        if found is None:
            mean_D, matrix_DD = (self._state[f"{which} {name}"].to(device) for name in ("mean", "matrix"))
            found = self._maps[which, device] = matrix_DD, -mean_D @ matrix_DD
        return found

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self._state)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._state, self._maps = dict(state), {}


def whitening(states_ND: Tensor, shrinkage: float) -> tuple[Tensor, Tensor]:
    """(mean [D], C^-1/2 [D, D]) of states, their covariance C mixed with `shrinkage` of its mean variance."""
    mean_D = states_ND.mean(0)
    centred_ND = states_ND - mean_D
    covariance_DD = centred_ND.T @ centred_ND / len(states_ND)
    scale = covariance_DD.trace().clamp(min=1e-12) / len(mean_D)
    even_DD = torch.eye(len(mean_D), device=states_ND.device) * scale
    variances_D, directions_DD = torch.linalg.eigh((1 - shrinkage) * covariance_DD + shrinkage * even_DD)
    return mean_D, directions_DD * variances_D.clamp(min=1e-12 * scale).rsqrt() @ directions_DD.T
