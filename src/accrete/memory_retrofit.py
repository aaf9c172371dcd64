"""Where a memory looks, trained before any lesson: queries, keys and gates, the model frozen. Ends at NAME.start.safetensors.

`questions` (METHODS 10d): after questions about new entities were written, both ways, other wordings find the answers
    write    V <- V - rate * gradient of the answers' loss         a few steps, V zero at first, in the rows that were read
    ask      answers in another wording, V as it is then, + anchor * KL(base || V) on general questions
    improve  queries, keys, gates and the rate, by the gradient of that loss THROUGH the weights of writing and of reading
`text` (2412.09764, 2510.15103): next token on general text, V trained beside and thrown away

Both add balance * KL(mean use of the half keys || even use): slots that everything reads are where lessons meet. V is zero
in a start, so it is silent. Killed and called again it goes on.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from accrete.adapters.memory_layer import MemoryAdapter, MemoryMLP, ProductKeys, Shape
from accrete.config import Config
from accrete.data.documents import find_documents, read_document
from accrete.data.rehearsal import background
from accrete.data.study import text_sequences
from accrete.data.world import World, relations
from accrete.errors import DocumentError, UsageError
from accrete.files import write_atomically
from accrete.gates.slots import usage
from accrete.lm import batch
from accrete.lm.model import LM, Hidden
from accrete.lm.prompts import study_sequence
from accrete.losses.distill import kl_divergence
from accrete.losses.next_token import next_token
from accrete.retrieval.space import whitening
from accrete.types import Document

WORLDS = 2_000_000  # the first seed of the worlds that are asked about: no evaluation draws from these
OPEN = 1.2785  # silu(OPEN) = 1: a gate that is born open
SHRINKAGE = 0.1  # of the covariance of states, as in retrieval
USED = 400  # texts over which the use of slots is counted


class Options(Config):
    objective: Literal["questions", "text"] = "questions"
    steps: int = Field(600, ge=1)
    # the memory
    layers: tuple[float, ...] = (0.375, 0.5, 0.625, 0.75, 0.875)
    slots: int = Field(16_384, ge=4)
    heads: int = Field(4, ge=1)
    top_k: int = Field(16, ge=1)
    key_width: int = Field(64, ge=2)
    gated: bool = False
    # an episode of questions
    entities: int = Field(5, ge=1)  # at most
    written: int = Field(48, ge=1)  # questions, at most
    asked: int = Field(24, ge=1)
    inner_steps: int = Field(2, ge=1)
    inner_rate: float = Field(300.0, gt=0)  # at first; it is learned
    general: int = Field(16, ge=1)
    anchor: float = Field(5.0, ge=0)
    # a batch of text
    texts: str = ""  # a file or a folder; without it passages of the fictional world
    batch_size: int = Field(16, ge=1)
    window: int = Field(128, ge=2)
    values_rate: float = Field(1e-2, gt=0)
    # both
    rate: float = Field(1e-3, gt=0)  # of Adam, falling to nothing over the last two thirds
    keys_rate: float = Field(3e-3, gt=0)
    balance: float = Field(0.01, ge=0)
    save_seconds: float = Field(60.0, ge=0)
    seed: int = 0

    def shape(self) -> Shape:
        return Shape(self.slots, self.heads, self.top_k, self.key_width)


class Trained(nn.Module):
    """F and m in the place of a MemoryMLP, m by some rows of V that are given: where it looks has gradients, and V too."""

    def __init__(self, memory: MemoryMLP):
        super().__init__()
        self.frozen, self.product_keys = memory.frozen, memory.product_keys
        self.mode: Literal["off", "note", "read"] = "off"
        self.rows_R: Tensor | None = None
        self.values_RD: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        y = self.frozen(x)
        self.x_TD = x.flatten(0, -2)
        if self.mode == "off":
            return y
        m = torch.zeros_like(y, dtype=torch.float32) if self.values_RD is None else self.read().view(y.shape)
        if self.mode == "note":
            self.noted = m = m.detach().requires_grad_()
        return y + m.to(y.dtype)

    def read(self) -> Tensor:
        """[T, D]: what the given rows hold of what is looked for."""
        assert self.rows_R is not None and self.values_RD is not None
        slots_TS, weights_TS = self.product_keys.look(self.x_TD)
        place_TS = torch.searchsorted(self.rows_R, slots_TS).clamp(max=len(self.rows_R) - 1)
        found_TS = weights_TS * (self.rows_R[place_TS] == slots_TS)
        m_TD = functional.embedding_bag(place_TS, self.values_RD, mode="sum", per_sample_weights=found_TS)
        return self.product_keys.give(m_TD, self.x_TD)

    def imbalance(self, of_T: Tensor) -> Tensor:
        """KL of the mean use of the half keys by these tokens from even use, summed over heads and halves: nats."""
        scores_PTHn = self.product_keys.scores(self.x_TD[of_T].detach())
        use_PHn = torch.softmax(scores_PTHn * self.product_keys.shape.top_k**0.5, -1).mean(1)
        return (use_PHn * (use_PHn * use_PHn.shape[-1] + 1e-9).log()).sum(-1).mean()


class Retrofit:
    """The memories of one model, and what improves where they look."""

    def __init__(self, lm: LM, options: Options):
        self.lm, self.options, self.adapter = lm, options, MemoryAdapter(lm, options.shape(), options.layers)
        assert lm.anatomy is not None
        self.memories = {i: Trained(memory) for i, memory in self.adapter.memories.items()}
        for i, trained in self.memories.items():
            lm.anatomy.layers[i].mlp = trained
            _make_trainable(trained.product_keys, options.gated)
        self._whiten()
        self.log_rates = {i: nn.Parameter(torch.tensor(math.log(options.inner_rate))) for i in self.memories}
        keys = [p for n, p in self.parameters().items() if n.endswith("/keys")]
        others = [p for n, p in self.parameters().items() if not n.endswith("/keys")]
        groups = [(others, options.rate), (keys, options.keys_rate), (list(self.log_rates.values()), 20 * options.rate)]
        self.texts = _windows(lm, options) if options.objective == "text" else []
        shape = (options.slots if self.texts else 0, lm.model.config.hidden_size)
        self.values = {i: nn.Parameter(torch.zeros(shape, device=lm.device)) for i in self.memories}
        groups.append((list(self.values.values()), options.values_rate))
        self.optimizer = torch.optim.Adam([{"params": p, "lr": rate} for p, rate in groups])
        self.rates = [rate for _, rate in groups]

    @torch.no_grad()
    def _whiten(self) -> None:
        """Random queries begin with what sets general questions apart, not with what they have in common."""
        sequences = [study_sequence(self.lm, *row) for row in self.lm.background[:USED]]
        for i, states_ND in self._entering(sequences).items():
            mean_D, matrix_DD = whitening(states_ND.float(), SHRINKAGE)
            keys = self.memories[i].product_keys
            keys.queries.copy_(keys.queries @ matrix_DD.T)
            keys.offset.copy_(-mean_D @ keys.queries.T)

    @torch.no_grad()
    def _entering(self, sequences: Sequence[batch.Sequence]) -> dict[int, Tensor]:
        """By layer the states [N, D] of all their tokens that enter the MLP, of the base model."""
        found: dict[int, list[Tensor]] = {i: [] for i in self.memories if sequences}
        for trained in self.memories.values():
            trained.mode = "off"
        for start in range(0, len(sequences), 16):
            part = batch.collate(sequences[start : start + 16], self.lm.device, self.lm.pad)
            self.lm.prefix(part, max(self.memories) + 1)
            for i, states in found.items():
                states.append(self.memories[i].x_TD[part.mask_BT.flatten()])
        return {i: torch.cat(states) for i, states in found.items()}

    def parameters(self) -> dict[str, nn.Parameter]:
        return {f"{i}/{n}": p for i, t in self.memories.items() for n, p in t.product_keys.named_parameters()}

    def step(self, number: int) -> float:
        """The loss of one episode or batch, before what it improves."""
        o = self.options
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * min(1.0, 1.5 * (1 - number / o.steps))
        self.optimizer.zero_grad()
        chance = random.Random(f"{o.seed} {number}")
        loss, uneven = self._questions(chance) if o.objective == "questions" else self._text(chance)
        (loss + o.balance * uneven).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(list(self.parameters().values()), 1.0)
        self.optimizer.step()
        return float(loss.detach())

    # --- the two objectives -------------------------------------------------------------------------------------

    def _questions(self, chance: random.Random) -> tuple[Tensor, Tensor]:
        o, world = self.options, World(WORLDS + chance.randrange(10**9))
        facts = [fact for _ in range(chance.randint(1, o.entities)) for fact in world.entity().facts]
        written, asked = [], []
        for fact in facts:
            asks = [(world.ask, fact.value)] + (
                [(world.reverse, fact.subject)] if relations()[fact.relation].asks_who else []
            )
            for ask, answer in asks:
                *taught, other = list(dict.fromkeys(ask(fact) for _ in range(6)))[:3]
                written += [study_sequence(self.lm, question, answer) for question in taught]
                asked.append(study_sequence(self.lm, other, answer))
        self._write(chance.sample(written, min(o.written, len(written))))
        general = background(self.lm, o.general, torch.Generator().manual_seed(chance.randrange(2**60)))
        return self._ask(chance.sample(asked, min(o.asked, len(asked))), general)

    def _write(self, items: Sequence[batch.Sequence]) -> None:
        """V after some steps of gradient descent, a function of where the memories look; the gradients are constants of it."""
        questions = batch.collate(items, self.lm.device, self.lm.pad)
        at_T, looks = questions.predicting_BT.flatten(), {}
        sums = {i: torch.zeros((), device=self.lm.device) for i in self.memories}
        with torch.no_grad():
            hidden = self.lm.prefix(questions, self.adapter.first_layer)
        for trained in self.memories.values():
            trained.mode, trained.values_RD = "note", None
        for _ in range(self.options.inner_steps):
            with self.lm.autocast():
                loss = next_token(self.lm, questions, self.lm.target_logits(questions, hidden))
            noted = torch.autograd.grad(loss, [trained.noted for trained in self.memories.values()])
            for (i, trained), gradient in zip(self.memories.items(), noted, strict=True):
                if i not in looks:  # where the base's own states look
                    looks[i] = trained.product_keys.look(trained.x_TD.detach()[at_T])
                sums[i] = sums[i] + gradient.flatten(0, -2)[at_T].float()
                slots_TS, weights_TS = looks[i]
                trained.rows_R = torch.unique(slots_TS)
                place_P = torch.searchsorted(trained.rows_R, slots_TS).flatten()
                pushes_PD = (weights_TS[..., None] * sums[i][:, None, :]).flatten(0, 1)
                pushed_RD = pushes_PD.new_zeros(len(trained.rows_R), pushes_PD.shape[1]).index_add(
                    0, place_P, pushes_PD
                )
                trained.values_RD = -self.log_rates[i].exp() * pushed_RD

    def _ask(self, asked: Sequence[batch.Sequence], general: Sequence[batch.Sequence]) -> tuple[Tensor, Tensor]:
        whole = batch.collate([*asked, *general], self.lm.device, self.lm.pad, len(general))
        count = sum(one.targets for one in asked)
        with torch.no_grad():
            hidden = self.lm.prefix(whole, self.adapter.first_layer)
        with self.lm.autocast():
            for trained in self.memories.values():
                trained.mode = "read"
            logits_NV = self.lm.target_logits(whole, hidden)
            uneven = torch.stack([t.imbalance(whole.predicting_BT.flatten()) for t in self.memories.values()]).sum()
            loss = functional.cross_entropy(logits_NV[:count].float(), whole.targets_N[:count])
            drift = loss.new_zeros(())
            if general:
                drift = kl_divergence(self._base(whole, hidden, len(asked)), logits_NV[count:])
        return loss + self.options.anchor * drift, uneven

    @torch.no_grad()
    def _base(self, whole: batch.Batch, hidden: Hidden, start: int) -> Tensor:
        """What the base model says to the rows from `start` on."""
        for trained in self.memories.values():
            trained.mode = "off"
        part = Hidden(hidden.h_BTD[start:], hidden.mask_BT[start:], hidden.position_ids_BT[start:], hidden.layer)
        rows = batch.Batch(whole.ids_BT[start:], whole.mask_BT[start:], whole.labels_BT[start:])
        return self.lm.target_logits(rows, part)

    def _text(self, chance: random.Random) -> tuple[Tensor, Tensor]:
        whole = batch.collate(
            chance.sample(self.texts, min(self.options.batch_size, len(self.texts))), self.lm.device, self.lm.pad
        )
        for i, trained in self.memories.items():
            trained.mode, trained.rows_R = "read", torch.arange(self.options.slots)
            trained.values_RD = self.values[i]
        with torch.no_grad():
            hidden = self.lm.prefix(whole, self.adapter.first_layer)
        with self.lm.autocast():
            loss = next_token(self.lm, whole, self.lm.target_logits(whole, hidden))
            uneven = torch.stack([t.imbalance(whole.mask_BT.flatten()) for t in self.memories.values()]).sum()
        return loss, uneven

    # --- what came of it ----------------------------------------------------------------------------------------

    @torch.no_grad()
    def usage(self) -> dict[str, dict[str, float]]:
        """How evenly general text uses the slots of each layer (gates/slots.py)."""
        sequences = self.texts[:USED] or [study_sequence(self.lm, *row) for row in self.lm.background[:USED]]
        entering = self._entering(sequences)
        return {
            str(i): usage(self.memories[i].product_keys.look(states_ND)[0], self.options.slots)
            for i, states_ND in entering.items()
        }

    def tensors(self) -> dict[str, Tensor]:
        """The start as `MemoryAdapter` reads it, with the rate at which V was written."""
        made = {name: p.detach().bfloat16() for name, p in self.parameters().items()}
        made |= {f"{i}/rate": log.detach().exp() for i, log in self.log_rates.items()}
        return {name: t.cpu().contiguous() for name, t in made.items()}

    def save(self, path: Path, step: int, before: str) -> None:
        state: dict[str, Tensor] = {"step": torch.tensor(step)}
        for number, parameter in enumerate(self._trained()):
            state[f"{number}/now"] = parameter.detach()
            state |= {f"{number}/{key}": t for key, t in self.optimizer.state.get(parameter, {}).items()}
        about = {"run": self._run(), "usage": before}
        write_atomically(path, lambda place: save_file({k: t.contiguous() for k, t in state.items()}, place, about))

    @torch.no_grad()
    def load(self, path: Path) -> tuple[int, str]:
        """Go on from a checkpoint: the steps done, and the usage before them. UsageError where it is of another run."""
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
        if about.get("run") != self._run():
            raise UsageError(
                f"The run in {path.parent} was begun with other options or on another model; choose another folder."
            )
        state = load_file(path)
        for number, parameter in enumerate(self._trained()):
            parameter.copy_(state[f"{number}/now"])
            kept = {key: state.get(f"{number}/{key}") for key in ("step", "exp_avg", "exp_avg_sq")}
            if all(tensor is not None for tensor in kept.values()):
                self.optimizer.state[parameter] = kept
        return int(state["step"]), about["usage"]

    def remove(self) -> None:
        """Give the model back as it was."""
        assert self.lm.anatomy is not None
        for i, trained in self.memories.items():
            self.lm.anatomy.layers[i].mlp = trained.frozen

    def _trained(self) -> list[nn.Parameter]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def _run(self) -> str:
        """What a run must have in common with the one that it goes on with: all but for how long, and when it is saved."""
        fixed = self.options.model_dump(exclude={"steps", "save_seconds"})
        return json.dumps({"base": self.lm.digest, "options": fixed}, sort_keys=True)


def retrofit(
    lm: LM, folder: Path, options: Options, progress: Callable[[int, float], None] = lambda step, loss: None
) -> tuple[Path, dict[str, Any]]:
    """Train in `folder`, from the checkpoint that is there if there is one; the file of the start, and how slots are used."""
    folder.mkdir(parents=True, exist_ok=True)
    training = Retrofit(lm, options)
    checkpoint, start = folder / "checkpoint.safetensors", folder / "memory_layer.start.safetensors"
    done, before = training.load(checkpoint) if checkpoint.exists() else (0, json.dumps(training.usage()))

    def save(number: int) -> None:
        training.save(checkpoint, number, before)
        write_atomically(start, lambda place: save_file(training.tensors(), place))

    saved = time.monotonic()
    for number in range(done, options.steps):
        progress(number + 1, training.step(number))
        if time.monotonic() - saved > options.save_seconds:
            save(number + 1)
            saved = time.monotonic()
    save(max(done, options.steps))
    after = training.usage()
    training.remove()
    return start, {"usage_before": json.loads(before), "usage_after": after}


def _make_trainable(product_keys: ProductKeys, gated: bool) -> None:
    """Its buffers become parameters; a gate is born open."""
    tensors = dict(product_keys.named_buffers())
    width, device = tensors["queries"].shape[1], tensors["queries"].device
    if gated and not product_keys.gated:
        tensors["gate"] = torch.zeros(width, width, device=device)
        tensors["gate_offset"] = torch.full((width,), OPEN, device=device)
        tensors["out"] = torch.eye(width, device=device)
    for name, tensor in tensors.items():
        if hasattr(product_keys, name):
            delattr(product_keys, name)
        product_keys.register_parameter(name, nn.Parameter(tensor.clone()))
    product_keys.gated = product_keys.gated or gated


def _windows(lm: LM, options: Options) -> list[batch.Sequence]:
    """General text, `window` tokens at a time."""
    if options.texts:
        documents: Sequence[Document] = [read_document(path) for path in find_documents(Path(options.texts)).documents]
    else:
        world = World(WORLDS + options.seed)
        documents = [Document("", world.passage([world.entity()])) for _ in range(40 * options.batch_size)]
    found = [window for document in documents for window in text_sequences(lm, document, options.window)]
    if not found:
        raise DocumentError(f"There is no text to train on in {options.texts}.")
    return found
