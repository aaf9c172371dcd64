"""The nearest of many unit vectors: exactly, or through an inverted file where there are very many. Ends at numbers.

fewer than MANY                all are compared at once, in float32
more, faiss (extra `search`)   those in the inverted file through it (inverted.py), those that came since exactly
more, without                  all are compared, block by block, where they lie
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor

from accrete.retrieval import inverted
from accrete.retrieval.inverted import Inverted
from accrete.retrieval.vectors import Vectors

MANY = 200_000  # vectors; fewer are compared in some ten milliseconds
AT_ONCE = 16_384  # that are read at once where there are more
BESIDE = 0.25  # of all vectors: when more than that is not in the inverted file, it is built anew
Found = tuple[Tensor, Tensor]
"""Of each question the cosines of the nearest [Q, C] and their numbers [Q, C] (on the CPU), the best first."""


class Nearest:
    """Finds the vectors nearest to others among those that it is handed; what it keeps is derived from them.

    `folder` is where the inverted file may lie; without it there is one in memory. Who adds vectors calls `keep_up`, and only
    that builds one: it takes a minute. Who merely searches uses what is there.
    """

    def __init__(self, device: torch.device):
        self.folder: Path | None = None
        self._device = device
        self._all, self._beside = Exact(device), Exact(device)
        self._inverted: Inverted | None = None
        self._looked: Vectors | None = None  # those for which a file was looked for

    def search(self, asked_QD: Tensor, vectors: Vectors, count: int, without: Collection[str] = ()) -> Found:
        """The `count` nearest, or as many as there are, in documents other than those `without`."""
        index, count = self._usable(vectors), min(count, vectors.count(without))
        if index is not None and index.held.count(without) >= MANY:
            found = self._through(index, asked_QD, count, without)
            if bool((found[1] >= 0).all()):
                return found
        return self._all.search(asked_QD, vectors, count, without)

    def keep_up(self, vectors: Vectors) -> None:
        """Build the inverted file, or build it anew, where that is due."""
        index = self._usable(vectors)
        if len(vectors) < MANY or inverted.faiss() is None:
            return
        if index is None or len(index.beside) > BESIDE * len(vectors):
            self._inverted = index = None  # two at once need not be in memory
            self._inverted = inverted.build(vectors, self.folder)

    def tidy(self, vectors: Vectors) -> None:
        """Delete an inverted file that covers what is not among these vectors."""
        if self._inverted is not None and self._inverted.covers_only(vectors):
            return
        self._inverted = None
        if self.folder is not None:
            inverted.delete(self.folder, unless_within=vectors)

    def _usable(self, vectors: Vectors) -> Inverted | None:
        """The inverted file that there is for these vectors, in memory or in the folder; None for few of them."""
        if len(vectors) < MANY:
            return None
        if self._inverted is not None:
            self._inverted.follow(vectors)
        left = len(vectors if self._inverted is None else self._inverted.beside)
        if vectors is not self._looked and left > BESIDE * len(vectors) and self.folder is not None:
            self._looked = vectors
            found = inverted.load(self.folder, vectors)
            if found is not None and len(vectors) - len(found.held) < left:
                self._inverted = found
                found.follow(vectors)
        return self._inverted

    def _through(self, index: Inverted, asked_QD: Tensor, count: int, without: Collection[str]) -> Found:
        """The nearest by the inverted file, and of what is beside it. The number -1 stands where they are too few."""
        cosines_QC, numbers_QC = index.search(asked_QD, count, without)
        found = cosines_QC.to(self._device), numbers_QC
        if index.beside.count(without):
            cosines_QC, places_QC = self._beside.search(asked_QD, index.beside, count, without)
            found = _better(found, (cosines_QC, index.beside_I[places_QC]), count)
        return found


class Exact:
    """Every vector is compared: fewer than MANY are kept side by side in float32, more are read where they lie."""

    def __init__(self, device: torch.device):
        self._device = device
        self._joined: tuple[Vectors, Tensor] | None = None

    def search(self, asked_QD: Tensor, vectors: Vectors, count: int, without: Collection[str] = ()) -> Found:
        """As in Nearest."""
        count = min(count, vectors.count(without))
        if len(vectors) < MANY:
            cosines_QI = asked_QD @ self._side_by_side(vectors).T
            if without:
                cosines_QI.masked_fill_(vectors.of_documents(without).to(self._device), -torch.inf)
            cosines_QC, numbers_QC = cosines_QI.topk(count, dim=-1)
            return cosines_QC, numbers_QC.cpu()
        self._joined = None
        best = asked_QD.new_zeros(len(asked_QD), 0), torch.zeros(len(asked_QD), 0, dtype=torch.long)
        for numbers_I, block_ID in vectors.blocks(AT_ONCE, without):
            cosines_QI = asked_QD @ block_ID.to(self._device).T
            cosines_QC, places_QC = cosines_QI.topk(min(count, len(block_ID)), dim=-1)
            best = _better(best, (cosines_QC, numbers_I[places_QC.cpu()]), count)
        return best

    def _side_by_side(self, vectors: Vectors) -> Tensor:
        """All of them [I, D] in float32; what was there before is not converted again."""
        if self._joined is None or self._joined[0] is not vectors:
            before = self._parts()
            parts = [
                before[name][1] if name in before and before[name][0] is one else one.to(self._device, torch.float32)
                for name, one in vectors.of.items()
            ]
            self._joined = vectors, torch.cat(parts)
        return self._joined[1]

    def _parts(self) -> dict[str, tuple[Tensor, Tensor]]:
        """document -> its vectors as they were handed in, and as they are kept."""
        if self._joined is None:
            return {}
        vectors, joined_ID = self._joined
        parts = torch.split(joined_ID, vectors.sizes_P.tolist())
        return {name: (one, part) for (name, one), part in zip(vectors.of.items(), parts, strict=True)}


def _better(one: Found, other: Found, count: int) -> Found:
    """The best of both."""
    cosines_QC, numbers_QC = (torch.cat(pair, dim=1) for pair in zip(one, other, strict=True))
    cosines_QC, places_QC = cosines_QC.topk(min(count, cosines_QC.shape[1]), dim=-1)
    return cosines_QC, numbers_QC.gather(1, places_QC.cpu())
