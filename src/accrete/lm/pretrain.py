"""Train a base model from a stream of token ids: Muon for matrices, AdamW for the rest, resumable to the interval.

Knows tokens, not documents: the caller brings a packed array of ids. Ends at a directory that AutoModel loads.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import nn

from accrete.config import Config
from accrete.errors import ModelError
from accrete.files import recover_directory, replace_directory
from accrete.lm.load import has_fast_bf16

if TYPE_CHECKING:
    import numpy
    from transformers import PreTrainedModel


class TrainConfig(Config):
    """How long, how fast. `tokens` is rounded down to whole batches of `batch` sequences of `length` tokens."""

    tokens: int = Field(10_000_000, ge=1)
    length: int = Field(256, ge=2)
    batch: int = Field(16, ge=1)
    muon_rate: float = Field(0.016, ge=0)
    adamw_rate: float = Field(0.002, ge=0)
    weight_decay: float = Field(0.02, ge=0)
    warmup: float = Field(0.02, ge=0, le=1)  # share of the steps in which the rate rises
    decay: float = Field(0.4, ge=0, le=1)  # share of the steps, at the end, in which it falls to 0
    clip: float = Field(1.0, gt=0)
    save_seconds: float = Field(120.0, ge=0)
    seed: int = 0
    prompt_weight: float = Field(
        1.0, ge=0, le=1
    )  # what a token of a question or passage counts beside one of an answer
    autocast: Literal["auto", "bf16", "off"] = "auto"
    compile: bool = False  # half again as fast where a C++ compiler is at hand


class Progress(NamedTuple):
    """What is known after a step. `seconds_left` counts from now at the mean speed of this run."""

    step: int
    steps: int
    loss: float
    tokens_per_second: float
    seconds_left: float


def pretrain(
    model: PreTrainedModel,
    ids: numpy.ndarray,
    config: TrainConfig,
    checkpoint: Path,
    progress: Callable[[Progress], None] = lambda _: None,
    weigh: Callable[[torch.Tensor], torch.Tensor] = torch.ones_like,
) -> float:
    """Train `model` in place on `ids` [tokens] and return the last smoothed loss (nats per token).

    `weigh` gives what every token of a batch [B, T] counts as a target; the loss is the mean under these weights.
    Every `save_seconds` the weights, both optimisers' moments and the step go to `checkpoint`; when one is there,
    training goes on from it. The order of the sequences depends on the seed alone, so an interrupted run sees what an
    uninterrupted one would have seen. The weights at the first step of the decay are kept in `undecayed` beside the
    checkpoint: a longer training starts from those, because a decayed model has settled.
    """
    steps = config.tokens // (config.batch * config.length)
    if steps < 1 or len(ids) < config.batch * config.length:
        raise ModelError(f"{len(ids):,} tokens are fewer than one batch of {config.batch} x {config.length}.")
    rows = ids[: len(ids) // config.length * config.length].reshape(-1, config.length)  # stays on disk
    device = next(model.parameters()).device
    optimizers = _optimizers(model, config)
    first, loss_ema = _resume(checkpoint, model, optimizers)
    model.train()
    bf16 = config.autocast == "bf16" or (config.autocast == "auto" and has_fast_bf16(device))
    loss_of: Callable[..., torch.Tensor] = functools.partial(_loss, model, bf16=bf16)
    loss_of = torch.compile(loss_of) if config.compile else loss_of
    started = saved = time.monotonic()
    for step in range(first, steps):
        if step == _decay_step(steps, config):
            replace_directory(checkpoint.with_name("undecayed"), functools.partial(_save_weights, model))
        batch = torch.from_numpy(rows[_batch_rows(step, len(rows), config).numpy()].astype("int64")).to(device)
        loss = loss_of(batch, weigh(batch).float())
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        for optimizer in optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * _schedule(step / steps, config)
            optimizer.step()
            optimizer.zero_grad()
        loss_ema = loss.item() if step == 0 else 0.98 * loss_ema + 0.02 * loss.item()
        now = time.monotonic()
        if now - saved > config.save_seconds and step + 1 < steps:
            _save(checkpoint, model, optimizers, step + 1, loss_ema)
            saved = now
        speed = (step + 1 - first) / (now - started)
        tokens_per_second = speed * config.batch * config.length
        progress(Progress(step + 1, steps, loss_ema, tokens_per_second, (steps - step - 1) / speed))
    _save(checkpoint, model, optimizers, steps, loss_ema)
    model.eval()
    return loss_ema


def _loss(model: PreTrainedModel, ids_BT: torch.Tensor, weights_BT: torch.Tensor, bf16: bool) -> torch.Tensor:
    """Weighted mean of the next-token losses. The head runs in pieces: its logits are the largest thing in a step."""
    with torch.autocast(ids_BT.device.type, dtype=torch.bfloat16, enabled=bf16):
        hidden_BTD = model.get_decoder()(input_ids=ids_BT, use_cache=False).last_hidden_state
        hidden_ND, targets_N = hidden_BTD[:, :-1].flatten(0, 1), ids_BT[:, 1:].flatten()
        weights_N = weights_BT[:, 1:].flatten()
        total = torch.zeros((), device=ids_BT.device)
        for hidden, targets, weights in zip(hidden_ND.chunk(8), targets_N.chunk(8), weights_N.chunk(8), strict=True):
            logits = model.get_output_embeddings()(hidden).float()
            total = total + (weights * nn.functional.cross_entropy(logits, targets, reduction="none")).sum()
    return total / weights_N.sum().clamp(min=1e-9)  # a batch may hold nothing that counts


def _optimizers(model: PreTrainedModel, config: TrainConfig) -> dict[str, torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks; AdamW for embeddings, norms and biases."""
    embedding = model.get_input_embeddings().weight
    head = model.get_output_embeddings().weight
    parameters = list(model.parameters())
    matrices = [p for p in parameters if p.ndim == 2 and p is not embedding and p is not head]
    chosen = {id(p) for p in matrices}
    rest = [p for p in parameters if id(p) not in chosen]
    optimizers = {
        "muon": torch.optim.Muon(matrices, lr=config.muon_rate, weight_decay=config.weight_decay),
        "adamw": torch.optim.AdamW(rest, lr=config.adamw_rate, betas=(0.9, 0.95), weight_decay=0.0),
    }
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers


