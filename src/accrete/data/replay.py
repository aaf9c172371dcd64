"""What was studied before, kept to be studied again. Ends at samples of it."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from typing import Any

import torch

from accrete.lm.batch import Sequence


class Replay:
    """A reservoir of token sequences: after n were offered, each is kept with the same probability capacity / n.

    Draws on the generator it is given, so that one random state decides a whole lesson.
    """

    def __init__(self, capacity: int, generator: torch.Generator):
        self.capacity, self.generator = capacity, generator
        self.offered = 0
        self.kept: list[Sequence] = []

    def __len__(self) -> int:
        return len(self.kept)

    def add(self, sequences: SequenceOf[Sequence]) -> None:
        for sequence in sequences:
            self.offered += 1
            if len(self.kept) < self.capacity:
                self.kept.append(sequence)
                continue
            place = int(torch.randint(self.offered, (1,), generator=self.generator))
            if place < self.capacity:
                self.kept[place] = sequence

    def sample(self, count: int) -> list[Sequence]:
        """`count` sequences, different ones while they last; fewer when there are fewer."""
        order = torch.randperm(len(self.kept), generator=self.generator)[:count]
        return [self.kept[i] for i in order.tolist()]

    def state_dict(self) -> dict[str, Any]:
        return {"offered": self.offered, "kept": [[s.target_from, *s.ids] for s in self.kept]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.offered = state["offered"]
        self.kept = [Sequence(tuple(ids), target_from) for target_from, *ids in state["kept"]]
