"""Vectors that stay with their documents, and what number each has among all of them. Ends at numbers and blocks."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor


class Vectors:
    """Of each document its vectors [I, D], in float16 on the CPU. A vector's number is its place among all, in this order."""

    def __init__(self, of: Mapping[str, Tensor]):
        self.of = of
        self.sizes_P = torch.tensor([len(one) for one in of.values()], dtype=torch.long)
        self.firsts_P = self.sizes_P.cumsum(0) - self.sizes_P
        self._size = int(self.sizes_P.sum())

    def __len__(self) -> int:
        return self._size

    def count(self, without: Collection[str]) -> int:
        """How many there are in other documents than these."""
        return self._size - sum(len(self.of[name]) for name in without if name in self.of)

    def but(self, left_out: Collection[str]) -> Vectors:
        """Those of the other documents."""
        return Vectors({name: one for name, one in self.of.items() if name not in left_out})

    def of_documents(self, names: Collection[str]) -> Tensor:
        """[I], by number: whether a vector is of one of these documents."""
        return torch.tensor([name in names for name in self.of], dtype=torch.bool).repeat_interleave(self.sizes_P)

    def blocks(self, size: int, without: Collection[str] = ()) -> Iterator[tuple[Tensor, Tensor]]:
        """(numbers [B], vectors [B, D] in float32), at most `size` at once; what is given holds until the next one is."""
        block_ID, used, numbers = torch.empty(0, 0), 0, list[Tensor]()
        for first, piece_ID in self._pieces(size, without):
            if not numbers:
                block_ID = block_ID if len(block_ID) else torch.empty(size, piece_ID.shape[1])
            elif used + len(piece_ID) > size:
                yield torch.cat(numbers), block_ID[:used]
                used, numbers = 0, []
            block_ID[used : used + len(piece_ID)] = piece_ID
            numbers.append(torch.arange(first, first + len(piece_ID)))
            used += len(piece_ID)
        if used:
            yield torch.cat(numbers), block_ID[:used]

    def _pieces(self, size: int, without: Collection[str]) -> Iterator[tuple[int, Tensor]]:
        for (name, one), first in zip(self.of.items(), self.firsts_P.tolist(), strict=True):
            if name not in without:
                for start in range(0, len(one), size):
                    yield first + start, one[start : start + size]


def same(one: Tensor, other: Tensor) -> bool:
    """Whether nothing differs."""
    return one is other or (one.shape == other.shape and torch.equal(one, other))
