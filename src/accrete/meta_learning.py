"""Where the twins of a dual MLP begin, meta-learned: after reading a text, questions about it have answers (METHODS 1, 10d).

    read      T <- T - rate * clipped gradient of next token        mini-batch after mini-batch of texts about new entities
    ask       answers to questions about all of them, T as it is then, + anchor * KL(base || T) on general questions
    improve   gate, up and the rates of T's start, by the gradient of that loss THROUGH all of the reading (second order)

The answers never stand in the text as the questions ask for them, so the start learns which neurons carry a statement over to
a question. Its down projection stays zero: it is silent. Ends at NAME.start.safetensors; killed and called again, it goes on.
"""

from __future__ import annotations

import functools
import itertools
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, cast

import torch
from pydantic import Field
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from accrete.adapters.dual_mlp import DualMLPAdapter
from accrete.config import Config
from accrete.data.rehearsal import background
from accrete.data.study import text_sequences
from accrete.data.world import World
from accrete.errors import UsageError
from accrete.files import write_atomically
from accrete.lm.batch import Batch, Sequence, collate
from accrete.lm.in_order import mini_batches
from accrete.lm.model import LM, Hidden, SuffixCache
from accrete.lm.prompts import study_sequence
from accrete.losses.distill import kl_divergence
from accrete.losses.next_token import next_token
from accrete.types import Document

WORLDS = 1_000_000  # the first seed of the worlds that are read about: no evaluation draws from these


class Options(Config):
    as_in_lessons: ClassVar = ("depth",)  # a start has twins of these blocks alone
    steps: int = Field(800, ge=1)
    episodes: int = Field(4, ge=1)  # a step
    entities: int = Field(5, ge=1)  # in an episode, at most
    texts: int = Field(2, ge=1)  # that they are spread over, at most: what is read first has to outlast the others
    questions: int = Field(24, ge=1)  # in an episode, at most
    general: int = Field(24, ge=1)  # general questions on which T is held to its base
    anchor: float = Field(5.0, ge=0)
    rate: float = Field(5e-4, gt=0)  # of Adam, falling to nothing over the last third
    rates_rate: float = Field(1e-2, gt=0)  # of the logarithms of T's rates
    mini_batch: int = Field(32, ge=1)
    inner_steps: int = Field(2, ge=1)
    inner_rate: float = Field(1.0, gt=0)
    inner_clip: float = Field(1.0, gt=0)
    window: int = Field(256, ge=2)
    alpha: float = Field(0.5, ge=0, lt=1)
    depth: float = Field(0.75, ge=0, lt=1)
    save_seconds: float = Field(60.0, ge=0)
    seed: int = 0


class Suffix(nn.Module):
    """The blocks that learn, with the parameters of the twins to be put in their places."""

    def __init__(self, lm: LM):
        super().__init__()
        self.lm, self.model = lm, lm.model

    def forward(self, hidden: Hidden, cache: SuffixCache | None = None) -> Tensor:
        return self.lm.suffix(hidden, cache)


