"""Rows of token ids for `embedded.py`: the real ones in compressed shards, the world's in chunks made by many processes.

Both are [rows, length] of uint16. Which rows are due depends on how many were read before and on nothing else, so that a
run that was interrupted, or lost its machine, goes on where it stood. Ends at arrays; knows no torch.
"""

from __future__ import annotations

import functools
import io
import itertools
import lzma
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy
from tokenizers import Tokenizer

from accrete.data.corpus import WorldCorpus
from accrete.data.packing import pack
from accrete.errors import UsageError
from accrete.files import write_atomically
from accrete.lm.tokenizer import END_OF_TEXT

if TYPE_CHECKING:
    from accrete.recipe import TextConfig  # it brings torch, which the many processes need not

DOCUMENTS_AT_ONCE = 500
# 16-bit numbers: what a byte means depends on whether its place is even.
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9, "lc": 3, "lp": 1, "pb": 1}]


def packed(documents: Iterable[str], tokenizer: Tokenizer, length: int) -> Iterator[list[int]]:
    """Rows of `length` ids of whole documents (`data/packing.py`)."""
    texts = iter(documents)
    batches = iter(lambda: list(itertools.islice(texts, DOCUMENTS_AT_ONCE)), [])
    encoded = (found.ids for batch in batches for found in tokenizer.encode_batch(batch, add_special_tokens=False))
    end = tokenizer.token_to_id(END_OF_TEXT)
    assert end is not None, "a tokenizer of ours has it"
    return pack(encoded, length, end)


# --- real rows: compressed where the data is, carried, opened where they are read -------------------------------------


def compressed(rows: Sequence[Sequence[int]]) -> bytes:
    array = io.BytesIO()
    numpy.save(array, numpy.array(rows, dtype="uint16"))
    return lzma.compress(array.getvalue(), filters=FILTERS)


def write_shards(rows: Iterator[list[int]], name: str, shard_rows: int, room: dict[Path, int]) -> int:
    """Shards NAME-00.xz, ... of `shard_rows` rows, each in the first folder that has room for it, until none has.

    `room` says how many bytes each folder may still take, and is counted down. Returns how many rows were written.
    """
    for folder in room:
        for old in folder.glob(f"{name}-*.xz"):
            old.unlink()
    written = 0
    for number in itertools.count():
        shard = list(itertools.islice(rows, shard_rows))
        data = compressed(shard)
        folders = [folder for folder, left in room.items() if left >= len(data)]
        if not shard or not folders:
            return written
        folders[0].mkdir(parents=True, exist_ok=True)
        (folders[0] / f"{name}-{number:02}.xz").write_bytes(data)
        room[folders[0]] -= len(data)
        written += len(shard)
    return written


def read_shards(folders: Iterable[Path], name: str, length: int) -> numpy.ndarray:
    """The rows of all shards of that name in those folders that are here [rows, length]."""
    paths = [path for folder in folders for path in sorted(folder.glob(f"{name}-*.xz"))]
    arrays = [numpy.load(io.BytesIO(lzma.decompress(path.read_bytes()))) for path in paths]
    return numpy.concatenate([*arrays, numpy.empty((0, length), "uint16")])


# --- rows of the world: chunk n is the beginning of part n + 1 of its stream ------------------------------------------


class WorldRows(NamedTuple):
    """The world's rows in chunks of `rows`, files of a folder. Every chunk tells of the same persistent entities."""

    folder: Path
    tokenizer: Path
    rows: int
    length: int
    seed: int
    entities: int
    part: int

    def chunk(self, number: int, tokenizer: Tokenizer) -> numpy.ndarray:
        """[rows, length], by its number alone."""
        documents = iter(WorldCorpus(self.seed, self.entities, self.part + 1 + number))
        return numpy.array(list(itertools.islice(packed(documents, tokenizer, self.length), self.rows)), dtype="uint16")

    def write(self, numbers: Sequence[int], parent: int) -> None:
        """Make those chunks that are not there, while the process `parent` lives; for a process of its own."""
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        os.nice(10)
        tokenizer = Tokenizer.from_file(str(self.tokenizer))
        for number in numbers:
            if os.getppid() != parent:
                return
            if not self.path(number).exists():
                array = self.chunk(number, tokenizer)
                write_atomically(self.path(number), functools.partial(_save, array=array))

    def read(self, first: int, count: int, alive: Callable[[], bool]) -> numpy.ndarray:
        """Rows `first` to `first + count` [count, length]; waits for their chunks while those who make them are alive."""
        found = []
        for number in self.chunks(first, count):
            while not self.path(number).exists():
                time.sleep(0.1)
                if not alive() and not self.path(number).exists():
                    raise UsageError(f"{self.path(number)} is missing, and nobody makes it.")
            start = number * self.rows
            found.append(numpy.load(self.path(number))[max(0, first - start) : first + count - start])
        return numpy.concatenate(found)

    def chunks(self, first: int, count: int) -> range:
        """The chunks that hold the rows `first` to `first + count`."""
        return range(first // self.rows, -(-(first + count) // self.rows))

    def path(self, number: int) -> Path:
        return self.folder / f"world-{number:05}.npy"


def _save(path: Path, array: numpy.ndarray) -> None:
    with path.open("wb") as file:
        numpy.save(file, array)


# --- what is read when ------------------------------------------------------------------------------------------------


class Shares(NamedTuple):
    """What part of all rows is what; the three add up to 1."""

    world: float
    text: float
    questions: float

    @classmethod
    def of(cls, config: TextConfig) -> Shares:
        questions = config.share * config.question_share if config.questions else 0.0
        return cls(1 - config.share, config.share - questions, questions)


def around(rows: numpy.ndarray, first: int, count: int) -> numpy.ndarray:
    """`count` rows from `first` on, from the beginning again after the last."""
    return rows[numpy.arange(first, first + count) % len(rows)]


class Pool(NamedTuple):
    """The three kinds of rows and how they are mixed."""

    world: WorldRows
    text: numpy.ndarray
    questions: numpy.ndarray
    shares: Shares

    def world_chunks(self, read: int, count: int) -> range:
        """The chunks that `rows` takes from."""
        return self.world.chunks(int(read * self.shares.world), round(count * self.shares.world))

    def rows(self, read: int, count: int, alive: Callable[[], bool]) -> numpy.ndarray:
        """About `count` rows, due when `read` have been read: of each kind those after the last. [count, length]"""
        parts = [self.world.read(int(read * self.shares.world), round(count * self.shares.world), alive)]
        for kind, share in ((self.text, self.shares.text), (self.questions, self.shares.questions)):
            if share:
                parts.append(around(kind, int(read * share), round(count * share)))
        return numpy.concatenate(parts)
