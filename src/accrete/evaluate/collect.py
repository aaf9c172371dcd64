"""results.json from the lines of all jobs: what was compared, where, with what, and a row for every method."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accrete.evaluate import results
from accrete.evaluate.record import BASE, lines
from accrete.files import write_text

if TYPE_CHECKING:
    from accrete.evaluate.compare import Comparison


def collect(
    comparison: Comparison, out: Path, failures: Mapping[tuple[str, int], str], started: float
) -> dict[str, Any]:
    """Write and return the results of the jobs in `out`; `failures` say why jobs did not end, by method and seed."""
    seeds = comparison.seeds
    bases = {seed: lines(out / f"seed-{seed}" / f"{BASE}.jsonl")[0] for seed in seeds}
    stream, model = bases[seeds[0]]["stream"], bases[seeds[0]]["model"]
    rows = []
    for job in comparison.jobs:
        name = job.method or BASE
        config = effective(name, job.config, seeds)
        errors = [failures[name, seed] for seed in seeds if (name, seed) in failures]
        runs = [[bases[s], *lines(out / f"seed-{s}" / f"{name}.jsonl")] for s in seeds]
        whole = all(len(run) == len(run[0]["stream"]["tasks"]) + 1 for run in runs)
        if errors or not whole:
            rows.append(results.failed(name, config, (errors or ["it was not finished"])[0]))
        else:
            rows.append(results.row(name, config, runs, stream["score"]))
    first = comparison.jobs[0]
    found = {
        "schema": results.SCHEMA,
        "digest": comparison.digest,
        "stream": stream
        | {
            "content": first.content,
            "options": first.options.model_dump(mode="json", exclude_none=True, exclude={"data", "probes"}),
        },
        "lessons": len(stream["tasks"]),
        "model": model["name"],
        "base_digest": model["base_digest"],
        "dtype": first.dtype,
        "study": first.study,
        "teacher": first.teacher,
        "full_matrix": first.full_matrix,
        "seeds": list(seeds),
        "command": comparison.command,
        "commit": commit(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "machine": machine(model["device"]),
        "versions": {name: metadata.version(name) for name in ("accrete", "torch", "transformers", "peft")},
        "rows": rows,
    }
    write_text(out / "results.json", json.dumps(found, ensure_ascii=False, indent=1, allow_nan=False) + "\n")
    return found


def effective(method: str, given: Mapping[str, Any], seeds: Sequence[int] = (0,)) -> dict[str, Any]:
    """The options that a method ran with, its defaults filled in; as given for one that is none of ours."""
    from accrete.methods import base

    if method not in base.names():
        return dict(given)
    try:
        config = base.find(method).Config(**given).model_dump(mode="json")
    except ValueError:  # then its row has that as its error
        return dict(given)
    if "seed" in config and "seed" not in given:
        config["seed"] = seeds[0] if len(seeds) == 1 else list(seeds)
    return config


def commit() -> str | None:
    """The commit of the code that runs, marked where files were changed since; None where it is no checkout."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return None

    def git(*command: str) -> str:
        return subprocess.run(["git", *command], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "src")
        return git("rev-parse", "--short=7", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def machine(device: str) -> dict[str, Any]:
    """Where it ran, in words that say what the seconds mean."""
    return {
        "system": platform.system(),
        "python": platform.python_version(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "device": device,
    }
