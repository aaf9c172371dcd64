"""A gate by slots: which rows of a memory a lesson may change, by how surprising it is to read them. Ends at their numbers.

    c_i   reads of slot i by what is to be learned            p_i = c_i / sum c
    TF-IDF (2510.15103)   p_i ln((|B| + 1) / (df_i + 1))      df_i: background batches, of |B|, that read slot i
    KL (2604.05248)       p_i ln(p_i / q_i)                   q_i = (C_i + 1) / sum (C + 1), C_i: reads in all of them

The t slots with the highest score are open, of those that are read at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from accrete.errors import HistoryError

Selection = Literal["tfidf", "kl", "random", "all"]


class SlotGate:
    """Background counts of every layer, and the rows they leave open."""

    def __init__(self, slots: int, selection: Selection, most: int, generator: torch.Generator):
        self.slots, self.selection, self.most, self.generator = slots, selection, most, generator
        self.batches = 0
        self.containing: dict[int, Tensor] = {}  # df_i
        self.reads: dict[int, Tensor] = {}  # C_i
        self.totals: dict[int, int] = {}  # sum of C

    def forget(self) -> None:
        """Count anew."""
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

    def scores(self, layer: int, counts_R: Tensor, rows_R: Tensor) -> Tensor:
        """Of rows that are read so often, in all `counts_R.sum()` reads."""
        p_R = counts_R / counts_R.sum()
        if self.selection == "random":
            return torch.rand(len(rows_R), generator=self.generator)
        seen = layer in self.reads
        if self.selection == "tfidf":
            df_R = self.containing[layer][rows_R] if seen else 0
            return p_R * torch.log(torch.as_tensor((self.batches + 1) / (df_R + 1)))
        c_R = self.reads[layer][rows_R] if seen else 0
        return p_R * torch.log(p_R * (self.totals.get(layer, 0) + self.slots) / (c_R + 1))

    def open(self, layer: int, slots: Tensor) -> Tensor:
        """The rows that what reads these slots may change, in rising order."""
        rows_R, counts_R = torch.unique(slots, return_counts=True)
        if self.selection == "all" or len(rows_R) <= self.most:
            return rows_R
        return rows_R[self.scores(layer, counts_R, rows_R).topk(self.most).indices].sort().values

    def state_dict(self) -> dict[str, Any]:
        """The counts of the slots that were ever read."""
        state: dict[str, Any] = {"batches": self.batches, "slots": self.slots}
        for i, reads_N in self.reads.items():
            rows_R = torch.nonzero(reads_N).flatten()
            counts = {"rows": rows_R, "reads": reads_N[rows_R], "containing": self.containing[i][rows_R]}
            state |= {f"{i}/{name}": t.to(torch.int32) for name, t in counts.items()}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state.get("slots") != self.slots:
            raise HistoryError("The saved counts are of a memory of another size.")
        self.forget()
        self.batches = int(state["batches"])
        for layer in [int(key.partition("/")[0]) for key in state if key.endswith("/rows")]:
            rows_R, reads_R, containing_R = (
                state[f"{layer}/{name}"].long() for name in ("rows", "reads", "containing")
            )
            zeros_N = torch.zeros(self.slots, dtype=torch.int64, device=rows_R.device)
            self.reads[layer] = zeros_N.index_add(0, rows_R, reads_R)
            self.containing[layer] = zeros_N.index_add(0, rows_R, containing_R)
            self.totals[layer] = int(reads_R.sum())


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
