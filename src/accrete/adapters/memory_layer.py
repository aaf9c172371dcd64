"""A memory beside the MLP of some blocks (2412.09764, 1907.05242). Ends at the slots that lessons have written.

    y = F(x) + m(x)                  F: the block's own MLP, frozen
    slots, s                         where product keys look (product_keys.py)
    m = sum of softmax(s) V[slots]   over the slots of every head; with a gate: W_o (m * silu(W_g x + b_g))

V is zero at birth, so installing it changes no logit. Only rows of V are ever taught, and only those that a lesson has open:
their gradient is sparse, and a step costs what it touches, however many slots there are (memory_table.py).

Shape suffixes: S slots a token, D width of the model, T tokens, R rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Tensor, nn

from accrete.adapters.memory_table import Table
from accrete.adapters.product_keys import ProductKeys, Shape, at_random, looking_with, of_start
from accrete.errors import HistoryError, ModelError
from accrete.lm import batch
from accrete.lm.heard import Hearing, hearing_width
from accrete.lm.model import LM, weights_digest

Choose = Callable[[int, Tensor], Tensor]
"""(layer, the slots [T, S] that a batch reads there) -> the rows [R] that it may change, in rising order."""


class MemoryMLP(nn.Module):
    """F and m in the place of F. `hearing` is of its own block; None: it looks with the state alone."""

    def __init__(
        self, layer: int, frozen: nn.Module, product_keys: ProductKeys, table: Table, hearing: Hearing | None = None
    ):
        super().__init__()
        self.layer, self.frozen, self.product_keys, self.table = layer, frozen, product_keys, table
        self.hearing = hearing
        self.on = True
        self.choose: Choose | None = None  # while a lesson writes
        self.noted: list[Tensor] | None = None  # what it looked with, [T, Q], while that is asked for

    def forward(self, x: Tensor) -> Tensor:
        y = cast(Tensor, self.frozen(x))
        reads, x_TD = self.on and (self.choose is not None or bool(self.table.writes)), x.flatten(0, -2)
        if reads or self.noted is not None:
            z_TQ = looking_with(x_TD.detach(), self.hearing.now().flatten(0, -2) if self.hearing else None)
        if self.noted is not None:
            self.noted.append(z_TQ)  # who asks for it may ask for what was heard as well
        elif self.hearing:
            self.hearing.drop()
        if not reads:
            return y
        slots_TS, weights_TS = self.product_keys.look(z_TQ)
        if self.choose is None or not torch.is_grad_enabled():
            m_TD = self.table.read(slots_TS, weights_TS)
        else:
            m_TD = self.table.read_to_write(slots_TS, weights_TS, self.choose(self.layer, slots_TS))
        return y + self.product_keys.give(m_TD, x_TD).view(x.shape).to(y.dtype)


class MemoryAdapter:
    """Memories beside the MLPs of the blocks at these shares of the depth, with a table each, or one for all.

    `start` says where they look: "LAYER/queries" [H * key_width, Q], "LAYER/offset", "LAYER/keys" [H, 2, n, key_width / 2],
    maybe "LAYER/listen" [C], and maybe "LAYER/gate" [D, D], "LAYER/gate_offset" and "LAYER/out" [D, D]; without it queries
    and keys are random. With `hears`, and where the queries of a start are made for it, they look with what a token can
    hear as well as with its state.
    ModelError for an architecture that `anatomy` does not know, or a start of another shape.
    """

    def __init__(
        self,
        lm: LM,
        shape: Shape,
        depths: Sequence[float],
        *,
        hears: bool = False,
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
        heard = {i: hearing_width(lm.anatomy.attention(i)) for i in numbers if hears or _hears(start, i, width)}
        looks_with = {i: width + heard.get(i, 0) for i in numbers}
        found = {i: of_start(start, i, shape, width, looks_with[i]) for i in numbers}
        self.started = bool(start)
        self.first_layer = numbers[0]
        self.memories: dict[int, MemoryMLP] = {}
        tables = {i: Table(shape.slots, width, lm.device) for i in (numbers[:1] if shared else numbers)}
        for i in numbers:
            tensors = found[i] or at_random(shape, looks_with[i], seed + i)
            product_keys = ProductKeys(shape, tensors).to(lm.device)
            table = tables.get(i, tables[numbers[0]])
            hearing = Hearing(lm.anatomy.attention(i), product_keys.listen) if i in heard else None
            layers[i].mlp = self.memories[i] = MemoryMLP(i, layers[i].mlp, product_keys, table, hearing)
        self.tables = tables  # by the first layer that reads each
        self.table_of = {i: i if i in tables else self.first_layer for i in numbers}
        self._keys = {
            i: weights_digest(dict(memory.product_keys.named_buffers())) for i, memory in self.memories.items()
        }

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
    def looking_with(self, part: batch.Batch) -> dict[int, Tensor]:
        """Layer by layer what all tokens of a batch look with, [B * T, Q]."""
        try:
            for memory in self.memories.values():
                memory.noted = []
            self.lm.prefix(part, max(self.memories) + 1)
            return {i: memory.noted[0] for i, memory in self.memories.items() if memory.noted}
        finally:
            for memory in self.memories.values():
                memory.noted = None

    @torch.no_grad()
    def looks(self, sequences: Sequence[batch.Sequence], batch_size: int = 16) -> Iterator[dict[int, list[Tensor]]]:
        """Batch by batch and layer by layer, the slots [T, S] that each of the sequences reads."""
        for start in range(0, len(sequences), batch_size):
            part = batch.collate(sequences[start : start + batch_size], self.lm.device, self.lm.pad)
            counts, real_T = part.mask_BT.sum(-1).tolist(), part.mask_BT.flatten()
            yield {
                i: list(torch.split(self.memories[i].product_keys.look(z_TQ[real_T])[0], counts))
                for i, z_TQ in self.looking_with(part).items()
            }

    def remove(self) -> None:
        """Give the model back as it was."""
        assert self.lm.anatomy is not None
        for i, memory in self.memories.items():
            self.lm.anatomy.layers[i].mlp = memory.frozen
            if memory.hearing:
                memory.hearing.remove()
        self.memories, self.tables = {}, {}

    # --- state --------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """For every table the lessons in their order, and for each the rows it wrote, [R], and what it wrote, [R, D].

        Of rows that hold something else since a lesson was forgotten, that too: a commit has nothing else to store anew.
        And of every layer a digest of where it looks: rows mean nothing to a memory that looks elsewhere.
        """
        state: dict[str, Any] = {f"{i}/keys": digest for i, digest in self._keys.items()}
        for i, table in self.tables.items():
            state[f"{i}/lessons"] = list(table.writes)
            for lesson, (rows_R, values_RD) in table.writes.items():
                state |= {f"{i}/{lesson}/rows": rows_R, f"{i}/{lesson}/values": values_RD}
            for lesson, (rows_R, values_RD) in table.again.items():
                state |= {f"{i}/{lesson}/again/rows": rows_R, f"{i}/{lesson}/again/values": values_RD}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become exactly this; HistoryError for other layers or shapes, and then nothing changes."""
        found, again = {}, {}
        for i, table in self.tables.items():
            lessons = state.get(f"{i}/lessons", [])
            found[i] = {lesson: _checked(state, f"{i}/{lesson}", table) for lesson in lessons}
            changed = [lesson for lesson in lessons if f"{i}/{lesson}/again/rows" in state]
            again[i] = {lesson: _checked(state, f"{i}/{lesson}/again", table) for lesson in changed}
            if any(not torch.isin(again[i][lesson][0], found[i][lesson][0]).all() for lesson in changed):
                raise HistoryError("The saved state does not fit: rows were written again that nobody had written.")
        keys = {name: digest for name, digest in state.items() if name.endswith("/keys")}
        if keys.keys() != {f"{i}/keys" for i in self._keys} or len(state) != len(keys) + sum(
            1 + 2 * len(found[i]) + 2 * len(again[i]) for i in self.tables
        ):
            raise HistoryError("The saved state does not fit this model: its memories are in other layers.")
        if any(found.values()) and keys != {f"{i}/keys": digest for i, digest in self._keys.items()}:
            raise HistoryError(
                "The saved state was written by memories that look elsewhere: with another start, or another seed; give those,"
                " or begin anew with another home."
            )
        for i, table in self.tables.items():
            table.become(found[i], again[i])


def _hears(start: Mapping[str, Tensor], layer: int, width: int) -> bool:
    return f"{layer}/queries" in start and start[f"{layer}/queries"].shape[-1] > width


def _checked(state: Mapping[str, Any], name: str, table: Table) -> tuple[Tensor, Tensor]:
    rows, values = state.get(f"{name}/rows"), state.get(f"{name}/values")
    fits = isinstance(rows, Tensor) and isinstance(values, Tensor) and rows.dtype == torch.int64 and rows.ndim == 1
    if not fits or values.shape != (len(rows), table.values.shape[1]):  # type: ignore[union-attr,arg-type]
        raise HistoryError("The saved state does not fit this model: its memories are of another shape.")
    if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(table.values):  # type: ignore[union-attr,arg-type]
        raise HistoryError("The saved state does not fit this model: it has slots that this memory has not.")
    device = table.values.device
    return rows.to(device, copy=True), values.to(device, copy=True)  # type: ignore[union-attr]
