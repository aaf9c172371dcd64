"""LoRA with experience replay and EWC, an adapter per domain (METHODS 5). One lesson is one `fit`."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from accrete.adapters.lora import LoraAdapters
from accrete.config import Config
from accrete.data.rehearsal import Rehearsal, background
from accrete.data.replay import Replay
from accrete.data.study import study_sequences
from accrete.data.topics import Topics
from accrete.fit import fit
from accrete.lm import batch
from accrete.lm.decode import Conditioning
from accrete.lm.model import LM
from accrete.losses.distill import KLOnGeneral
from accrete.losses.ewc import EWC
from accrete.losses.next_token import next_token
from accrete.methods.base import Method, Progress, RandomState
from accrete.types import Lesson, Query, Report


class Options(Config):
    rank: int = Field(16, ge=1)
    alpha: float = Field(32.0, gt=0)  # the change is alpha / rank * B A
    targets: str | list[str] = "all-linear"  # or names of layers, as PEFT takes them
    rate: float = Field(1e-3, gt=0)  # of AdamW
    batch_size: int = Field(16, ge=1)  # new sequences a step
    replay: int = Field(16, ge=0)  # earlier ones of the domain beside them
    replay_general: float = Field(0.25, ge=0, le=0.9)  # of a full batch, general material; a small lesson gets as much
    replay_capacity: int = Field(2_000, ge=0)  # sequences a domain
    replay_half_life: float = Field(100.0, gt=0)  # lessons until what was studied comes up half as often
    kl_weight: float = Field(10.0, ge=0)  # of being held to the base on the general material
    ewc_weight: float = Field(1.0, ge=0)
    ewc_decay: float = Field(0.9, ge=0, le=1)  # of the Fisher information at every consolidation
    ewc_every: int = Field(4, ge=1)  # lessons of a domain from one consolidation to the next
    ewc_examples: int = Field(32, ge=1)  # of the domain, and as many general ones
    enough: float = Field(0.02, ge=0)  # nats per target of the new items at which a lesson may end
    min_epochs: int = Field(15, ge=1)  # over study items: ending early is cheap and costs the earlier lessons,
    min_steps: int = Field(100, ge=1)  # but after so many steps a large lesson may end
    max_epochs: int = Field(80, ge=1)
    max_steps: int = Field(2_000, ge=1)
    text_epochs: int = Field(8, ge=1)  # over a text, which rarely gets to `enough`
    text_steps: int = Field(30, ge=1)  # a short text is read more often, for about so many steps
    window: int = Field(256, ge=2)  # tokens of text read at once
    seed: int = 0


class LoraReplayEwc(Method):
    """LoRA, one adapter per domain: replay of its lessons and of general text, an EWC anchor, KL to the base."""

    Config = Options
    parts = ("adapter", "replay", "anchor", "random")

    def __init__(self, lm: LM, config: Options):
        self.lm, self.config = lm, config
        self.random = RandomState(config.seed)
        generator = self.random.generator
        self.adapter = LoraAdapters(lm, config.rank, config.alpha, config.targets, generator)
        self.replay = Replay(config.replay_capacity, generator, config.replay_half_life)
        self.anchor = EWC(config.ewc_weight, config.ewc_decay, generator)
        self._topics: tuple[Any, Topics] | None = None  # made from the replay when a question needs it

    def learn(self, lesson: Lesson, progress: Progress) -> Report:
        new = study_sequences(self.lm, lesson, self.config.window)
        self.replay.supersede(new, lesson.domain)
        parameters = self.adapter.open(lesson.domain)
        self.anchor.guard(parameters)
        rehearsal = self._rehearsal(new, lesson)
        report = fit(
            self.lm,
            rehearsal,
            losses=[next_token, self.anchor, KLOnGeneral(self.config.kl_weight, self.adapter.off)],
            optimizer=torch.optim.AdamW(parameters.values(), lr=self.config.rate, weight_decay=0.0, fused=True),
            progress=progress,
        )
        penalty = (
            float(self.anchor.penalty().detach()) if self.anchor.holds else None
        )  # nothing before the first anchor
        self.replay.add(new, lesson.domain, lesson.importance)
        if self.replay.lessons[lesson.domain] % self.config.ewc_every == 0:
            examples = self.replay.sample(self.config.ewc_examples, lesson.domain)
            self.anchor.consolidate(
                self.lm, parameters, examples + background(self.lm, self.config.ewc_examples, self.random.generator)
            )
        details = {
            "stopped_at_limit": report.steps == self.config.max_steps or bool(lesson.items and not rehearsal.learned),
            "ewc_penalty": penalty,
            "replay_diversity": self.replay.diversity(),
        }
        return replace(report, details=details)

    def _rehearsal(self, new: Sequence[batch.Sequence], lesson: Lesson) -> Rehearsal:
        c = self.config
        share = c.replay_general if self.lm.background else 0.0
        least, most = c.min_epochs, c.max_epochs
        if not lesson.items:
            least, most = 1, max(c.text_epochs, c.text_steps * min(c.batch_size, len(new)) // len(new))
        return Rehearsal(
            lm=self.lm,
            new=new,
            replay=self.replay,
            domain=lesson.domain,
            generator=self.random.generator,
            size=c.batch_size,
            old=c.replay,
            general=round((c.batch_size + c.replay) * share / (1 - share)),
            enough=c.enough,
            least_epochs=least,
            least_steps=c.min_steps,
            most_epochs=most,
            most_steps=c.max_steps,
        )

    # --- domains ------------------------------------------------------------------------------------------------

    def condition(self, queries: Sequence[Query]) -> list[Conditioning]:
        """Each question is read from the adapter of its domain; one that names none, from where its words occur."""
        names = [query.domain or self._domain_of(query.question) for query in queries]
        within = {name: functools.partial(self.adapter.reading, name) for name in names}
        return [Conditioning(within=within[name]) for name in names]

    def domains(self) -> dict[str, int]:
        """The parameters of each domain's adapter."""
        return self.adapter.sizes()

    def fuse(self, domains: Sequence[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The base weights with the changes of these domains added."""
        return self.adapter.fuse(domains), {}

    def save_adapter(self, domains: Sequence[str], directory: Path) -> None:
        """Write the sum of these domains' adapters as PEFT does."""
        self.adapter.save(domains, directory)

    def load_adapter(self, domain: str, directory: Path) -> None:
        """Take up a foreign adapter; what was kept of the one it replaces goes with that one."""
        self.adapter.load(domain, directory)
        self.anchor.forget(self.adapter.open(domain))
        self.replay.forget(domain)

    def _domain_of(self, question: str) -> str | None:
        if len(self.adapter.configs) < 2:
            return self.adapter.active
        texts = {
            domain: (self.lm.tokenizer.decode(s.ids, skip_special_tokens=True) for s in self.replay.all(domain))
            for domain in self.adapter.configs
        }
        key = self.replay.version, tuple(self.adapter.configs)
        if self._topics is None or self._topics[0] != key:
            self._topics = key, Topics(texts)
        return self._topics[1].closest(question, self.adapter.active)
