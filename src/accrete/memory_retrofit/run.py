"""Queries and keys are trained, the model frozen, V thrown away. Ends at the file of a start and what it changed.

`wordings`   questions in other words look at the same slots, other questions elsewhere (wordings.py)
`text`       next token on general text, V trained beside (text.py; 2412.09764, 2510.15103)

V is zero in a start, so it is silent. Killed and called again a run goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from accrete.errors import UsageError
from accrete.files import write_atomically
from accrete.lm.model import LM
from accrete.memory_retrofit.measure import MEANING, measured
from accrete.memory_retrofit.options import Options
from accrete.memory_retrofit.text import Text
from accrete.memory_retrofit.wordings import Wordings


class Objective(Protocol):
    """What is trained, one step after the other; a step depends on its number and on what is trained alone."""

    @property
    def optimizer(self) -> torch.optim.Optimizer: ...

    @property
    def data(self) -> str:
        """A digest of what it is trained on, where the options do not say it."""

    def step(self, number: int) -> float:
        """The loss before what this step improves."""

    def tensors(self) -> dict[str, Tensor]:
        """The start as `MemoryAdapter` reads it."""

    def remove(self) -> None:
        """Give the model back as it was."""


OBJECTIVES: Mapping[str, Callable[[LM, Options], Objective]] = {"wordings": Wordings, "text": Text}


def retrofit(
    lm: LM, folder: Path, options: Options, progress: Callable[[int, float], None] = lambda step, loss: None
) -> tuple[Path, dict[str, Any]]:
    """Train in `folder`, from the checkpoint that is there if there is one; the file of the start, and what it changed.

    UsageError where the checkpoint is of another run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, start = folder / "checkpoint.safetensors", folder / "memory_layer.start.safetensors"
    training = OBJECTIVES[options.objective](lm, options)
    try:
        run = _run(lm, options, training.data)
        done = _done(checkpoint, run)
        before = measured(lm, options, {})
        if done:
            _load(training.optimizer, checkpoint)

        def save(steps: int) -> None:
            _save(training.optimizer, checkpoint, {"run": run, "steps": str(steps)})
            write_atomically(start, lambda place: save_file(training.tensors(), place))

        _train(training, done, options, save, progress)
    finally:
        training.remove()
    after = measured(lm, options, load_file(start))
    return start, {"steps_before": done, "steps": options.steps, "before": before, "after": after, "meaning": MEANING}


def _train(
    training: Objective,
    done: int,
    options: Options,
    save: Callable[[int], None],
    progress: Callable[[int, float], None],
) -> None:
    """From `done` to the last step; the rate falls over the second half of them, so a longer run goes on at a higher one."""
    rates = [group["lr"] for group in training.optimizer.param_groups]
    saved = time.monotonic()
    for number in range(done, options.steps):
        for group, rate in zip(training.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * min(1.0, 2 * (1 - number / options.steps))
        progress(number + 1, training.step(number))
        if time.monotonic() - saved > options.save_seconds:
            save(number + 1)
            saved = time.monotonic()
    save(max(done, options.steps))


def _run(lm: LM, options: Options, data: str) -> str:
    """What a run must have in common with the one that it goes on with: all but for how long, and when it is saved."""
    fixed = options.model_dump(exclude={"steps", "save_seconds"})
    return json.dumps({"base": lm.digest, "data": data, "options": fixed}, sort_keys=True)


def _done(checkpoint: Path, run: str) -> int:
    """The steps that a checkpoint has behind it; UsageError where it is of another run."""
    if not checkpoint.exists():
        return 0
    with safe_open(checkpoint, "pt") as file:
        about = file.metadata() or {}
    if about.get("run") != run:
        raise UsageError(
            f"The run in {checkpoint.parent} was begun with other options or on another model or text; choose another folder."
        )
    return int(about["steps"])


def _save(optimizer: torch.optim.Optimizer, checkpoint: Path, about: dict[str, str]) -> None:
    """What is trained and its moments; of a table the rows that have moved."""
    state: dict[str, Tensor] = {}
    for number, parameter in enumerate(_trained(optimizer)):
        own = optimizer.state.get(parameter, {})
        state[f"{number}/now"] = parameter.detach()[own["place"] >= 0] if "place" in own else parameter.detach()
        rows = int(own["rows"]) if "rows" in own else None  # buffers have room for more
        state |= {f"{number}/{key}": t[:rows] if key in ("first", "second", "counts") else t for key, t in own.items()}
    write_atomically(checkpoint, lambda place: save_file({k: t.contiguous() for k, t in state.items()}, place, about))


@torch.no_grad()
def _load(optimizer: torch.optim.Optimizer, checkpoint: Path) -> None:
    state = load_file(checkpoint)
    for number, parameter in enumerate(_trained(optimizer)):
        own = {name.partition("/")[2]: t for name, t in state.items() if name.startswith(f"{number}/")}
        now = own.pop("now")
        if "place" in own:
            parameter[own["place"] >= 0] = now
        else:
            parameter.copy_(now)
        if own:
            optimizer.state[parameter] = own


def _trained(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
