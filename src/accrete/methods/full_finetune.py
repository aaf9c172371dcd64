"""Full finetuning with replay of earlier lessons and a KL anchor on general material. One lesson is one `fit`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from accrete.adapters.full import FullAdapter
from accrete.config import Config
from accrete.data.replay import Replay
from accrete.fit import Loss, fit
from accrete.lm import batch
from accrete.lm.model import LM
from accrete.lm.prompts import study_sequence, text_sequences
from accrete.losses.distill import KLToBase
from accrete.losses.next_token import next_token
from accrete.methods.base import Method, Progress, RandomState
from accrete.types import Lesson, Report


class Options(Config):
    rate: float = 3e-4
    batch_size: int = 16
    max_steps: int = 160
    enough: float = 0.02  # nats per target of the new material at which the lesson ends
    text_epochs: int = 3  # a text has no end mark to reach: it is read this often
    window: int = 256  # tokens of text read at once
    replay_fraction: float = 0.25  # of each batch, from earlier lessons (METHODS: 25 % replay)
    replay_capacity: int = 2_000
    kl_weight: float = 1.0
    kl_batch: int = 16  # general sequences per step on which the model is held to its base
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

    def learn(self, lesson: Lesson, progress: Progress) -> Report:
        new = sequences(self.lm, lesson, self.config.window)
        losses: list[Loss] = [next_token]
        if self.lm.background and self.config.kl_weight:
            losses.append(KLToBase(self.config.kl_weight, self.adapter.off, self._general()))
        optimizer = torch.optim.AdamW(self.adapter.parameters(), lr=self.config.rate, weight_decay=0.0)
        report = fit(self.lm, self._batches(new), losses=losses, optimizer=optimizer, progress=progress)
        self.replay.add(new)
        return report

    def _batches(self, new: Sequence[batch.Sequence]) -> Iterator[batch.Batch]:
        """New and old material mixed, epoch after epoch, until the new is learned or the steps are used up."""
        old_per_batch = int(self.config.batch_size * self.config.replay_fraction) if len(self.replay) else 0
        new_per_batch = self.config.batch_size - old_per_batch
        per_epoch = -(-len(new) // new_per_batch)
        is_text = all(sequence.target_from <= 1 for sequence in new)
        epochs = self.config.text_epochs if is_text else max(1, self.config.max_steps // per_epoch)
        for epoch in range(epochs):
            order = torch.randperm(len(new), generator=self.random.generator).tolist()
            for start in range(0, len(new), new_per_batch):
                rows = [new[i] for i in order[start : start + new_per_batch]] + self.replay.sample(old_per_batch)
                yield batch.collate(rows, self.lm.device, self.lm.pad)
            if not is_text and epoch % 4 == 3 and self.lm.mean_loss(new) < self.config.enough:
                return

    def _general(self) -> Iterator[batch.Batch]:
        """Batches of the model's own background, whole sequences: questions are to be kept as well as answers."""
        general = [study_sequence(self.lm, question, answer) for question, answer in self.lm.background]
        while True:
            rows = torch.randint(len(general), (self.config.kl_batch,), generator=self.random.generator)
            yield batch.collate([general[i] for i in rows.tolist()], self.lm.device, self.lm.pad)


def sequences(lm: LM, lesson: Lesson, window: int) -> list[batch.Sequence]:
    """A lesson as token sequences: its study items, else its text in windows."""
    if lesson.items:
        return [study_sequence(lm, item.question, item.answer, item.context) for item in lesson.items]
    return text_sequences(lm, lesson.document.text, window)