class MetaLearning:
    """The start of the twins of one model, and what improves it."""

    def __init__(self, lm: LM, options: Options):
        self.lm, self.options = lm, options
        self.adapter = DualMLPAdapter(lm, options.alpha, options.depth)
        self.adapter.open()
        self.suffix = Suffix(lm)
        born = {name: p for name, p in self.suffix.named_parameters() if ".opened." in name}
        self.born = {name: p.detach().clone() for name, p in born.items()}
        self.start = {n: nn.Parameter(t.clone()) for n, t in self.born.items() if not n.endswith(".down")}
        self.log_rates = {name: nn.Parameter(torch.zeros((), device=lm.device)) for name in born}
        groups = [(self.start, options.rate), (self.log_rates, options.rates_rate)]
        self.optimizer = torch.optim.Adam([{"params": list(p.values()), "lr": rate} for p, rate in groups])

    # --- one step -----------------------------------------------------------------------------------------------

    def step(self, number: int) -> float:
        """The mean loss of its episodes, before the start is improved by them."""
        o, total = self.options, 0.0
        for group, rate in zip(self.optimizer.param_groups, (o.rate, o.rates_rate), strict=True):
            group["lr"] = rate * min(1.0, 3 * (1 - number / o.steps))
        self.optimizer.zero_grad()
        for episode in range(o.episodes):
            texts, questions, general = self.episode(number * o.episodes + episode)
            with sdpa_kernel(SDPBackend.MATH), self.lm.autocast():  # the fused kernel has no second derivative
                asked, drift = self.ask(self.read(texts), questions, general)
            ((asked + o.anchor * drift) / o.episodes).backward()  # type: ignore[no-untyped-call]
            total += float(asked.detach()) / o.episodes
        nn.utils.clip_grad_norm_(list(self.start.values()), 1.0)
        self.optimizer.step()
        return total

    def episode(self, number: int) -> tuple[list[Sequence], list[Sequence], list[Sequence]]:
        """Texts about new entities, questions about what they say, and general questions."""
        o, chance = self.options, random.Random(f"{self.options.seed} {number}")
        world = World(WORLDS + chance.randrange(10**9))
        entities = [world.entity() for _ in range(chance.randint(1, o.entities))]
        cuts = sorted({0, *(chance.randrange(len(entities)) for _ in range(o.texts - 1))})
        parts = [entities[a:b] for a, b in itertools.pairwise([*cuts, len(entities)])]
        texts = [" ".join(world.passage([entity]) for entity in part) for part in parts]
        facts = [fact for entity in entities for fact in entity.facts]
        asked = [
            study_sequence(self.lm, world.ask(fact), fact.value)
            for fact in chance.sample(facts, min(o.questions, len(facts)))
        ]
        windows = [w for text in texts for w in text_sequences(self.lm, Document("", text), o.window)]
        return windows, asked, background(self.lm, o.general, torch.Generator().manual_seed(chance.randrange(2**60)))

    def read(self, windows: list[Sequence]) -> dict[str, Tensor]:
        """The parameters of the twins after reading, as functions of the start."""
        o = self.options
        now = {name: self.start.get(name, born.clone().requires_grad_()) for name, born in self.born.items()}
        for part in mini_batches(self.lm, windows, o.mini_batch, self.adapter.first_layer):
            for _ in range(o.inner_steps):
                logits_1NV = part.look(functools.partial(self._suffix, now))
                loss = functional.cross_entropy(logits_1NV.transpose(1, 2).float(), part.targets_1N)
                gradients = torch.autograd.grad(loss, list(now.values()), create_graph=True)
                norm = float(torch.stack([g.detach().norm() for g in gradients]).norm())
                scale = o.inner_rate * min(1.0, o.inner_clip / norm)
                now = {
                    name: p - scale * self.log_rates[name].exp() * g
                    for (name, p), g in zip(now.items(), gradients, strict=True)
                }
        return now

    def _suffix(self, now: dict[str, Tensor], hidden: Hidden, cache: SuffixCache | None = None) -> Tensor:
        return cast(Tensor, functional_call(self.suffix, now, (hidden, cache)))

    def ask(self, now: dict[str, Tensor], questions: list[Sequence], general: list[Sequence]) -> tuple[Tensor, Tensor]:
        """Nats per target of the answers, and mean KL(base || T) on the general questions."""
        batch = collate([*questions, *general], self.lm.device, self.lm.pad, len(general))
        with torch.no_grad():
            hidden = self.lm.prefix(batch, self.adapter.first_layer)
        logits_NV = self._suffix(now, hidden)[batch.predicting_BT]
        asked = collate(questions, self.lm.device, self.lm.pad)
        loss = next_token(self.lm, asked, logits_NV[: asked.targets])
        return loss, self._drift(hidden, logits_NV, batch) if general else loss.new_zeros(())

    def _drift(self, hidden: Hidden, logits_NV: Tensor, batch: Batch) -> Tensor:
        """KL(base || T) on the general rows, the last of the batch."""
        rows = slice(-batch.general, None)
        part = Hidden(hidden.h_BTD[rows], hidden.mask_BT[rows], hidden.position_ids_BT[rows], hidden.layer)
        with torch.no_grad(), self.adapter.off():
            base_NV = self.lm.suffix(part)[batch.predicting_BT[rows]]
        return kl_divergence(base_NV, logits_NV[-len(base_NV) :])

    # --- files --------------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """The start as `DualMLPAdapter` reads it; its matrices in bfloat16, which is what it was begun with."""
        made: dict[str, Tensor] = {}
        for i in self.adapter.twins:
            names = {
                part: next(n for n in self.born if f".{i}.mlp.opened.{part}" in n) for part in ("gate", "up", "down")
            }
            made |= {f"{i}/{part}": self.start[names[part]].detach().bfloat16() for part in ("gate", "up")}
            made[f"{i}/rates"] = torch.stack([self.log_rates[name].detach().exp() for name in names.values()])
        return {name: t.cpu().contiguous() for name, t in made.items()}

    def save(self, path: Path, step: int) -> None:
        about = {"run": self._run()}
        state: dict[str, Tensor] = {"step": torch.tensor(step)}
        for name, parameter in self._parameters().items():
            state[f"now/{name}"] = parameter.detach()
            state |= {f"{key}/{name}": t for key, t in self.optimizer.state[parameter].items()}
        write_atomically(path, lambda place: save_file({k: t.contiguous() for k, t in state.items()}, place, about))

    @torch.no_grad()
    def load(self, path: Path) -> int:
        """Go on from a checkpoint; the number of steps done. UsageError where it is of another run: options or model."""
        with safe_open(path, "pt") as file:
            begun = (file.metadata() or {}).get("run")
        if begun != self._run():
            raise UsageError(
                f"The run in {path.parent} was begun with other options or on another model; choose another folder."
            )
        state = load_file(path)
        for name, parameter in self._parameters().items():
            parameter.copy_(state[f"now/{name}"])
            self.optimizer.state[parameter] = {
                key: state[f"{key}/{name}"].clone() for key in ("step", "exp_avg", "exp_avg_sq")
            }
        return int(state["step"])

    def _run(self) -> str:
        """What a run must have in common with the one that it goes on with: all but for how long, and when it is saved."""
        fixed = self.options.model_dump(exclude={"steps", "save_seconds"})
        return json.dumps({"base": self.lm.digest, "options": fixed}, sort_keys=True)

    def _parameters(self) -> dict[str, nn.Parameter]:
        return self.start | {f"rate of {name}": p for name, p in self.log_rates.items()}


def meta_learn(
    lm: LM, folder: Path, options: Options, progress: Callable[[int, float], None] = lambda step, loss: None
) -> Path:
    """Train in `folder`, from the checkpoint that is there if there is one; returns the file of the start."""
    folder.mkdir(parents=True, exist_ok=True)
    learning = MetaLearning(lm, options)
    checkpoint, start = folder / "checkpoint.safetensors", folder / "dual_mlp.start.safetensors"
    done = learning.load(checkpoint) if checkpoint.exists() else 0
    saved = time.monotonic()
    for number in range(done, options.steps):
        progress(number + 1, learning.step(number))
        if time.monotonic() - saved > options.save_seconds or number + 1 == options.steps:
            learning.save(checkpoint, number + 1)
            write_atomically(start, lambda place: save_file(learning.tensors(), place))
            saved = time.monotonic()
    if not start.exists():
        write_atomically(start, lambda place: save_file(learning.tensors(), place))
    learning.adapter.remove()
    return start
