"""Product keys (2412.09764, 1907.05242): where a token looks in a table of n * n slots. Ends at slots and their weights.

    z = [x, c]              x: what enters the MLP; c: what is heard in its block's attention (lm/heard.py); both of rms 1
    q = W_q z + b           a query for each head, normalised, in two halves
    s = q1 K1^T, q2 K2^T    n scores each; the k best of each give k*k sums, the k best of those are slots: i1 * n + i2
                            (of the a-th best and the b-th best, a*b sums are no worse: they matter where a*b <= k)

Nothing here is taught by a lesson. Shape suffixes: n = sqrt(N) half keys, H heads, K slots a head, S = H * K slots a token,
D width of the model, Q = D + C width of z, T tokens, P halves, W width of a half key.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor, nn
from torch.nn import functional

from accrete.errors import ModelError, UsageError


def _several(given: object) -> object:
    """One number, or numbers between commas, as well as a list."""
    if isinstance(given, str):
        return tuple(given.split(","))
    return (given,) if isinstance(given, (int, float)) else given


Depths = Annotated[tuple[Annotated[float, Field(ge=0, lt=1)], ...], Field(min_length=1), BeforeValidator(_several)]
"""Where memories stand, as shares of the depth: layers=0.5, layers=0.375,0.5 or layers=[0.375, 0.5]."""


@dataclass(frozen=True)
class Shape:
    """How large a memory is and how it is read."""

    slots: int = 1_048_576
    heads: int = 4
    top_k: int = 8
    key_width: int = 64

    def __post_init__(self) -> None:
        if math.isqrt(self.slots) ** 2 != self.slots:
            near = math.isqrt(self.slots) ** 2, (math.isqrt(self.slots) + 1) ** 2
            raise UsageError(f"A memory has a square number of slots: {near[0]:,} or {near[1]:,}, not {self.slots:,}.")
        if self.top_k > math.isqrt(self.slots):
            raise UsageError(f"A head cannot read {self.top_k} slots of {math.isqrt(self.slots)} a half.")
        if self.key_width % 2:
            raise UsageError("A key has two halves: its width is an even number.")


class ProductKeys(nn.Module):
    """Where a token looks, and what becomes of what it finds: W_q, b and K, W_g and W_o where a start has them. All frozen.

    `listen` is for who hears: it is kept here with all else that a start says.
    """

    listen: Tensor | None
    queries: Tensor
    offset: Tensor
    keys: Tensor
    gate: Tensor
    gate_offset: Tensor
    out: Tensor

    def __init__(self, shape: Shape, tensors: Mapping[str, Tensor]):
        super().__init__()
        self.shape, self.gated = shape, "gate" in tensors
        self.register_buffer("listen", None, persistent=False)
        for name, tensor in tensors.items():  # no parameters: nothing casts or counts them among the model's
            self.register_buffer(name, tensor.float(), persistent=False)

    def look(self, z_TQ: Tensor) -> tuple[Tensor, Tensor]:
        """The slots that each token reads, [T, S], and their weights, [T, S]; in float32 however learning multiplies."""
        s = self.shape
        with torch.autocast(z_TQ.device.type, enabled=False):
            scores_PTHn = self.scores(z_TQ)
            (best_THK, i1_THK), (other_THK, i2_THK) = (half_THn.topk(s.top_k) for half_THn in scores_PTHn)
            first_C, second_C = candidates(s.top_k, z_TQ.device)
            found_THK, pair_THK = (best_THK[..., first_C] + other_THK[..., second_C]).topk(s.top_k)
            first, second = i1_THK.gather(-1, first_C[pair_THK]), i2_THK.gather(-1, second_C[pair_THK])
            slots_THK = first * scores_PTHn.shape[-1] + second
            return slots_THK.flatten(1), torch.softmax(found_THK, -1).flatten(1)

    def scores(self, z_TQ: Tensor) -> Tensor:
        """[2, T, H, n]: how well the halves of each head's query fit the halves of the keys."""
        s = self.shape
        q_THW = functional.linear(z_TQ.float(), self.queries, self.offset).view(-1, s.heads, s.key_width)
        q_THPW = functional.layer_norm(q_THW, (s.key_width,)).view(-1, s.heads, 2, s.key_width // 2)
        return torch.einsum("thpw,hpnw->pthn", q_THPW, self.keys)

    def give(self, m_TD: Tensor, x_TD: Tensor) -> Tensor:
        """What leaves the memory when `m_TD` was found."""
        if not self.gated:
            return m_TD
        open_TD = functional.silu(functional.linear(x_TD.float(), self.gate, self.gate_offset))
        return functional.linear(m_TD * open_TD, self.out)


@functools.cache
def candidates(top_k: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The pairs, of a rank in the one half and a rank in the other, whose sums can be among the best `top_k`."""
    pairs = [(a, b) for a in range(top_k) for b in range(top_k) if (a + 1) * (b + 1) <= top_k]
    first, second = torch.tensor(pairs, device=device).unbind(1)
    return first, second


def looking_with(x_TD: Tensor, heard_TC: Tensor | None) -> Tensor:
    """z [T, Q]: the state, and what could be heard, each with as much to say as it has numbers."""
    parts = [x_TD] if heard_TC is None else [x_TD, heard_TC]
    return torch.cat([functional.rms_norm(part.float(), part.shape[-1:]) for part in parts], -1)


def at_random(shape: Shape, looks_with: int, seed: int) -> dict[str, Tensor]:
    """Queries and keys that were never trained; `looks_with` is Q."""
    generator = torch.Generator().manual_seed(seed)
    across = shape.heads * shape.key_width
    keys = torch.rand(shape.heads, 2, math.isqrt(shape.slots), shape.key_width // 2, generator=generator) * 2 - 1
    return {
        "queries": torch.randn(across, looks_with, generator=generator) / math.sqrt(looks_with),
        "offset": torch.zeros(across),
        "keys": keys / math.sqrt(shape.key_width),
    }


def of_start(start: Mapping[str, Tensor], layer: int, shape: Shape, width: int, looks_with: int) -> dict[str, Tensor]:
    """What a start has for a layer, nothing where there is no start; ModelError where it does not fit."""
    found = {name.partition("/")[2]: t for name, t in start.items() if name.startswith(f"{layer}/")}
    across = shape.heads * shape.key_width
    wanted = {
        "queries": (across, looks_with),
        "offset": (across,),
        "keys": (shape.heads, 2, math.isqrt(shape.slots), shape.key_width // 2),
        "listen": (looks_with - width,),
        "gate": (width, width),
        "gate_offset": (width,),
        "out": (width, width),
    }
    needed = {"queries", "offset", "keys"} if start else set()
    if needed - found.keys():
        raise ModelError(
            f"The start has no memories for layer {layer}: it was trained for other layers, or is of something else;"
            " the option start=none begins without it."
        )
    if set(found) - wanted.keys() or any(t.shape != wanted[name] for name, t in found.items()):
        raise ModelError(
            f"The start of the memories was trained for another shape (layer {layer}: {_shape_of(found)}) than this"
            f" ({shape.slots:,} slots, {shape.heads} heads, keys of {shape.key_width}, looking with {looks_with} numbers);"
            " the option start=none begins without it."
        )
    return found


def _shape_of(start: Mapping[str, Tensor]) -> str:
    """What a start was trained for, as far as its tensors say it."""
    keys, queries = start["keys"], start["queries"]
    if keys.ndim != 4 or queries.ndim != 2:
        return "of no memory"
    heads, _, half, width = keys.shape
    return f"{half**2:,} slots, {heads} heads, keys of {2 * width}, looking with {queries.shape[1]} numbers"
