"""A thousand questions and answers about new things, learned as one lesson: what it took, what was learned, what was kept.

    python benchmarks/thousand.py [--method NAME] [--model embedded|DIRECTORY|ID] [--set key=value] [--dtype NAME] [--json]

Two hundred entities of the fictional world that no training text names, five facts each. Every fact is studied in ONE
wording and asked in that one and in another. Beside the figures stand the reference's claims for the same task: under 10
seconds, under 8 GB, under 5 % lost. Ends at figures: the guard of the Learner is told to let everything pass.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

STUDIED, OTHER = 0, 2  # the wording of the study items, and one that is not among them
FACTS = 5  # an entity
CLAIM_SECONDS, CLAIM_GB, CLAIM_LOST = 10.0, 8.0, 0.05
SHOWN_WITH_PASSAGE = 100  # examples of which the ceiling is taken


def measured(options: argparse.Namespace, home: str) -> dict[str, Any]:
    """Learn the examples as one lesson in `home` and measure around it."""
    import torch

    from accrete.data.world import World
    from accrete.learner import Learner
    from accrete.settings import parse_value
    from accrete.types import Document

    began = time.perf_counter()
    config = {key: parse_value(value, key) for key, _, value in (text.partition("=") for text in options.set)}
    learner = Learner(
        options.model,
        method=options.method,
        home=home,
        config=config,
        device=options.device,
        dtype=options.dtype,
        offline=True,
        max_forgetting=1.0,  # what was forgotten is reported here, not refused
        progress=said,
    )
    cuda = learner.lm.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    world = World(options.seed)
    entities = world.entities(options.examples // FACTS)
    facts = [fact for entity in entities for fact in entity.facts]
    known = {question for question, *_ in (*learner.lm.sentinels, *learner.lm.background)}
    if known & {world.question(fact, phrasing) for fact in facts for phrasing in range(4)}:
        raise SystemExit("Some of these things are known to the model already: choose another --seed.")
    passages = [(entity, world.passage([entity])) for entity in entities[: SHOWN_WITH_PASSAGE // FACTS]]
    shown = [probe for entity, passage in passages for probe in world.probes(entity.facts, OTHER, passage)]
    studied, other = world.probes(facts, STUDIED), world.probes(facts, OTHER)
    found: dict[str, Any] = {
        "method": learner.method_name,
        "model": learner.lm.name,
        "device": torch.cuda.get_device_name() if cuda else f"cpu, {torch.get_num_threads()} threads",
        "dtype": options.dtype,
        "options": config,
        "examples": len(facts),
        "floor": learner.grade(other),
        "ceiling": learner.grade(shown, with_context=True),
        "scored_before": learner.kept(split="scored"),
    }
    started, worked = time.perf_counter(), time.process_time()
    commit = learner.learn(Document("a thousand", items=tuple(world.items(facts, (STUDIED,)))))
    found["seconds_lesson"] = round(time.perf_counter() - started, 2)  # its own measuring and the commit in it
    found["processor_seconds_lesson"] = round(
        time.process_time() - worked, 2
    )  # of all threads: steadier on a busy machine
    keys = ("steps", "stopped_at_limit", "tokens", "loss_before", "loss_after", "kept_before", "kept_after")
    found |= {key: commit.metrics.get(key) for key in keys} | {"seconds_learning": commit.metrics["learning_seconds"]}
    # Taken here: how much the questions below need is not what the lesson took.
    found["peak_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT / 1e9, 3)
    if cuda:
        found["peak_gpu_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 3)
    found |= {
        "studied_wording": learner.grade(studied),
        "other_wording": learner.grade(other),
        "scored_after": learner.kept(split="scored"),
        "seconds_in_all": round(time.perf_counter() - began, 1),
    }
    return found | {"claims": claims(found)}


_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes in one unit of ru_maxrss


def claims(found: dict[str, Any]) -> dict[str, bool | None]:
    """Which of the reference's three claims hold for what was measured; None where there is nothing to hold it against."""
    lost = [
        1 - found[f"{split}_after"] / found[f"{split}_before"]
        for split in ("kept", "scored")
        if found[f"{split}_before"]
    ]
    return {
        "seconds": found["seconds_learning"] < CLAIM_SECONDS,
        "memory": found.get("peak_gpu_gb", found["peak_gb"]) < CLAIM_GB,
        "lost": max(lost) < CLAIM_LOST if lost else None,
    }


def said(stage: str, step: int, loss: float) -> None:
    if sys.stderr.isatty():
        print(f"\r{stage} {step} {loss:.3f}   ", end="", file=sys.stderr, flush=True)
    elif step % 50 == 0:
        print(f"{time.process_time():.0f} s of processor: {stage} {step} {loss:.3f}", file=sys.stderr, flush=True)


def table(found: dict[str, Any]) -> str:
    """The figures in lines for reading."""

    def share(key: str) -> str:
        return "none" if found[key] is None else f"{found[key]:.3f}"

    def holds(claim: str) -> str:
        return {True: "yes", False: "no", None: "not measured"}[found["claims"][claim]]

    limit = " (stopped at max_steps)" if found["stopped_at_limit"] else ""
    memory = f"{found['peak_gb']:.2f} GB" + (f", GPU {found['peak_gpu_gb']:.2f} GB" if "peak_gpu_gb" in found else "")
    lines = [
        f"{found['method']} on {found['model']} ({found['device']}, {found['dtype']}) {found['options'] or ''}",
        f"  {found['examples']} examples, {found['tokens']:,} target tokens, {found['steps']} steps{limit}",
        f"  seconds         learning {found['seconds_learning']:.1f}, the lesson {found['seconds_lesson']:.1f},"
        f" everything {found['seconds_in_all']:.0f}; the lesson's processor time {found['processor_seconds_lesson']:.1f}",
        f"  peak memory     {memory}",
        f"  answered        floor {share('floor')}, studied wording {share('studied_wording')},"
        f" other wording {share('other_wording')}, ceiling with the passage {share('ceiling')}",
        f"  loss            {found['loss_before']:.3f} -> {found['loss_after']:.3f} nats a target token",
        f"  kept, guard     {share('kept_before')} -> {share('kept_after')}",
        f"  kept, scored    {share('scored_before')} -> {share('scored_after')}",
        f"  the reference claims: under {CLAIM_SECONDS:.0f} s: {holds('seconds')};"
        f" under {CLAIM_GB:.0f} GB: {holds('memory')}; under {CLAIM_LOST:.0%} lost: {holds('lost')}",
    ]
    return "\n".join(lines)


def main() -> None:
    from accrete.methods import base

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", choices=base.names(), action="append", help="repeatable; all of them without it")
    parser.add_argument("--only", choices=base.names(), help=argparse.SUPPRESS)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--set", action="append", default=[], metavar="key=value", help="an option of the method")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--examples", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=2_024)
    parser.add_argument("--quick", action="store_true", help="ten examples, two steps: does it run at all?")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.examples, options.set = 10, [*options.set, "max_steps=2"]
    methods = [options.only] if options.only else options.method or base.names()
    if len(methods) > 1:  # a process each: peak memory never falls again
        for method in methods:
            subprocess.run([sys.executable, __file__, *sys.argv[1:], "--only", method], check=True)
        return
    options.method = methods[0]
    with tempfile.TemporaryDirectory() as home, contextlib.redirect_stdout(sys.stderr):
        found = measured(options, home)
    print(json.dumps(found) if options.json else table(found), flush=True)


if __name__ == "__main__":
    main()