def _schedule(done: float, config: TrainConfig) -> float:
    """Warm up, hold, fall in a straight line: the factor on the rates when a share `done` of the steps is behind."""
    up = min(1.0, done / config.warmup + 0.05) if config.warmup else 1.0
    down = min(1.0, (1.0 - done) / config.decay) if config.decay else 1.0
    return min(up, down)


def _decay_step(steps: int, config: TrainConfig) -> int:
    return int((1.0 - config.decay) * steps)


def _batch_rows(step: int, rows: int, config: TrainConfig) -> torch.Tensor:
    """Which rows step `step` reads: a new permutation in every epoch, without keeping a generator's state."""
    position = step * config.batch
    wanted = torch.arange(position, position + config.batch)
    epochs = wanted // rows
    picked = torch.empty_like(wanted)
    for epoch in set(epochs.tolist()):
        order = torch.randperm(rows, generator=torch.Generator().manual_seed(config.seed * 1_000_003 + epoch))
        inside = epochs == epoch
        picked[inside] = order[wanted[inside] % rows]
    return picked


# --- the checkpoint: model.safetensors, optimizer.safetensors, step.json ---------------------------------------------


def _save(path: Path, model: PreTrainedModel, optimizers: dict, step: int, loss: float) -> None:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    moments = {
        f"{kind}/{names[id(parameter)]}/{key}": value.reshape(1) if value.ndim == 0 else value
        for kind, optimizer in optimizers.items()
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }

    def write(folder: Path) -> None:
        _save_weights(model, folder)
        save_file(moments, folder / "optimizer.safetensors")
        (folder / "step.json").write_text(json.dumps({"step": step, "loss": loss}))

    replace_directory(path, write)


def _save_weights(model: PreTrainedModel, folder: Path) -> None:
    save_file({name: p.detach().contiguous() for name, p in model.named_parameters()}, folder / "model.safetensors")


def _resume(path: Path, model: PreTrainedModel, optimizers: dict) -> tuple[int, float]:
    recover_directory(path)
    if not path.exists():
        return 0, 0.0
    saved = json.loads((path / "step.json").read_text())
    parameters = dict(model.named_parameters())
    weights = load_file(path / "model.safetensors")
    if {n: tuple(w.shape) for n, w in weights.items()} != {n: tuple(p.shape) for n, p in parameters.items()}:
        raise ModelError(f"The checkpoint in {path} belongs to a model of another shape; remove it to start anew.")
    with torch.no_grad():
        for name, value in weights.items():
            parameters[name].copy_(value)
    for key, value in load_file(path / "optimizer.safetensors").items():
        kind, name, field = key.split("/")
        device = parameters[name].device if value.ndim > 1 or field != "step" else "cpu"
        optimizers[kind].state[parameters[name]][field] = (value.reshape(()) if field == "step" else value).to(device)
    return saved["step"], saved["loss"]
