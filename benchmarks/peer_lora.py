"""A peer: LoRA as anyone would write it with transformers and peft, measured on a stream as every method is.

    python benchmarks/peer_lora.py --stream temporal --limit 60 --out DIR
    accrete compare --merge DIR OTHER --out BOTH        puts its row among those of a comparison

One adapter, and lesson after lesson AdamW on the answers of the study items, so many epochs: no replay, nothing that holds
it to its base. The learning is torch's and peft's; what loads, asks and scores is accrete's, the same for all. Rank, alpha,
rate and batch are those of accrete's own LoRA. Ends at DIR/results.json and report.html in the form of `accrete compare`.
"""

from __future__ import annotations

import argparse
import functools
import json
import shlex
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from plain_loop import Row, padded

from accrete.errors import AccreteError, UsageError
from accrete.evaluate import report, streams
from accrete.evaluate.collect import collect
from accrete.evaluate.compare import Comparison, Launch, in_a_process
from accrete.evaluate.control import control
from accrete.evaluate.drift import Drift
from accrete.evaluate.record import BASE, lines
from accrete.evaluate.run import Job, learn_a_stranger, signed, step
from accrete.files import alone, json_lines, write_text
from accrete.lm.load import load, weights_mark
from accrete.lm.model import LM
from accrete.lm.prompts import study_sequence
from accrete.reader import Reader
from accrete.store.sentinels import read_sentinels
from accrete.types import Document

NAME = "peft_lora"
RECIPE = {"rank": 16, "alpha": 32.0, "rate": 1e-3, "batch_size": 16, "epochs": 30}
WINDOW = 256  # tokens of a text at once, where a lesson has no study items


class PlainLora:
    """What the harness needs of whatever learns: `learn`, `undo`, `reader`, `status` and the base's digest."""

    def __init__(self, lm: LM, recipe: dict[str, Any], seed: int):
        self.lm, self.recipe, self.base, self.reader = lm, recipe, lm.digest, Reader(lm, None)
        torch.manual_seed(seed)
        config = LoraConfig(
            r=recipe["rank"], lora_alpha=recipe["alpha"], target_modules="all-linear", task_type="CAUSAL_LM"
        )
        self.model = get_peft_model(lm.model, config)  # in place: the reader's model has the adapter

    def learn(self, document: Document, dates: Sequence[str] = ()) -> Any:
        self.before = torch.get_rng_state(), [p.detach().clone() for p in self._trainable()]
        rows, started = self._rows(document), time.monotonic()
        steps = train(self.model, rows, self.recipe, self.lm.pad, self.lm.mixed)
        learning = time.monotonic() - started
        tokens = sum(len(ids) - max(1, start) for ids, start in rows)  # what is studied, once, as a Learner counts it
        metrics = {"learning_seconds": learning, "tokens": tokens, "steps": steps, "kept_after": None}
        return SimpleNamespace(metrics=metrics, bytes=sum(p.numel() * p.element_size() for p in self._trainable()))

    def undo(self) -> None:
        """As before the last lesson, the random numbers to come included."""
        random, parameters = self.before
        torch.set_rng_state(random)
        with torch.no_grad():
            for parameter, was in zip(self._trainable(), parameters, strict=True):
                parameter.copy_(was)

    def status(self) -> dict[str, Any]:
        return {"parameters": {"trainable": sum(p.numel() for p in self._trainable())}}

    def _trainable(self) -> list[torch.nn.Parameter]:
        return [p for p in self.model.parameters() if p.requires_grad]

    def _rows(self, document: Document) -> list[Row]:
        """The questions, of which the answers are learned; without questions the text."""
        found = [study_sequence(self.lm, item.question, item.answer, item.context) for item in document.items]
        if found:
            return [(list(sequence.ids), sequence.target_from) for sequence in found]
        ids = self.lm.tokenizer(document.text, add_special_tokens=False)["input_ids"]
        return [(ids[start : start + WINDOW], 1) for start in range(0, len(ids), WINDOW)]


