"""An inverted file of unit vectors by faiss, on disk or in memory. Ends at the numbers of the vectors that it finds.

Vectors lie in lists, each about a centre; a question looks into the lists whose centres are nearest to it. Vectors are kept
as they are handed in, in float16, so that cosines are exact and only what lies in another list can be missed. Cues are hardly
clustered: a quarter of all lists must be looked into to find 98 in 100 of the eight nearest (61 of the nearest 64).

    folder/nearest-<sha256>.faiss   the file, named by its content, mapped when it is read
    folder/nearest.json             which one counts, and what it covers: of each document name, vectors, sha256 of them

Both can be made anew from the vectors. What is damaged, or covers what is not there, is not used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from accrete.files import write_atomically
from accrete.lm.model import weights_digest
from accrete.retrieval.vectors import Vectors, same

LISTS = 4  # times the root of the number of vectors
PROBED = 0.25  # of the lists
SAMPLE, ROUNDS = 39, 5  # vectors a list by which the centres are found, and how often they are looked at
AT_ONCE = 16_384  # vectors that are put in at once
_SCHEMA, _TABLE = 1, "nearest.json"
# What a damaged file may raise; RuntimeError is faiss's.
_BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, RecursionError)
_Table = dict[str, tuple[int, str]]  # document -> how many vectors it has, their digest


def faiss() -> Any:
    """The module, with as many threads as torch has; None where the extra is not installed."""
    try:
        import faiss as module
    except ImportError:
        return None
    module.omp_set_num_threads(torch.get_num_threads())
    return module


class Inverted:
    """An index with the vectors of some documents, in their order.

    Of the vectors that there are now, `held` are those that it covers, as they were when it was built. It leaves out, exactly,
    what else is in it. `beside` are the others, and `beside_I` their numbers.
    """

    def __init__(self, index: Any, covered: Vectors):
        self._index, self._names = index, list(covered.of)
        self._sizes_P, self._firsts_P = covered.sizes_P, covered.firsts_P
        self._now = self.held = covered
        self._arrange(covered)

    def follow(self, vectors: Vectors) -> None:
        """Take notice of the vectors that there are now. What is gone, or has changed, stays out for good."""
        if vectors is not self._now:
            now = vectors.of
            self.held = Vectors({n: now[n] for n, one in self.held.of.items() if n in now and same(one, now[n])})
            self._arrange(vectors)

    def _arrange(self, vectors: Vectors) -> None:
        firsts = dict(zip(vectors.of, vectors.firsts_P.tolist(), strict=True))
        self._shift_P = torch.tensor([firsts.get(name, 0) for name in self._names]) - self._firsts_P
        self.beside = vectors.but(self.held.of)
        self.beside_I = torch.nonzero(vectors.of_documents(self.beside.of))[:, 0]
        self._now = vectors

    def covers_only(self, vectors: Vectors) -> bool:
        """Whether there is nothing in it but of these."""
        self.follow(vectors)
        return len(self.held.of) == len(self._names)

    def search(self, asked_QD: Tensor, count: int, without: Collection[str] = ()) -> tuple[Tensor, Tensor]:
        """Cosines [Q, C] and numbers [Q, C] of the nearest, the best first; -1 where the lists had no more."""
        module, selected = faiss(), None
        if without or len(self.held.of) < len(self._names):
            wanted_P = torch.tensor([name in self.held.of and name not in without for name in self._names])
            wanted_I = wanted_P.repeat_interleave(self._sizes_P)
            selected = module.IDSelectorBitmap(np.packbits(wanted_I.numpy(), bitorder="little"))
        parameters = module.SearchParametersIVF(nprobe=max(1, round(PROBED * self._index.nlist)), sel=selected)
        asked = np.ascontiguousarray(asked_QD.float().cpu().numpy())
        cosines_QC, rows_QC = map(torch.from_numpy, self._index.search(asked, count, params=parameters))
        owners_QC = torch.searchsorted(self._firsts_P, rows_QC.clamp(min=0), right=True) - 1
        return cosines_QC, torch.where(rows_QC < 0, -1, rows_QC + self._shift_P[owners_QC])


def build(vectors: Vectors, folder: Path | None) -> Inverted:
    """An index of all of these: a file in the folder, or in memory where there is none or it cannot be written."""
    module = faiss()
    width, lists = next(iter(vectors.of.values())).shape[1], min(len(vectors), round(LISTS * math.sqrt(len(vectors))))
    centres, kind = module.IndexFlatIP(width), module.ScalarQuantizer.QT_fp16
    index = module.IndexIVFScalarQuantizer(centres, width, lists, kind, module.METRIC_INNER_PRODUCT, False)
    index.cp.spherical, index.cp.niter = True, ROUNDS
    index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 1, SAMPLE
    every = max(1, len(vectors) // (lists * SAMPLE))
    index.train(torch.cat([one[::every] for one in vectors.of.values()]).float().numpy())
    for _, block_ID in vectors.blocks(AT_ONCE):
        index.add(block_ID.numpy())
    if folder is not None:
        try:
            return Inverted(_save(index, vectors, folder), vectors)
        except (OSError, RuntimeError):  # the disk is full, say
            delete(folder)
    return Inverted(index, vectors)


def load(folder: Path, vectors: Vectors) -> Inverted | None:
    """The file of a folder, where it covers documents of these alone; else None."""
    try:
        name, table = _read_table(folder)
        if faiss() is None or not _within(table, vectors) or name != _digest(folder / _file(name)):
            return None
        index = _open(folder / _file(name))
        covered = Vectors({document: vectors.of[document] for document in table})
        return Inverted(index, covered) if index.ntotal == len(covered) else None
    except _BROKEN:
        return None


def delete(folder: Path, unless_within: Vectors | None = None) -> None:
    """Delete the files of a folder, unless they cover documents of these alone."""
    try:
        keep = unless_within is not None and _within(_read_table(folder)[1], unless_within)
    except _BROKEN:
        keep = False
    if not keep:
        _clear(folder, but="")


def _save(index: Any, vectors: Vectors, folder: Path) -> Any:
    """Write the index and what it covers; the index as it is read again, mapped."""
    module = faiss()
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / "nearest.new"
    write_atomically(new, lambda temporary: module.write_index(index, str(temporary)))
    name = _digest(new)
    new.replace(folder / _file(name))
    covered = [[document, len(one), weights_digest({"": one})] for document, one in vectors.of.items()]
    table = json.dumps({"schema": _SCHEMA, "sha256": name, "documents": covered})

    def write(temporary: Path) -> None:
        temporary.write_text(table, "utf-8")

    write_atomically(folder / _TABLE, write)
    _clear(folder, but=name)
    return _open(folder / _file(name))


def _open(path: Path) -> Any:
    module = faiss()
    index = module.read_index(str(path), module.IO_FLAG_MMAP | module.IO_FLAG_READ_ONLY)
    module.downcast_InvertedLists(index.invlists).prefetch_nthread = 0  # else every question starts threads
    return index


def _read_table(folder: Path) -> tuple[str, _Table]:
    """The name of the file, and what it covers. Raises one of _BROKEN."""
    table = json.loads((folder / _TABLE).read_text("utf-8"))
    if table["schema"] != _SCHEMA:
        raise ValueError("another version wrote it")
    return str(table["sha256"]), {str(name): (int(size), str(digest)) for name, size, digest in table["documents"]}


def _within(table: _Table, vectors: Vectors) -> bool:
    """Whether every document of the table is among these, with the same vectors."""
    if not all(name in vectors.of and len(vectors.of[name]) == size for name, (size, _) in table.items()):
        return False
    return all(weights_digest({"": vectors.of[name]}) == digest for name, (_, digest) in table.items())


def _file(name: str) -> str:
    return f"nearest-{name}.faiss"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _clear(folder: Path, but: str) -> None:
    """Delete every file of ours but the one of this name and the table that names it; also what a crash left."""
    kept = {_file(but), _TABLE} if but else set()
    for path in (*folder.glob("nearest*"), *folder.glob(".nearest*")):
        if path.name not in kept:
            with contextlib.suppress(OSError):  # read-only, or open on a system that minds
                path.unlink()
