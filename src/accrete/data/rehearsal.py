"""The batches of a lesson: new, earlier and general material together, until the new is learned. Ends at what `fit` is fed."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import torch

from accrete.data.replay import Replay
from accrete.lm import batch
from accrete.lm.batch import Sequence
from accrete.lm.model import LM
from accrete.lm.prompts import study_sequence

APART = 4  # steps between two looks at what is learned: looking costs a third of an epoch


@dataclass
class Rehearsal:
    """Rows of each step: `size` of the new ones, `old` of the domain's earlier ones, `general` of the model's background.

    Over when the new ones cost less than `enough` (nats a target) after `least_epochs` or `least_steps`; at the latest after
    `most_epochs` or `most_steps`. `learned` then says whether they do.
    """

    lm: LM
    new: SequenceOf[Sequence]
    replay: Replay
    domain: str
    generator: torch.Generator
    size: int
    old: int
    general: int
    enough: float
    least_epochs: int
    least_steps: int
    most_epochs: int
    most_steps: int
    learned: bool = False

    def __iter__(self) -> Iterator[batch.Batch]:
        size, old = min(self.size, len(self.new)), min(self.old, self.replay.size(self.domain))
        steps = checked = 0
        for epoch in range(1, self.most_epochs + 1):
            order = torch.randperm(len(self.new), generator=self.generator).tolist()
            for start in range(0, len(self.new), size):
                rows = [self.new[i] for i in order[start : start + size]] + self.replay.sample(old, self.domain)
                general = background(self.lm, self.general, self.generator)
                yield batch.collate(rows + general, self.lm.device, self.lm.pad, len(general))
                steps += 1
                if steps == self.most_steps:
                    return
            if (epoch >= self.least_epochs or steps >= self.least_steps) and steps - checked >= APART:
                checked = steps
                self.learned = self.lm.mean_loss(self.new) < self.enough
                if self.learned:
                    return


def background(lm: LM, count: int, generator: torch.Generator) -> list[Sequence]:
    """Some of the model's own general questions with their answers; none of a model that brings none."""
    if not lm.background:
        return []
    drawn = torch.randint(len(lm.background), (count,), generator=generator).tolist()
    return [study_sequence(lm, *lm.background[i]) for i in drawn]