def train(model: Any, rows: list[Row], recipe: dict[str, Any], pad: int, mixed: bool) -> int:
    """One lesson; returns its updates. Written from torch and peft alone."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=recipe["rate"])
    model.train()
    steps = 0
    for _ in range(recipe["epochs"]):
        order = torch.randperm(len(rows)).tolist()
        for start in range(0, len(rows), recipe["batch_size"]):
            some = [rows[i] for i in order[start : start + recipe["batch_size"]]]
            inputs, labels = padded(some, pad, model.device)
            with torch.autocast(model.device.type, torch.bfloat16, enabled=mixed):
                loss = model(**inputs, labels=labels, use_cache=False).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
            optimizer.step()
            steps += 1
    model.eval()
    return steps


# --- measured as the methods are --------------------------------------------------------------------------------------


def measure(job: Job, seeds: int, out: Path, command: str = "", launch: Launch = in_a_process) -> dict[str, Any]:
    """The results of the peer; what is in `out` already is not measured again."""
    out.mkdir(parents=True, exist_ok=True)
    with alone(out / "lock", f"Another process ({{holder}}) measures into {out}; wait for it."):
        return _measure(job, seeds, out, command, launch)


def _measure(job: Job, seeds: int, out: Path, command: str, launch: Launch) -> dict[str, Any]:
    started = time.time()
    for seed in range(seeds):
        seeded = job.model_copy(update={"options": job.options.model_copy(update={"seed": seed})})
        base = _claim(out / f"seed-{seed}" / f"{BASE}.json", seeded.model_copy(update={"method": None, "config": {}}))
        if error := launch(base, torch.get_num_threads(), functools.partial(_tell, seed)):
            raise UsageError(error)
        path = _claim(out / f"seed-{seed}" / f"{NAME}.json", seeded)
        written = path.with_suffix(".jsonl")
        if len(lines(written)) != len(lines(base.with_suffix(".jsonl"))[0]["stream"]["tasks"]):
            write_text(written, json_lines(learn_and_ask(seeded, seed, out)))
    found = collect(Comparison((job,), tuple(range(seeds)), command), out, {}, started)
    write_text(out / "report.html", report.html(found))
    return found


def learn_and_ask(job: Job, seed: int, out: Path) -> list[dict[str, Any]]:
    """The lines of a run: lesson after lesson, with the harness's own questions between them. `out` has the sentinels."""
    stream = streams.make(job.stream, job.options)
    lm = load(job.model, device=job.device, dtype=job.dtype, offline=job.offline)
    read_sentinels(lm, out)
    drift, peer, found = Drift(lm, stream.texts), PlainLora(lm, job.config, seed), []
    controlled = learn_a_stranger(peer, control(stream, job.options))
    for number, task in enumerate(stream.tasks, 1):
        _say(seed, f"task {number} of {len(stream.tasks)}, {task.name}")
        line = (controlled if number == 1 else {}) | step(peer, stream, number, drift)
        found.append(signed(line, lm))
    return found


def _claim(path: Path, job: Job) -> Path:
    text = job.model_dump_json(indent=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.read_text("utf-8") != text:
        raise UsageError(f"{path} is of another run; choose another --out or remove it.")
    write_text(path, text)
    return path


def _tell(seed: int, line: Mapping[str, Any]) -> None:
    _say(seed, line["what"])


def _say(seed: int, what: str) -> None:
    print(f"{NAME}, seed {seed}: {what}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stream", required=True)
    for name in ("lessons", "facts", "limit"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--device", default="auto")
    for name, value in RECIPE.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--json", action="store_true", help="print the row")
    parser.add_argument("--offline", action="store_true")
    asked = vars(parser.parse_args())
    warnings.filterwarnings("ignore", category=FutureWarning)  # peft of transformers
    asked["data"] = asked["data"] and asked["data"].resolve()
    try:
        chosen = {name: asked[name] for name in ("lessons", "facts", "limit", "data") if asked[name] is not None}
        options = streams.Options(**chosen)
        content = streams.digest(streams.make(asked["stream"], options))
        job = Job(
            stream=asked["stream"],
            content=content,
            options=options,
            method=NAME,
            config={name: asked[name] for name in RECIPE},
            model=asked["model"],
            weights=weights_mark(asked["model"]),
            device=asked["device"],
            offline=asked["offline"],
        )
        command = shlex.join(["python", "benchmarks/peer_lora.py", *sys.argv[1:]])
        (row,) = measure(job, asked["seeds"], asked["out"], command)["rows"]
    except (AccreteError, ValueError) as error:
        sys.exit(f"peer_lora.py: {str(error).splitlines()[0]}")
    figures = {key: value for key, value in row.items() if isinstance(value, int | float | str)}
    print(json.dumps(figures) if asked["json"] else f"learned {row['learned']:.2f}, kept {row['kept']:.2f}")


if __name__ == "__main__":
    main()
