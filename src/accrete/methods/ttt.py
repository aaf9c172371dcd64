"""Test-time training on a dual MLP (TTT-E2E, 2512.23675; METHODS 1). One lesson: the text in order, then its study items.

tokens    t0 .. t31 | t32 .. t63 | ...      each mini-batch sees what is before it, is scored, and then learned from
weights   T0 -----> T1 --------> T2 ...     of the twins beside the MLPs of the last blocks; F never moves
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from accrete import meta_learning
from accrete.adapters.dual_mlp import DualMLPAdapter
from accrete.config import Config
from accrete.data.rehearsal import Rehearsal, background
from accrete.data.replay import Replay
from accrete.data.study import study_sequences, text_sequences
from accrete.errors import AccreteError
from accrete.fit import fit
from accrete.gates.neurons import FEWEST, NeuronGate
from accrete.lm import batch
from accrete.lm.in_order import mini_batches
from accrete.lm.load import start_of
from accrete.lm.model import LM
from accrete.lm.prefix_cache import PrefixCache
from accrete.losses.distill import KLOnGeneral, kl_divergence
from accrete.losses.next_token import next_token
from accrete.methods.base import Method, Progress, RandomState
from accrete.optim.outer_products import OuterProductSGD, Product
from accrete.types import Lesson, Report

SGD_RATE, ADAM_RATE = 1.0, 1e-3  # at which a text is read


class Options(Config):
    # the twins: y = F(x) + (1 - alpha) T(x)
    alpha: float = Field(0.5, ge=0, lt=1)  # at the first document
    alpha_decay: float = Field(1.0, gt=0, le=1)  # with every further one
    alpha_floor: float = Field(0.5, ge=0, lt=1)
    depth: float = Field(0.75, ge=0, lt=1)  # the share of the blocks that have none, from below
    start: str = "auto"  # what the twins begin as: what the model brings for it, else copies; none: copies; or a file
    # the gate
    threshold: float = Field(0.1, ge=0, le=1)  # of TF-IDF; 0 leaves all neurons open
    # texts of the model's own background (the embedded model has 600), unless `accrete calibrate` brought others
    calibration: int = Field(2_000, ge=0)
    # reading the text
    mini_batch: int = Field(32, ge=1)  # tokens learned from at once
    steps: int = Field(4, ge=1)  # of gradient descent on each
    window: int = Field(256, ge=16)  # tokens that are seen together
    context: int = Field(32, ge=1)  # of them, those of the window before; window - mini_batch slides it by a mini-batch
    optimizer: Literal["sgd", "adam"] = "sgd"
    read_rate: float | None = Field(None, gt=0)  # 1 of gradient descent, 1e-3 of Adam
    read_clip: float = Field(1.0, ge=0)  # the global norm of the gradient; 0 leaves it
    settle: int = Field(8, ge=0)  # steps back towards the base on general questions, after every window
    max_tokens: int = Field(0, ge=0)  # of a text; 0: all of it
    # studying the items
    rate: float = Field(1e-3, gt=0)  # of AdamW
    batch_size: int = Field(16, ge=1)  # new items a step
    replay: int = Field(16, ge=0)  # earlier ones beside them
    replay_capacity: int = Field(2_000, ge=0)
    general: int = Field(8, ge=0)  # general questions beside those
    kl_weight: float = Field(10.0, ge=0)  # of being held to the base on them
    enough: float = Field(0.02, ge=0)  # nats per target of the items at which the lesson ends
    min_epochs: int = Field(30, ge=1)
    max_epochs: int = Field(80, ge=1)
    max_steps: int = Field(2_000, ge=1)
    seed: int = 0


class TestTimeTraining(Method):
    """Test-time training: the text in order, 32 tokens an update, on a second MLP beside those of the last blocks."""

    Config = Options
    parts = ("adapter", "gate", "replay", "random")
    RetrofitConfig = meta_learning.Options

    def __init__(self, lm: LM, config: Options):
        self.lm, self.config = lm, config
        self.random = RandomState(config.seed)
        self.adapter = DualMLPAdapter(lm, config.alpha, config.depth, start_of(lm, "dual_mlp", config.start))
        neurons = {i: (twin.frozen, twin.active) for i, twin in self.adapter.twins.items()}
        self.gate = NeuronGate(lm, neurons, config.threshold)
        self.replay = Replay(config.replay_capacity, self.random.generator)

    def learn(self, lesson: Lesson, progress: Progress) -> Report:
        c = self.config
        text = [replace(lesson.document, text=t) for t in (lesson.document.text, *lesson.restatements) if t.strip()]
        windows = [sequence for part in text for sequence in text_sequences(self.lm, part, c.window, c.context)]
        windows, left_out = _within(windows, c.max_tokens)
        items = study_sequences(self.lm, lesson) if lesson.items else []
        self.adapter.move_alpha(self._alpha())
        parameters = self.adapter.open(self._open_neurons([*windows, *items]))
        with self.lm.in_bfloat16(frozen=True):
            read = self._read(windows, parameters, progress)
            studied = self._study(items, lesson, parameters, progress) if items else Report()
        self.adapter.close()
        return Report(
            steps=read.steps + studied.steps,
            tokens=read.tokens + studied.tokens,
            loss_before=read.loss_before if windows else studied.loss_before,
            loss_after=studied.loss_after if items else read.loss_after,
            details={
                "learned_from": _learned_from(read.tokens, left_out, len(items)),
                "text_loss": read.loss_before,
                "text_tokens": read.tokens,
                "text_tokens_left_out": left_out,
                "neurons_open": sum(len(p) for p in parameters) // 3,
                "alpha": self.adapter.alpha,
                "stopped_at_limit": bool(items and not studied.details["learned"]),
            },
        )

    def _alpha(self) -> float:
        """The option's at the first document, then less with every one; a floor above it raises nothing."""
        c, alpha = self.config, self.adapter.alpha
        return min(alpha, max(c.alpha_floor, alpha * c.alpha_decay)) if self.adapter.taught else c.alpha

    # --- the gate -----------------------------------------------------------------------------------------------

    def _open_neurons(self, sequences: Sequence[batch.Sequence]) -> dict[int, Tensor] | None:
        """Those that are active on this lesson and not on everything."""
        if not self.config.threshold:
            return None
        own = self.lm.background[: self.config.calibration]
        if not self.gate.texts and len(own) >= FEWEST:
            self.calibrate([f"{question} {answer}" for question, answer in own])
        with self.adapter.off():
            return self.gate.open(sequences)

    def calibrate(self, texts: Sequence[str]) -> None:
        """Count anew which neurons are general, over these texts."""
        ids = self.lm.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        sequences = [batch.Sequence(tuple(one[: self.lm.context_length])) for one in ids if one]
        with self.adapter.off():
            self.gate.calibrate(sequences)

    def about(self) -> dict[str, Any]:
        """The gate, alpha, and how many neurons were taught."""
        c, gate = self.config, "off: all neurons are open"
        if c.threshold and self.gate.texts:
            gate = f"calibrated on {self.gate.texts:,} texts, threshold {c.threshold:g}"
        elif c.threshold and len(self.lm.background[: c.calibration]) >= FEWEST:
            gate = "calibrates itself before the first lesson"
        elif c.threshold:
            gate = "not calibrated: all neurons are open"
        taught = {str(i): len(twin.taught) for i, twin in self.adapter.twins.items()}
        begun = "as the model's start has them" if self.adapter.started else "as copies of the frozen ones"
        return {"gate": gate, "alpha": self.adapter.alpha, "neurons_taught": taught, "neurons_begin": begun}

    # --- reading ------------------------------------------------------------------------------------------------

    def _read(self, windows: Sequence[batch.Sequence], parameters: list[nn.Parameter], progress: Progress) -> Report:
        """Every mini-batch of every window: score it, learn from it, go on with what was learned."""
        tokens, total, steps, whole = 0, 0.0, 0, sum(window.targets for window in windows)
        step_on, ends = self._reading_step(parameters), set(itertools.accumulate(window.targets for window in windows))
        general = PrefixCache(self.lm, self.adapter.first_layer)
        for part in mini_batches(self.lm, windows, self.config.mini_batch, self.adapter.first_layer):
            for step in range(self.config.steps):
                with self.lm.autocast(beside=True), self.adapter.noting() as products:
                    loss = self.lm.head_loss(part.look(self.lm.suffix_states), part.targets_1N)
                if not math.isfinite(value := float(loss.detach())):
                    raise AccreteError(f"The loss was {value} after {steps} steps: a lower read_rate may help.")
                if step == 0:
                    tokens, total = tokens + part.targets, total + value * part.targets
                step_on(loss, products)
            steps += self.config.steps
            if tokens in ends:
                self._settle(general, step_on)
            progress(steps, total / tokens, tokens, whole)
        mean = total / tokens if tokens else None
        return Report(steps=steps, tokens=tokens, loss_before=mean, loss_after=mean)

    def _settle(self, general: PrefixCache, step_on: Callable[[Tensor, list[Product]], None]) -> None:
        """Some steps down kl_weight * KL(base || T) on general questions: what reading moved beside the text goes back."""
        rows = background(self.lm, self.config.general, self.random.generator) if self.config.settle else []
        if not rows:
            return
        questions = batch.collate(rows, self.lm.device, self.lm.pad)
        hidden = general.hidden(questions)
        with torch.no_grad(), self.lm.autocast(beside=True), self.adapter.off():
            base_NV = self.lm.target_logits(questions, hidden)
        for _ in range(self.config.settle):
            with self.lm.autocast(beside=True), self.adapter.noting() as products:
                drift = self.config.kl_weight * kl_divergence(base_NV, self.lm.target_logits(questions, hidden))
            step_on(drift, products)

    def _reading_step(self, parameters: list[nn.Parameter]) -> Callable[[Tensor, list[Product]], None]:
        """Plain gradient descent as in the paper, each matrix at the pace that the start learned; or Adam."""
        c = self.config
        if c.optimizer == "sgd":
            rates = zip(parameters, self.adapter.rates(), strict=True)
            return OuterProductSGD({p: (c.read_rate or SGD_RATE) * rate for p, rate in rates}, c.read_clip).step
        optimizer = torch.optim.AdamW(parameters, lr=c.read_rate or ADAM_RATE, weight_decay=0.0, fused=True)

        def step(loss: Tensor, products: list[Product]) -> None:
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            if c.read_clip:
                nn.utils.clip_grad_norm_(parameters, c.read_clip)
            optimizer.step()

        return step

    # --- studying -----------------------------------------------------------------------------------------------

    def _study(
        self, items: Sequence[batch.Sequence], lesson: Lesson, parameters: list[nn.Parameter], progress: Progress
    ) -> Report:
        """The items until they are known, among earlier ones and general questions."""
        c = self.config
        self.replay.supersede(items, lesson.domain)
        rehearsal = Rehearsal(
            lm=self.lm,
            new=items,
            replay=self.replay,
            domain=lesson.domain,
            generator=self.random.generator,
            size=c.batch_size,
            old=c.replay,
            general=c.general,
            enough=c.enough,
            least_epochs=c.min_epochs,
            least_steps=c.max_steps,
            most_epochs=c.max_epochs,
            most_steps=c.max_steps,
        )
        report = fit(
            self.lm,
            rehearsal,
            losses=[next_token, KLOnGeneral(c.kl_weight, self.adapter.off, self.adapter.first_layer)],
            optimizer=torch.optim.AdamW(parameters, lr=c.rate, weight_decay=0.0, fused=True),
            first_layer=self.adapter.first_layer,
            progress=progress,
        )
        self.replay.add(items, lesson.domain, lesson.importance)
        return replace(report, details={"learned": rehearsal.learned})

    @staticmethod
    def retrofit(
        lm: LM, folder: Path, config: meta_learning.Options, progress: Progress
    ) -> tuple[Path, dict[str, Any]]:
        """Meta-learn where the twins begin."""
        return meta_learning.meta_learn(lm, folder, config, progress), {}

    def fuse(self, domains: Sequence[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """A plain model with a wider MLP."""
        return self.adapter.fuse()


def _learned_from(tokens: int, left_out: int, items: int) -> str:
    """As "1,024 tokens of its text (200 left out: max_tokens) and 12 questions"."""
    cut = f" ({left_out:,} left out: max_tokens)" if left_out else ""
    parts = [f"{tokens:,} tokens of its text{cut}" if tokens else "", f"{items:,} questions" if items else ""]
    return " and ".join(part for part in parts if part)


def _within(windows: Sequence[batch.Sequence], most: int) -> tuple[list[batch.Sequence], int]:
    """Windows with at most so many targets, the last cut where need be, and how many targets are left out; 0: all."""
    kept: list[batch.Sequence] = []
    tokens = 0
    for window in windows:
        if most and tokens + window.targets > most:
            window = replace(window, ids=window.ids[: max(1, window.target_from) + most - tokens])
        if window.targets:
            kept.append(window)
            tokens += window.targets
        if tokens == most:
            break
    return kept, sum(window.targets for window in windows) - tokens
