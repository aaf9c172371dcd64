"""LoRA from learning to undoing through `Learner` on a large shape: what holds, how long it takes, how much memory.

    PYTHONPATH=src:benchmarks python scripts/gpu/lora.py [--model qwen2.5-0.5b] [--dtype bfloat16] [--items 100]

The weights are random unless a model is named, so nothing is said about answers that were not studied. Ends at one line of
JSON; the exit code is 1 when a check failed.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from learn_throughput import load_lm

from accrete.data.world import World
from accrete.learner import Learner
from accrete.lm.batch import Sequence, collate
from accrete.lm.model import LM
from accrete.settings import parse_value
from accrete.types import Document

METHOD = "lora_replay_ewc"


def logits(lm: LM) -> torch.Tensor:
    """The logits of a fixed line, on the CPU."""
    with torch.no_grad():
        return lm.logits(collate([Sequence(tuple(range(5, 69)))], lm.device)).float().cpu()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="qwen2.5-0.5b")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--set", action="append", default=[], metavar="key=value")
    parser.add_argument("--quick", action="store_true", help="ten items, four steps: does it run at all?")
    options = parser.parse_args()
    given = [*options.set, "max_steps=4"] if options.quick else options.set
    items = 10 if options.quick else options.items
    with tempfile.TemporaryDirectory() as folder:
        config = {key: parse_value(value, key) for key, _, value in (text.partition("=") for text in given)}
        found = run(options, config, items, Path(folder))
    print(json.dumps(found))
    raise SystemExit(0 if all(found["checks"].values()) else 1)


def run(options: argparse.Namespace, config: dict[str, Any], items: int, folder: Path) -> dict[str, Any]:
    """Two lessons in two domains, asked, carried away, undone."""
    lm = load_lm(options.model, options.device, options.dtype)
    untaught = logits(lm)
    learner = Learner(lm, method=METHOD, home=folder / "home", config=config, max_forgetting=1.0)
    born = learner.digest
    world, lessons, checks = World(5), {}, {"silent at birth": torch.equal(untaught, logits(lm))}
    for domain in ("ships", "towns"):
        facts = [fact for _ in range(max(1, items // 5)) for fact in world.entity(domain.removesuffix("s")).facts]
        document, probes = Document(domain, items=tuple(world.items(facts, (0,)))), world.probes(facts, 0)
        started = time.perf_counter()
        metrics = learner.learn(document, probes=probes, domain=domain).metrics
        keys = ("learning_seconds", "steps", "tokens", "loss_before", "loss_after", "probes_after", "kept_after")
        lessons[domain] = {key: metrics[key] for key in keys} | {"seconds": round(time.perf_counter() - started, 2)}
        lessons[domain]["other_domain"] = learner.grade(probes, domain="ships")
        checks[f"{domain}: its loss fell"] = metrics["loss_after"] < metrics["loss_before"]
    taught, digest = logits(lm), learner.digest

    learner.save_checkpoint(folder / "checkpoint")
    learner.method.save_adapter(["towns"], folder / "adapter")  # type: ignore[attr-defined]
    learner.undo()
    learner.undo()
    checks["undone to the birth, bit for bit"] = learner.digest == born and torch.equal(untaught, logits(lm))
    learner.load_checkpoint(folder / "checkpoint")
    checks["checkpoint: digest"] = learner.digest == digest
    checks["checkpoint: logits, bit for bit"] = torch.equal(taught, logits(lm))

    peak = {"peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)}  # before a second model
    if lm.device.type == "cuda":
        peak["peak_gpu_gb"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    from peft import PeftModel

    fresh = load_lm(options.model, options.device, options.dtype)  # a shape is drawn from the same seed
    fresh.model = PeftModel.from_pretrained(fresh.model, str(folder / "adapter")).eval()
    apart = float((logits(fresh) - taught).abs().max())
    checks["peft reads the adapter: the same logits"] = apart <= 1e-3 * float(taught.abs().max())
    return {
        "model": options.model,
        "dtype": options.dtype,
        "device": torch.cuda.get_device_name() if lm.device.type == "cuda" else "cpu",
        "lessons": lessons,
        "adapter_parameters": dict(learner.reader.domains or {}),
        "home_mb": round(learner.status()["bytes"] / 1e6, 1),
        "peft_apart": apart,
        "checks": checks,
    } | peak


if __name__ == "__main__":
    main()
