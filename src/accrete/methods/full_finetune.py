"""Full finetuning with replay of earlier lessons and a KL anchor on general material. One lesson is one `fit`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from accrete.adapters.full import FullAdapter
from accrete.config import Config
from accrete.data.replay import Replay
from accrete.data.study import study_sequences
from accrete.fit import Loss, fit
from accrete.lm import batch
from accrete.lm.model import LM
from accrete.lm.prompts import study_sequence
from accrete.losses.distill import KLToBase
from accrete.losses.next_token import next_token
from accrete.methods.base import Method, Progress, RandomState
from accrete.types import Lesson, Report


class Options(Config):
    rate: float = Field(3e-4, gt=0)  # of AdamW
    batch_size: int = Field(16, ge=1)  # sequences a step, old and new
    max_epochs: int = Field(80, ge=1)  # over study items
    max_steps: int = Field(2_000, ge=1)
    enough: float = Field(0.02, ge=0)  # nats per target of the new items at which the lesson ends
    text_epochs: int = Field(8, ge=1)  # over a text, which rarely gets that far
    text_steps: int = Field(30, ge=1)  # a short text is read more often, for about so many steps
    window: int = Field(256, ge=2)  # tokens of text read at once
    replay_fraction: float = Field(0.25, ge=0, le=0.9)  # of each batch, from earlier lessons
    replay_capacity: int = Field(2_000, ge=0)  # sequences
    kl_weight: float = Field(10.0, ge=0)
    kl_batch: int = Field(16, ge=1)  # general sequences a step on which the model is held to its base
    seed: int = 0


class FullFinetune(Method):
    """Full finetuning on study items or text, held to the base model by KL and to earlier lessons by replay."""

    Config = Options
    parts = ("adapter", "replay", "random")

    def __init__(self, lm: LM, config: Options):
        self.lm, self.config = lm, config
        self.random = RandomState(config.seed)
        self.adapter = FullAdapter(lm)
        self.replay = Replay(config.replay_capacity, self.random.generator)
        self._learned = False  # whether the last lesson got to `enough`

    def learn(self, lesson: Lesson, progress: Progress) -> Report:
        new = study_sequences(self.lm, lesson, self.config.window)
        self.replay.supersede(new, lesson.domain)
        losses: list[Loss] = [next_token]
        if self.lm.background and self.config.kl_weight:
            losses.append(KLToBase(self.config.kl_weight, self.adapter.off, self._general()))
        optimizer = torch.optim.AdamW(self.adapter.parameters(), lr=self.config.rate, weight_decay=0.0, fused=True)
        report = fit(
            self.lm,
            self._batches(new, self._epochs(lesson, len(new))),
            losses=losses,
            optimizer=optimizer,
            progress=progress,
        )
        self.replay.add(new, lesson.domain, lesson.importance)
        cut = report.steps == self.config.max_steps or bool(lesson.items and not self._learned)
        return replace(report, details={"stopped_at_limit": cut})

    def fuse(self, domains: Sequence[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The taught weights; all domains are in them."""
        return dict(self.lm.model.state_dict()), {}

    def _epochs(self, lesson: Lesson, sequences: int) -> int:
        if lesson.items:
            return self.config.max_epochs
        batch_size = min(self.config.batch_size, sequences)
        return max(self.config.text_epochs, self.config.text_steps * batch_size // sequences)

    def _batches(self, new: Sequence[batch.Sequence], epochs: int) -> Iterator[batch.Batch]:
        """New and old material mixed, epoch after epoch, until the new is learned or epochs or steps are used up."""
        old_per_batch = int(self.config.batch_size * self.config.replay_fraction) if len(self.replay) else 0
        new_per_batch = self.config.batch_size - old_per_batch
        steps = checked = 0
        self._learned = False
        for _ in range(epochs):
            order = torch.randperm(len(new), generator=self.random.generator).tolist()
            for start in range(0, len(new), new_per_batch):
                rows = [new[i] for i in order[start : start + new_per_batch]] + self.replay.sample(old_per_batch)
                yield batch.collate(rows, self.lm.device, self.lm.pad)
                steps += 1
                if steps == self.config.max_steps:
                    return
            if steps - checked >= 4:  # measuring costs a third of an epoch
                checked = steps
                self._learned = self.lm.mean_loss(new) < self.config.enough
                if self._learned:
                    return

    def _general(self) -> Iterator[batch.Batch]:
        """Batches of the model's own background, answers as targets."""
        general = [study_sequence(self.lm, question, answer) for question, answer in self.lm.background]
        while True:
            rows = torch.randint(len(general), (self.config.kl_batch,), generator=self.random.generator)
            yield batch.collate([general[i] for i in rows.tolist()], self.lm.device, self.lm.pad)
