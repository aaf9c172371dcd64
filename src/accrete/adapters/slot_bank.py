"""A bank of slots, one for what a fact says: a low-rank change of some MLPs that only the rows reading it feel.

    y = F(x) + B_k (A x)      F: the block's own MLP, frozen
                              A [r, D]: random, frozen, the same for all slots
                              B_k [D, r] of the slot k that the row reads: zero at birth, all that a lesson teaches

Which slot a row reads is said from outside, row by row (`reading`): no softmax decides, and a row that reads none is the base
model's, bit for bit. A row reads one slot: where several facts are asked for, each is answered in its own row.

Why a low-rank change and no table of keys and values (memory_layer.py): who reads is known before the pass, so a slot need
not be found by what a token looks like, and every token of an answer must find all of it. With A shared (as in 2310.11454,
VeRA) a slot is one row of a table: lessons store and undo touched rows only, and rows of one batch read different slots in one
product. Ends at the rows that lessons wrote.

Shape suffixes: N slots, r rank, D width of the model, d = r * D, B rows, T tokens.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from accrete.adapters.memory_table import Table
from accrete.errors import HistoryError, ModelError
from accrete.lm.model import LM


class SlotMLP(nn.Module):
    """F with what the slot of each row adds."""

    def __init__(self, frozen: nn.Module, down_rD: Tensor, slots: int):
        super().__init__()
        self.frozen = frozen
        self.register_buffer("down_rD", down_rD, persistent=False)
        self.table = Table(slots, down_rD.numel(), down_rD.device)
        self.table.requires_grad_(False)
        self.slots_B: Tensor | None = None  # while rows read; -1 where a row reads none

    def forward(self, x: Tensor) -> Tensor:
        y = cast(Tensor, self.frozen(x))
        if self.slots_B is None:
            return y
        rank, width = cast(Tensor, self.down_rD).shape
        places_B = torch.where(self.slots_B < 0, -1, self.table.place_N[self.slots_B])
        values_Bd = functional.embedding(places_B.clamp(min=0), self.table.values, sparse=True)
        held_Bd = torch.where(places_B[:, None] < 0, 0.0, values_Bd)  # a slot that nobody has opened holds zeros
        up_BrD = held_Bd.view(-1, rank, width)
        z_BTr = x.to(up_BrD.dtype) @ cast(Tensor, self.down_rD).T
        return y + torch.bmm(z_BTr, up_BrD).to(y.dtype)


class SlotBank:
    """Slots beside the MLPs of the blocks at these shares of the depth. ModelError where `anatomy` does not know the model."""

    def __init__(self, lm: LM, slots: int, rank: int, depths: Sequence[float], seed: int = 0):
        if lm.anatomy is None:
            raise ModelError(f'Models of type "{lm.model.config.model_type}" have no MLP that is known here.')
        _ = lm.digest  # of the base, whose modules change their names below
        self.lm, self.slots, layers = lm, slots, lm.anatomy.layers
        numbers = sorted({min(int(depth * len(layers)), len(layers) - 1) for depth in depths})
        self.first_layer, width = numbers[0], lm.model.config.hidden_size
        self.mlps: dict[int, SlotMLP] = {}
        for i in numbers:
            drawn_rD = torch.randn(rank, width, generator=torch.Generator().manual_seed(seed + i)) / width**0.5
            layers[i].mlp = self.mlps[i] = SlotMLP(layers[i].mlp, drawn_rD.to(lm.device), slots)

    def parameters(self) -> list[nn.Parameter]:
        return [mlp.table.values for mlp in self.mlps.values()]

    # --- reading and writing --------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def reading(self, slots: Sequence[int | None]) -> Iterator[None]:
        """Within it each row of a batch reads this slot of its own, or none."""
        slots_B = torch.tensor([-1 if slot is None else slot for slot in slots], device=self.lm.device)
        try:
            for mlp in self.mlps.values():
                mlp.slots_B = slots_B
            yield
        finally:
            for mlp in self.mlps.values():
                mlp.slots_B = None

    @contextlib.contextmanager
    def writing(self, slots: Collection[int]) -> Iterator[None]:
        """Within it those of these slots that a pass reads have a gradient."""
        opened_R = torch.tensor(sorted(slots), dtype=torch.int64, device=self.lm.device)
        try:
            for mlp in self.mlps.values():
                mlp.table.open(opened_R)
                mlp.table.requires_grad_(True)
            yield
        finally:
            for mlp in self.mlps.values():
                mlp.table.requires_grad_(False)

    def note(self, lesson: str, slots: Sequence[int]) -> None:
        """What these slots hold now is what this lesson wrote."""
        for mlp in self.mlps.values():
            mlp.table.open(torch.tensor(sorted(slots), dtype=torch.int64, device=self.lm.device))
            mlp.table.note(lesson)

    def forget(self, lesson: str, heirs: Mapping[str, Sequence[int]]) -> None:
        """Empty the slots of a lesson, but for those that another lesson takes over, as they are."""
        for mlp in self.mlps.values():
            mlp.table.hand_on(lesson, heirs)

    def remove(self) -> None:
        """Give the model back as it was."""
        assert self.lm.anatomy is not None
        for i, mlp in self.mlps.items():
            self.lm.anatomy.layers[i].mlp = mlp.frozen
        self.mlps = {}

    # --- state ----------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The lessons in their order, and of each, for every layer, the slots it wrote [R] and what they hold [R, r * D]."""
        first = next(iter(self.mlps.values()))
        state: dict[str, Any] = {"lessons": list(first.table.writes)}
        for i, mlp in self.mlps.items():
            for lesson, (rows_R, values_RD) in mlp.table.writes.items():
                state |= {f"{i}/{lesson}/slots": rows_R, f"{i}/{lesson}/values": values_RD}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become exactly this; HistoryError for other layers or shapes, and then nothing changes."""
        lessons, found = state.get("lessons", []), {}
        saved = {int(name.partition("/")[0]) for name in state if "/" in name}
        if saved and saved != set(self.mlps):
            raise HistoryError(
                f"The saved slots stand beside other blocks: --set layers={_depths(saved, self.lm.layers)} opens them."
            )
        if state and len(state) - 1 != 2 * len(lessons) * len(self.mlps):
            raise HistoryError("The saved state does not fit this model: some of its slots are missing.")
        for i, mlp in self.mlps.items():
            found[i] = {lesson: self._checked(state, f"{i}/{lesson}", mlp.table) for lesson in lessons}
        for i, mlp in self.mlps.items():
            mlp.table.become(found[i])

    def _checked(self, state: Mapping[str, Any], name: str, table: Table) -> tuple[Tensor, Tensor]:
        rows, values = state.get(f"{name}/slots"), state.get(f"{name}/values")
        fits = isinstance(rows, Tensor) and isinstance(values, Tensor) and rows.dtype == torch.int64 and rows.ndim == 1
        if not fits or values.shape != (len(rows), table.values.shape[1]):  # type: ignore[union-attr,arg-type]
            raise HistoryError("The saved state does not fit this model: its slots are of another shape.")
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < self.slots:  # type: ignore[union-attr,arg-type]
            raise HistoryError("The saved state does not fit this model: it has slots that this bank has not.")
        return rows.to(self.lm.device, copy=True), values.to(self.lm.device, copy=True)  # type: ignore[union-attr]


def _depths(blocks: Collection[int], of: int) -> str:
    """The option `layers` that has slots beside these blocks."""
    return ",".join(f"{math.ceil(1000 * block / of) / 1000:g}" for block in sorted(blocks))
