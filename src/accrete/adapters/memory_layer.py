"""A memory beside the MLP of some blocks (2412.09764, 1907.05242). Ends at the slots that lessons have written.

    y = F(x) + m(x)                  F: the block's own MLP, frozen
    slots, s                         where product keys look (product_keys.py)
    m = sum of softmax(s) V[slots]   over the slots of every head; with a gate: W_o (m * silu(W_g x + b_g))

V is zero at birth, so installing it changes no logit. Only rows of V are ever taught, and only those that a lesson has open:
their gradient is sparse, and a step costs what it touches, however many slots there are. Rows lie one after the other in the
order in which they were opened: a slot has a place among them, or none (-1) and holds zeros.

Shape suffixes: N slots, S slots a token, D width of the model, T tokens, R rows, P pairs of a token and a slot.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from accrete.adapters.product_keys import ProductKeys, Shape, at_random, looking_with, of_start
from accrete.errors import HistoryError, ModelError
from accrete.lm import batch
from accrete.lm.allocator import untouched
from accrete.lm.heard import Hearing, hearing_width
from accrete.lm.model import LM, weights_digest

Choose = Callable[[int, Tensor], Tensor]
"""(layer, the slots [T, S] that a batch reads there) -> the rows [R] that it may change, in rising order."""


class ReadSlots(torch.autograd.Function):
    """m [T, D] = sum over S of weight * V[place]. The gradient of V is sparse, and of the `open_R` places alone.

    None is given for the places and their weights: where a token looks is not what a lesson teaches.
    """

    @staticmethod
    def forward(ctx: Any, values_ND: Tensor, places_TS: Tensor, weights_TS: Tensor, open_R: Tensor) -> Tensor:
        ctx.save_for_backward(places_TS, weights_TS, open_R)
        ctx.size = values_ND.shape
        return found(values_ND, places_TS, weights_TS)

    @staticmethod
    def backward(ctx: Any, gradient_TD: Tensor) -> tuple[Tensor, None, None, None]:
        places_TS, weights_TS, open_R = ctx.saved_tensors
        rows_RD = gathered(places_TS, weights_TS, open_R, gradient_TD)
        gradient_ND = torch.sparse_coo_tensor(
            open_R[None], rows_RD, ctx.size, is_coalesced=True, check_invariants=False
        )
        return gradient_ND, None, None, None


def found(values_ND: Tensor, places_TS: Tensor, weights_TS: Tensor) -> Tensor:
    """[T, D]: the weighted sums of the rows that have a place. The others are zero and are not fetched."""
    held_TS = places_TS >= 0
    counts_T = held_TS.sum(1)
    return functional.embedding_bag(
        places_TS[held_TS],
        values_ND,
        offsets=counts_T.cumsum(0) - counts_T,
        mode="sum",
        per_sample_weights=weights_TS[held_TS],
    )


def gathered(places_TS: Tensor, weights_TS: Tensor, rows_R: Tensor, vectors_TD: Tensor) -> Tensor:
    """[R, D]: for each of the places, in rising order, the weighted sum of the vectors of the tokens that read there."""
    if not len(rows_R):
        return vectors_TD.new_zeros(0, vectors_TD.shape[1])
    which_P = torch.searchsorted(rows_R, places_TS.flatten())
    found_P = torch.nonzero(rows_R[which_P.clamp(max=len(rows_R) - 1)] == places_TS.flatten()).flatten()
    which_P, order = which_P[found_P].sort(stable=True)
    reads_P = found_P[order]
    counts_R = torch.bincount(which_P, minlength=len(rows_R))
    return functional.embedding_bag(
        reads_P // places_TS.shape[1],
        vectors_TD,
        offsets=counts_R.cumsum(0) - counts_R,
        mode="sum",
        per_sample_weights=weights_TS.flatten()[reads_P].to(vectors_TD.dtype),
    )


class Table(nn.Module):
    """V, zero at birth, and what each lesson wrote into it, in their order: of a row the last stands.

    `values` [N, D] begins with the rows that were opened, in that order; `place_N` says which of them is a slot's.
    """

    def __init__(self, slots: int, width: int, device: torch.device):
        super().__init__()
        self.values = nn.Parameter(untouched(slots, width, device=device))
        self.place_N = torch.full((slots,), -1, device=device)
        self.writes: dict[
            str, tuple[Tensor, Tensor]
        ] = {}  # lesson -> rows [R] in rising order, and their values [R, D]
        self._held = 0  # rows that have a place: they may be other than zero
        self._open_N = torch.zeros(slots, dtype=torch.bool, device=device)  # since the last write was noted

    @torch.no_grad()
    def read(self, slots_TS: Tensor, weights_TS: Tensor) -> Tensor:
        return found(self.values, self.place_N[slots_TS], weights_TS)

    def read_to_write(self, slots_TS: Tensor, weights_TS: Tensor, open_R: Tensor) -> Tensor:
        """The same, with gradients for the open rows."""
        self.open(open_R)
        places_R = self.place_N[open_R].sort().values
        found_TD = ReadSlots.apply(self.values, self.place_N[slots_TS], weights_TS, places_R)  # type: ignore[no-untyped-call]
        return cast(Tensor, found_TD)

    @torch.no_grad()
    def holds(self, rows_R: Tensor) -> Tensor:
        """[R, D]: what these rows hold now."""
        places_R = self.place_N[rows_R]
        return self.values[places_R.clamp(min=0)] * (places_R >= 0)[:, None]

    def open(self, rows_R: Tensor) -> None:
        """These may be written from now on."""
        new_R = rows_R[self.place_N[rows_R] < 0]
        self.place_N[new_R] = torch.arange(self._held, self._held + len(new_R), device=new_R.device)
        self._held += len(new_R)
        self._open_N[rows_R] = True

    @torch.no_grad()
    def note(self, lesson: str) -> int:
        """What was open since the last time is what this lesson wrote; returns the number of rows."""
        if lesson in self.writes:
            self._open_N[self.writes.pop(lesson)[0]] = True
        rows_R = torch.nonzero(self._open_N).flatten()
        self.writes[lesson] = rows_R, self.holds(rows_R)
        self._open_N[rows_R] = False
        return len(rows_R)

    @torch.no_grad()
    def become(self, writes: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """Hold exactly what these lessons wrote, one after the other."""
        self.values[: self._held] = 0.0
        self.place_N.fill_(-1)
        self._held = 0
        self.writes = dict(writes)
        for rows_R, values_RD in self.writes.values():
            self.open(rows_R)
            self.values[self.place_N[rows_R]] = values_RD
        self._open_N.zero_()

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
    def hand_on(self, lesson: str, heirs: Mapping[str, Sequence[int]]) -> None:
        """Forget a lesson whose rows no other wrote; those that an heir takes over stay as they are, as the heir's."""
        rows_R, values_RD = self.writes[lesson]
        writes = {name: write for name, write in self.writes.items() if name != lesson}
        for heir, rows in heirs.items():
            of_heir_R = torch.isin(rows_R, torch.tensor(list(rows), dtype=torch.int64, device=rows_R.device))
            own_R, own_RD = writes.get(heir, (rows_R[:0], values_RD[:0]))
            all_R, order = torch.cat([own_R, rows_R[of_heir_R]]).sort()
            writes[heir] = all_R, torch.cat([own_RD, values_RD[of_heir_R]])[order]
        self.become(writes)

    @torch.no_grad()
    def rewrite(self, lesson: str) -> None:
        """Of its rows those that were open since the last time now hold what it wrote, and so they do for lessons after it."""
        names = list(self.writes)
        for name in names[names.index(lesson) :]:
            rows_R, values_RD = self.writes[name]
            again_R = self._open_N[rows_R]
            self.writes[name] = rows_R, torch.where(again_R[:, None], self.holds(rows_R), values_RD)
        self._open_N.zero_()


def _meeting(one_R: Tensor, other_R: Tensor) -> tuple[Tensor, Tensor]:
    """Where the rows are that two lists in rising order have in common: in the one, and in the other."""
    here = torch.nonzero(torch.isin(one_R, other_R)).flatten()
    return here, torch.searchsorted(other_R, one_R[here])


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

        And of every layer a digest of where it looks: rows mean nothing to a memory that looks elsewhere.
        """
        state: dict[str, Any] = {f"{i}/keys": digest for i, digest in self._keys.items()}
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
        keys = {name: digest for name, digest in state.items() if name.endswith("/keys")}
        if keys.keys() != {f"{i}/keys" for i in self._keys} or len(state) != len(keys) + sum(
            1 + 2 * len(writes) for writes in found.values()
        ):
            raise HistoryError("The saved state does not fit this model: its memories are in other layers.")
        if any(found.values()) and keys != {f"{i}/keys": digest for i, digest in self._keys.items()}:
            raise HistoryError(
                "The saved state was written by memories that look elsewhere: with another start, or another seed; give those,"
                " or begin anew with another home."
            )
        for i, table in self.tables.items():
            table.become(found[i])


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
