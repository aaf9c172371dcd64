"""A table of rows V [N, D] of which lessons write few, and who wrote what. Ends at the rows of every lesson.

Rows lie one after the other in the order in which they were opened: a slot has a place among them, or none (-1) and holds
zeros, so that a table takes the memory of what was written. A step has a sparse gradient, of the open rows alone.

Shape suffixes: N slots, S slots a token, D width of a row, T tokens, R rows, P pairs of a token and a slot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from accrete.lm.allocator import untouched

Write = tuple[Tensor, Tensor]
"""Rows [R] in rising order, and what they hold [R, D]."""
NONE: Mapping[str, Write] = MappingProxyType({})


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

    `values` [N, D] begins with the rows that were opened, in that order; `place_N` says which of them is a slot's. `writes` is
    what each lesson wrote; `again` has those of its rows that hold something else since another was forgotten.
    """

    def __init__(self, slots: int, width: int, device: torch.device):
        super().__init__()
        self.values = nn.Parameter(untouched(slots, width, device=device))
        self.place_N = torch.full((slots,), -1, device=device)
        self.writes: dict[str, Write] = {}
        self.again: dict[str, Write] = {}
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
            self.again.pop(lesson, None)
        rows_R = torch.nonzero(self._open_N).flatten()
        self.writes[lesson] = rows_R, self.holds(rows_R)
        self._open_N[rows_R] = False
        return len(rows_R)

    def written(self, lesson: str) -> Write:
        """The rows of a lesson and what they are to hold after it."""
        rows_R, values_RD = self.writes[lesson]
        if lesson not in self.again:
            return rows_R, values_RD
        again_R, again_RD = self.again[lesson]
        return rows_R, values_RD.index_copy(0, torch.searchsorted(rows_R, again_R), again_RD)

    @torch.no_grad()
    def become(self, writes: Mapping[str, Write], again: Mapping[str, Write] = NONE) -> None:
        """Hold exactly what these lessons wrote, one after the other."""
        self.values[: self._held] = 0.0
        self.place_N.fill_(-1)
        self._held = 0
        self.writes, self.again = dict(writes), dict(again)
        for lesson in self.writes:
            rows_R, values_RD = self.written(lesson)
            self.open(rows_R)
            self.values[self.place_N[rows_R]] = values_RD
        self._open_N.zero_()

    @torch.no_grad()
    def forget(self, lesson: str) -> tuple[int, Tensor]:
        """Give every row of this lesson what it held before it; the number of rows, and those that later lessons share.

        What a later lesson left in a shared row stood upon this one, so it goes as well.
        """
        names, (rows_R, _) = list(self.writes), self.writes[lesson]
        before_RD = torch.zeros(len(rows_R), self.values.shape[1], device=self.values.device)
        for name in names[: names.index(lesson)]:
            theirs_R, values_RD = self.written(name)
            here, there = _meeting(rows_R, theirs_R)
            before_RD[here] = values_RD[there]
        shared_R = torch.zeros(len(rows_R), dtype=torch.bool, device=rows_R.device)
        for name in names[names.index(lesson) + 1 :]:
            here, _ = _meeting(rows_R, self.writes[name][0])
            shared_R[here] = True
            self._hold_again(name, (rows_R[here], before_RD[here]))
        del self.writes[lesson]
        self.again.pop(lesson, None)
        self.become(self.writes, self.again)
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
            rows_R = self.writes[name][0]
            open_R = rows_R[self._open_N[rows_R]]
            self._hold_again(name, (open_R, self.holds(open_R)))
        self._open_N.zero_()

    def _hold_again(self, lesson: str, write: Write) -> None:
        """From now on these rows of a lesson hold this after it."""
        if not len(write[0]):
            return
        old_R, old_RD = self.again.get(lesson, (write[0][:0], write[1][:0]))
        kept = ~torch.isin(old_R, write[0])
        rows_R, order = torch.cat([old_R[kept], write[0]]).sort()
        self.again[lesson] = rows_R, torch.cat([old_RD[kept], write[1]])[order]


def _meeting(one_R: Tensor, other_R: Tensor) -> tuple[Tensor, Tensor]:
    """Where the rows are that two lists in rising order have in common: in the one, and in the other."""
    here = torch.nonzero(torch.isin(one_R, other_R)).flatten()
    return here, torch.searchsorted(other_R, one_R[here])
