"""A product-key memory beside the MLP of some blocks (2412.09764, 1907.05242). Ends at the slots that lessons have written.

    y = F(x) + m(x)         F: the block's own MLP, frozen
    q = W_q x + b           a query for each head, normalised, in two halves
    s = q1 K1^T, q2 K2^T    n scores each; the k best of each give k*k sums, the k best of those are slots: i1 * n + i2
    m = sum of softmax(s) V[slots]   over the k of every head; with a gate: W_o (m * silu(W_g x + b_g))

V is zero at birth, so installing it changes no logit. Only rows of V are ever taught, and only those that a lesson has open:
their gradient is sparse, and a step costs what it touches, however many slots there are.

Shape suffixes: N slots, n = sqrt(N), H heads, K slots a head, S = H * K slots a token, D width of the model, T tokens, R rows,
P halves, W width of a half key.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from accrete.errors import HistoryError, ModelError, UsageError
from accrete.lm import batch
from accrete.lm.model import LM
from accrete.lm.states import entering_module

Choose = Callable[[int, Tensor], Tensor]
"""(layer, the slots [T, S] that a batch reads there) -> the rows [R] that it may change, in rising order."""


@dataclass(frozen=True)
class Shape:
    """How large a memory is and how it is read."""

    slots: int = 16_384
    heads: int = 4
    top_k: int = 16
    key_width: int = 64

    def __post_init__(self) -> None:
        if math.isqrt(self.slots) ** 2 != self.slots:
            near = math.isqrt(self.slots) ** 2, (math.isqrt(self.slots) + 1) ** 2
            raise UsageError(f"A memory has a square number of slots: {near[0]:,} or {near[1]:,}, not {self.slots:,}.")
        if self.top_k > math.isqrt(self.slots):
            raise UsageError(f"A head cannot read {self.top_k} slots of {math.isqrt(self.slots)} a half.")
        if self.key_width % 2:
            raise UsageError("A key has two halves: its width is an even number.")


class ReadSlots(torch.autograd.Function):
    """m [T, D] = sum over S of weight * V[slot]. The gradient of V is sparse, and of the `open_R` rows alone.

    None is given for the slots and their weights: where a token looks is not what a lesson teaches.
    """

    @staticmethod
    def forward(ctx: Any, values_ND: Tensor, slots_TS: Tensor, weights_TS: Tensor, open_R: Tensor) -> Tensor:
        ctx.save_for_backward(slots_TS, weights_TS, open_R)
        ctx.size = values_ND.shape
        return functional.embedding_bag(slots_TS, values_ND, mode="sum", per_sample_weights=weights_TS)

    @staticmethod
    def backward(ctx: Any, gradient_TD: Tensor) -> tuple[Tensor, None, None, None]:
        slots_TS, weights_TS, open_R = ctx.saved_tensors
        rows_RD = gathered(slots_TS, weights_TS, open_R, gradient_TD)
        return (
            torch.sparse_coo_tensor(open_R[None], rows_RD, ctx.size, is_coalesced=True, check_invariants=False),
            None,
            None,
            None,
        )


def gathered(slots_TS: Tensor, weights_TS: Tensor, rows_R: Tensor, vectors_TD: Tensor) -> Tensor:
    """[R, D]: for each of the rows, in rising order, the weighted sum of the vectors of the tokens that read it."""
    place_P = torch.searchsorted(rows_R, slots_TS.flatten())
    found_P = torch.nonzero(rows_R[place_P.clamp(max=len(rows_R) - 1)] == slots_TS.flatten()).flatten()
    place_P, order = place_P[found_P].sort(stable=True)
    reads_P = found_P[order]
    counts_R = torch.bincount(place_P, minlength=len(rows_R))
    return functional.embedding_bag(
        reads_P // slots_TS.shape[1],
        vectors_TD,
        offsets=counts_R.cumsum(0) - counts_R,
        mode="sum",
        per_sample_weights=weights_TS.flatten()[reads_P].to(vectors_TD.dtype),
    )


class ProductKeys(nn.Module):
    """Where a token looks, and what becomes of what it finds: W_q, b and K, W_g and W_o where a start has them. All frozen."""

    queries: Tensor
    offset: Tensor
    keys: Tensor
    gate: Tensor
    gate_offset: Tensor
    out: Tensor

    def __init__(self, shape: Shape, tensors: Mapping[str, Tensor]):
        super().__init__()
        self.shape, self.gated = shape, "gate" in tensors
        for name, tensor in tensors.items():  # no parameters: nothing casts or counts them among the model's
            self.register_buffer(name, tensor.float(), persistent=False)

    def look(self, x_TD: Tensor) -> tuple[Tensor, Tensor]:
        """The slots that each token reads, [T, S], and their weights, [T, S]; in float32 however learning multiplies."""
        s = self.shape
        with torch.autocast(x_TD.device.type, enabled=False):
            scores_PTHn = self.scores(x_TD)
            (best_THK, i1_THK), (other_THK, i2_THK) = (half_THn.topk(s.top_k) for half_THn in scores_PTHn)
            sums_THKK = (best_THK[..., :, None] + other_THK[..., None, :]).flatten(-2)
            found_THK, pair_THK = sums_THKK.topk(s.top_k)
            first, second = i1_THK.gather(-1, pair_THK // s.top_k), i2_THK.gather(-1, pair_THK % s.top_k)
            slots_THK = first * scores_PTHn.shape[-1] + second
            return slots_THK.flatten(1), torch.softmax(found_THK, -1).flatten(1)

    def scores(self, x_TD: Tensor) -> Tensor:
        """[2, T, H, n]: how well the halves of each head's query fit the halves of the keys."""
        s = self.shape
        q_THW = functional.linear(x_TD.float(), self.queries, self.offset).view(-1, s.heads, s.key_width)
        q_THPW = functional.layer_norm(q_THW, (s.key_width,)).view(-1, s.heads, 2, s.key_width // 2)
        return torch.einsum("thpw,hpnw->pthn", q_THPW, self.keys)

    def give(self, m_TD: Tensor, x_TD: Tensor) -> Tensor:
        """What leaves the memory when `m_TD` was found."""
        if not self.gated:
            return m_TD
        open_TD = functional.silu(functional.linear(x_TD.float(), self.gate, self.gate_offset))
        return functional.linear(m_TD * open_TD, self.out)


class Table(nn.Module):
    """V [N, D], zero at birth, and what each lesson wrote into it, in their order: of a row the last stands."""

    def __init__(self, slots: int, width: int, device: torch.device):
        super().__init__()
        self.values = nn.Parameter(torch.zeros(slots, width, device=device))
        self.writes: dict[
            str, tuple[Tensor, Tensor]
        ] = {}  # lesson -> rows [R] in rising order, and their values [R, D]
        self._open_N = torch.zeros(slots, dtype=torch.bool, device=device)  # since the last write was noted

    @torch.no_grad()
    def read(self, slots_TS: Tensor, weights_TS: Tensor) -> Tensor:
        return functional.embedding_bag(slots_TS, self.values, mode="sum", per_sample_weights=weights_TS)

    def read_to_write(self, slots_TS: Tensor, weights_TS: Tensor, open_R: Tensor) -> Tensor:
        """The same, with gradients for the open rows."""
        self._open_N[open_R] = True
        return cast(Tensor, ReadSlots.apply(self.values, slots_TS, weights_TS, open_R))  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def note(self, lesson: str) -> int:
        """What was open since the last time is what this lesson wrote; returns the number of rows."""
        if lesson in self.writes:
            self._open_N[self.writes.pop(lesson)[0]] = True
        rows_R = torch.nonzero(self._open_N).flatten()
        self.writes[lesson] = rows_R, self.values[rows_R].clone()
        self._open_N[rows_R] = False
        return len(rows_R)

    @torch.no_grad()
    def become(self, writes: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """Hold exactly what these lessons wrote, one after the other."""
        for rows_R, _ in self.writes.values():
            self._open_N[rows_R] = True
        self.values[self._open_N] = 0.0
        self._open_N.zero_()
        self.writes = dict(writes)
        for rows_R, values_RD in self.writes.values():
            self.values[rows_R] = values_RD

    @torch.no_grad()
    def forget(self, lesson: str) -> tuple[int, Tensor]:
        """Give every row of this lesson what it held before it; the number of rows, and those that later lessons share.

        What a later lesson left in a shared row stood upon this one, so it goes as well.
        """
        names, (rows_R, _) = list(self.writes), self.writes[lesson]
        earlier, later = names[: names.index(lesson)], names[names.index(lesson) + 1 :]
        before_RD = torch.zeros(len(rows_R), self.values.shape[1], device=self.values.device)
        for name in earlier:
            here, there = _meeting(rows_R, self.writes[name][0])
            before_RD[here] = self.writes[name][1][there]
        writes = {name: self.writes[name] for name in earlier}
        shared_R = torch.zeros(len(rows_R), dtype=torch.bool, device=rows_R.device)
        for name in later:
            values_RD = self.writes[name][1].clone()
            here, there = _meeting(rows_R, self.writes[name][0])
            values_RD[there], shared_R[here] = before_RD[here], True
            writes[name] = self.writes[name][0], values_RD
        self.become(writes)
        return len(rows_R), rows_R[shared_R]

    @torch.no_grad()
    def rewrite(self) -> None:
        """What was open since the last time is what those lessons wrote that had written it before."""
        for name, (rows_R, values_RD) in self.writes.items():
            again_R = self._open_N[rows_R]
            self.writes[name] = rows_R, torch.where(again_R[:, None], self.values[rows_R], values_RD)
        self._open_N.zero_()


def _meeting(one_R: Tensor, other_R: Tensor) -> tuple[Tensor, Tensor]:
    """Where the rows are that two lists in rising order have in common: in the one, and in the other."""
    here = torch.nonzero(torch.isin(one_R, other_R)).flatten()
    return here, torch.searchsorted(other_R, one_R[here])


class MemoryMLP(nn.Module):
    """F and m in the place of F."""

    def __init__(self, layer: int, frozen: nn.Module, product_keys: ProductKeys, table: Table):
        super().__init__()
        self.layer, self.frozen, self.product_keys, self.table = layer, frozen, product_keys, table
        self.on = True
        self.choose: Choose | None = None  # while a lesson writes

    def forward(self, x: Tensor) -> Tensor:
        y = cast(Tensor, self.frozen(x))
        if not self.on or (self.choose is None and not self.table.writes):
            return y
        x_TD = x.flatten(0, -2)
        slots_TS, weights_TS = self.product_keys.look(x_TD.detach())
        if self.choose is None or not torch.is_grad_enabled():
            m_TD = self.table.read(slots_TS, weights_TS)
        else:
            m_TD = self.table.read_to_write(slots_TS, weights_TS, self.choose(self.layer, slots_TS))
        return y + self.product_keys.give(m_TD, x_TD).view(x.shape).to(y.dtype)


class MemoryAdapter:
    """Memories beside the MLPs of the blocks at these shares of the depth, with a table each, or one for all.

    `start` says where they look: "LAYER/queries" [H * key_width, D], "LAYER/offset", "LAYER/keys" [H, 2, n, key_width / 2],
    and maybe "LAYER/gate" [D, D], "LAYER/gate_offset" and "LAYER/out" [D, D]; without it queries and keys are random.
    ModelError for an architecture that `anatomy` does not know, or a start of another shape.
    """

    def __init__(
        self,
        lm: LM,
        shape: Shape,
        depths: Sequence[float],
        *,
        shared: bool = False,
        seed: int = 0,
        start: Mapping[str, Tensor] = MappingProxyType({}),
    ):
        if lm.anatomy is None:
            raise ModelError(f'Models of type "{lm.model.config.model_type}" have no MLP that is known here.')
        _ = lm.digest  # of the base, whose modules change their names below
        self.lm, self.shape, layers = lm, shape, lm.anatomy.layers
        numbers = sorted({min(int(depth * len(layers)), len(layers) - 1) for depth in depths})
        width = lm.model.config.hidden_size
        found = {i: _of_start(start, i, shape, width) for i in numbers}
        self.started = any(found.values())
        self.first_layer = numbers[0]
        self.memories: dict[int, MemoryMLP] = {}
        tables = {i: Table(shape.slots, width, lm.device) for i in (numbers[:1] if shared else numbers)}
        for i in numbers:
            tensors = found[i] or at_random(shape, width, seed + i)
            product_keys = ProductKeys(shape, tensors).to(lm.device)
            table = tables.get(i, tables[numbers[0]])
            layers[i].mlp = self.memories[i] = MemoryMLP(i, layers[i].mlp, product_keys, table)
        self.tables = tables  # by the first layer that reads each

    def parameters(self) -> list[nn.Parameter]:
        return [table.values for table in self.tables.values()]

    # --- writing and reading ------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def off(self) -> Iterator[None]:
        """The base model answers inside."""
        before = [memory.on for memory in self.memories.values()]
        try:
            for memory in self.memories.values():
                memory.on = False
            yield
        finally:
            for memory, on in zip(self.memories.values(), before, strict=True):
                memory.on = on

    @contextlib.contextmanager
    def writing(self, choose: Choose) -> Iterator[None]:
        """Within it every pass with gradients has one for the rows that `choose` opens, and for nothing else."""
        try:
            for memory in self.memories.values():
                memory.choose = choose
            yield
        finally:
            for memory in self.memories.values():
                memory.choose = None

    @torch.no_grad()
    def looks(self, sequences: Sequence[batch.Sequence], batch_size: int = 16) -> Iterator[dict[int, list[Tensor]]]:
        """Batch by batch and layer by layer, the slots [T, S] that each of the sequences reads."""
        for start in range(0, len(sequences), batch_size):
            part = batch.collate(sequences[start : start + batch_size], self.lm.device, self.lm.pad)
            counts = part.mask_BT.sum(-1).tolist()
            with contextlib.ExitStack() as stack:
                entered = {i: stack.enter_context(entering_module(m)) for i, m in self.memories.items()}
                self.lm.prefix(part, max(self.memories) + 1)
            yield {
                i: list(torch.split(memory.product_keys.look(entered[i][0][part.mask_BT])[0], counts))
                for i, memory in self.memories.items()
            }

    def remove(self) -> None:
        """Give the model back as it was."""
        assert self.lm.anatomy is not None
        for i, memory in self.memories.items():
            self.lm.anatomy.layers[i].mlp = memory.frozen
        self.memories, self.tables = {}, {}

    # --- state --------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """For every table the lessons in their order, and for each the rows it wrote, [R], and what it wrote, [R, D]."""
        state: dict[str, Any] = {}
        for i, table in self.tables.items():
            state[f"{i}/lessons"] = list(table.writes)
            for lesson, (rows_R, values_RD) in table.writes.items():
                state |= {f"{i}/{lesson}/rows": rows_R, f"{i}/{lesson}/values": values_RD}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become exactly this; HistoryError for other layers or shapes, and then nothing changes."""
        found = {}
        for i, table in self.tables.items():
            lessons = state.get(f"{i}/lessons", [])
            found[i] = {lesson: _checked(state, f"{i}/{lesson}", table) for lesson in lessons}
        if len(state) != sum(1 + 2 * len(writes) for writes in found.values()):
            raise HistoryError("The saved state does not fit this model: its memories are in other layers.")
        for i, table in self.tables.items():
            table.become(found[i])


def at_random(shape: Shape, width: int, seed: int) -> dict[str, Tensor]:
    """Queries and keys that were never trained."""
    generator = torch.Generator().manual_seed(seed)
    across = shape.heads * shape.key_width
    keys = torch.rand(shape.heads, 2, math.isqrt(shape.slots), shape.key_width // 2, generator=generator) * 2 - 1
    return {
        "queries": torch.randn(across, width, generator=generator) / math.sqrt(width),
        "offset": torch.zeros(across),
        "keys": keys / math.sqrt(shape.key_width),
    }


def _of_start(start: Mapping[str, Tensor], layer: int, shape: Shape, width: int) -> dict[str, Tensor]:
    """What a start has for a layer; ModelError where that is of another shape."""
    found = {name.partition("/")[2]: t for name, t in start.items() if name.startswith(f"{layer}/")}
    found.pop("rate", None)
    across = shape.heads * shape.key_width
    wanted = {
        "queries": (across, width),
        "offset": (across,),
        "keys": (shape.heads, 2, math.isqrt(shape.slots), shape.key_width // 2),
        "gate": (width, width),
        "gate_offset": (width,),
        "out": (width, width),
    }
    if found and (set(found) - wanted.keys() or any(t.shape != wanted[name] for name, t in found.items())):
        raise ModelError(
            f"The start of the memories was trained for another shape than this (layer {layer}: {shape.slots:,} slots,"
            f" {shape.heads} heads, keys of {shape.key_width}, width {width}); the option start=none begins without it."
        )
    return found


def _checked(state: Mapping[str, Any], name: str, table: Table) -> tuple[Tensor, Tensor]:
    rows, values = state.get(f"{name}/rows"), state.get(f"{name}/values")
    fits = isinstance(rows, Tensor) and isinstance(values, Tensor) and rows.dtype == torch.int64 and rows.ndim == 1
    if not fits or values.shape != (len(rows), table.values.shape[1]):  # type: ignore[union-attr,arg-type]
        raise HistoryError("The saved state does not fit this model: its memories are of another shape.")
    if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(table.values):  # type: ignore[union-attr,arg-type]
        raise HistoryError("The saved state does not fit this model: it has slots that this memory has not.")
    device = table.values.device
    return rows.to(device, copy=True), values.to(device, copy=True)  # type: ignore[union-attr]
