"""A gate by slots: which rows of a memory a lesson may change, by how surprising it is to read them. Ends at their numbers.

    c_i   reads of slot i by what is to be learned            p_i = c_i / sum c
    TF-IDF (2510.15103)   p_i ln((|B| + 1) / (df_i + 1))      df_i: background batches, of |B|, that read slot i
    KL (2604.05248)       p_i ln(p_i / q_i)                   q_i = (C_i + 1) / sum (C + 1), C_i: reads in all of them

The t slots with the highest score are open, of those that are read at all. The papers have one background, what is general.
Here every earlier lesson is one more, and so is what is put beside (the lesson about strangers); of a slot's scores the least
counts, for in the mean of many lessons what one of them wrote would look free. Of a lesson, which says nothing about what it
did not read: q_i = C_i / sum C, and df_i / |B| for (df_i + 1) / (|B| + 1).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from accrete.errors import HistoryError

_SAVED = ("slots", "of_reads", "of_texts")
Selection = Literal["tfidf", "kl", "random", "all"]
Common = dict[int, tuple[Tensor, Tensor, Tensor]]
"""By layer rows [R], their share of all reads [R], for KL, and the share of texts that read them [R], for TF-IDF."""


class SlotGate:
    """Background counts of every layer, what each earlier lesson reads, and the rows they leave open."""

    def __init__(self, slots: int, selection: Selection, most: int, generator: torch.Generator):
        self.slots, self.selection, self.most, self.generator = slots, selection, most, generator
        self.batches = 0
        self.containing: dict[int, Tensor] = {}  # df_i
        self.reads: dict[int, Tensor] = {}  # C_i
        self.totals: dict[int, int] = {}  # sum of C
        self.lessons: dict[str, Common] = {}
        self._beside: Common = {}
        self._most: dict[int, Tensor] = {}  # how common a slot is where it is most common, [N]

    def reset(self) -> None:
        """Count the background anew; lessons stay."""
        self.batches, self.containing, self.reads, self.totals = 0, {}, {}, {}

    def note(self, slots: Mapping[int, Tensor]) -> None:
        """One more batch of the background: the slots it reads, by layer, in any shape."""
        self.batches += 1
        for layer, read in slots.items():
            rows_R, counts_R = torch.unique(read, return_counts=True)
            for counts, found_R in ((self.reads, counts_R), (self.containing, torch.ones_like(counts_R))):
                if layer not in counts:
                    counts[layer] = torch.zeros(self.slots, dtype=torch.int64, device=read.device)
                counts[layer][rows_R] += found_R
            self.totals[layer] = self.totals.get(layer, 0) + read.numel()

    def remember(self, lesson: str, texts: Sequence[Mapping[int, Tensor]]) -> None:
        """What was learned: a background of its own, of the slots that each of its texts reads, by layer."""
        self.lessons[lesson] = _common(texts)
        self._count_most()

    @contextlib.contextmanager
    def beside(self, texts: Sequence[Mapping[int, Tensor]]) -> Iterator[None]:
        """Within it these texts are background as a lesson is."""
        try:
            self._beside = _common(texts)
            self._count_most()
            yield
        finally:
            self._beside = {}
            self._count_most()

    def drop(self, lesson: str) -> None:
        """It is no background any more."""
        self.lessons.pop(lesson, None)
        self._count_most()

    def _count_most(self) -> None:
        self._most = {}
        for layers in (*self.lessons.values(), self._beside):
            for layer, (rows_R, of_reads_R, of_texts_R) in layers.items():
                common_R = of_texts_R if self.selection == "tfidf" else of_reads_R
                if layer not in self._most:
                    self._most[layer] = torch.zeros(self.slots, device=rows_R.device)
                self._most[layer][rows_R] = torch.maximum(self._most[layer][rows_R], common_R)

    def scores(self, layer: int, counts_R: Tensor, rows_R: Tensor) -> Tensor:
        """Of rows that are read so often, in all `counts_R.sum()` reads."""
        p_R = counts_R / counts_R.sum()
        if self.selection == "random":
            return torch.rand(len(rows_R), generator=self.generator)
        zeros_R = torch.zeros_like(counts_R)
        if self.selection == "tfidf":
            df_R = self.containing[layer][rows_R] if layer in self.containing else zeros_R
            common_R, surprise = (df_R + 1) / (self.batches + 1), torch.ones_like(p_R)
        else:
            c_R = self.reads[layer][rows_R] if layer in self.reads else zeros_R
            common_R, surprise = (c_R + 1) / (self.totals.get(layer, 0) + self.slots), p_R
        if layer in self._most:
            common_R = torch.maximum(common_R, self._most[layer][rows_R])
        return p_R * torch.log(surprise / common_R)

    def open(self, layer: int, slots: Tensor) -> Tensor:
        """The rows that what reads these slots may change, in rising order."""
        rows_R, counts_R = torch.unique(slots, return_counts=True)
        if self.selection == "all" or len(rows_R) <= self.most:
            return rows_R
        return rows_R[self.scores(layer, counts_R, rows_R).topk(self.most).indices].sort().values

    def state_dict(self) -> dict[str, Any]:
        """The counts of the slots that were ever read, and of each lesson, in their order, how common its slots are."""
        state: dict[str, Any] = {"batches": self.batches, "slots": self.slots, "lessons": list(self.lessons)}
        for i, reads_N in self.reads.items():
            rows_R = torch.nonzero(reads_N).flatten()
            counts = {"rows": rows_R, "reads": reads_N[rows_R], "containing": self.containing[i][rows_R]}
            state |= {f"{i}/{name}": t.int() for name, t in counts.items()}
        for lesson, layers in self.lessons.items():
            for i, shares in layers.items():
                state |= {f"{lesson}/{i}/{name}": t for name, t in zip(_SAVED, shares, strict=True)}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state.get("slots") != self.slots:
            raise HistoryError("The saved counts are of a memory of another size.")
        if not _whole(state):
            raise HistoryError("The saved counts of what is read are not whole.")
        self.reset()
        self.batches = int(state["batches"])
        for layer in [int(key.partition("/")[0]) for key in state if key.endswith("/rows")]:
            rows_R, reads_R, containing_R = (
                state[f"{layer}/{name}"].long() for name in ("rows", "reads", "containing")
            )
            zeros_N = torch.zeros(self.slots, dtype=torch.int64, device=rows_R.device)
            self.reads[layer] = zeros_N.index_add(0, rows_R, reads_R)
            self.containing[layer] = zeros_N.index_add(0, rows_R, containing_R)
            self.totals[layer] = int(reads_R.sum())
        self.lessons = {lesson: {} for lesson in state["lessons"]}
        for name in [key.removesuffix("/slots") for key in state if key.endswith("/slots")]:
            lesson, _, of_layer = name.rpartition("/")
            rows_R, of_reads_R, of_texts_R = (state[f"{name}/{part}"] for part in _SAVED)
            self.lessons[lesson][int(of_layer)] = rows_R, of_reads_R, of_texts_R
        self._count_most()


def _whole(state: Mapping[str, Any]) -> bool:
    """Whether each of its parts is there with those that belong to it."""
    layers = {key.partition("/")[0] for key in state if key.endswith("/rows")}
    lessons = {key.removesuffix("/slots") for key in state if key.endswith("/slots")}
    needed = {f"{layer}/{part}" for layer in layers for part in ("rows", "reads", "containing")}
    needed |= {f"{lesson}/{part}" for lesson in lessons for part in _SAVED} | {"batches", "lessons"}
    return needed <= state.keys() and {lesson.rpartition("/")[0] for lesson in lessons} <= set(state["lessons"])


def _common(texts: Sequence[Mapping[int, Tensor]]) -> Common:
    found = {}
    for layer in texts[0] if texts else ():
        reads = torch.cat([text[layer].flatten() for text in texts])
        rows_R, counts_R = torch.unique(reads, return_counts=True)
        _, texts_R = torch.unique(torch.cat([torch.unique(text[layer]) for text in texts]), return_counts=True)
        found[layer] = rows_R.int(), counts_R / len(reads), texts_R / len(texts)
    return found


def usage(slots: Tensor, count: int) -> dict[str, float]:
    """How evenly reads use a memory of so many slots.

    The share of the reads that the most read hundredth of the slots takes, the entropy of the reads (1: all slots alike), and
    the share of slots that are never read. Hub slots show as a large first and a small second figure.
    """
    reads_N = torch.bincount(slots.flatten(), minlength=count).float()
    p_N = reads_N / reads_N.sum()
    entropy = float(-(p_N * p_N.clamp(min=1e-30).log()).sum()) / math.log(count)
    hubs = float(p_N.topk(max(1, count // 100)).values.sum())
    return {"top_1_percent": hubs, "entropy": entropy, "never_read": float((reads_N == 0).float().mean())}
