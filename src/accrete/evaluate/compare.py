"""Many methods over one stream: same data, same base, a process each, resumable. Ends at results.json.

OUT/seed-0/base.json, base.jsonl       the job and its lines; floor, ceiling and what must be kept are asked once a seed
OUT/seed-0/METHOD.json, METHOD.jsonl   and METHOD.home while it runs
OUT/results.json, OUT/report.html      everything together
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from accrete.errors import ModelError, UsageError
from accrete.evaluate import results
from accrete.evaluate.run import Job, lines
from accrete.files import write_atomically

Announce = Callable[[str, str, int, int, float | None], None]
"""(method, what it does, step, steps, seconds left where they can be told)."""
Launch = Callable[[Path, int, Callable[[Mapping[str, Any]], None]], str]
"""(job file, threads, told progress) -> why it failed, or nothing."""
BASE = "base"


@dataclass(frozen=True)
class Comparison:
    """What is compared: one job a method; `seeds` are those of the stream, and of methods that have a seed."""

    jobs: tuple[Job, ...]
    seeds: tuple[int, ...] = (0,)
    command: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """What is asked for, in a word: the same comparison has the same."""
        told = [job.model_dump_json() for job in self.jobs] + [str(self.seeds), metadata.version("accrete")]
        return hashlib.sha256("\n".join(told).encode()).hexdigest()


def compare(
    comparison: Comparison,
    out: Path,
    announce: Announce = lambda *_: None,
    parallel: int = 1,
    launch: Launch | None = None,
) -> dict[str, Any]:
    """Run what is missing in `out`, and write and return the results. A method that fails is a row with its error.

    Raises UsageError when `out` holds another comparison, and ModelError when the base model itself cannot be asked.
    """
    launch = launch or in_a_process
    started = time.time()
    failures: dict[tuple[str, int], str] = {}
    threads = max(1, (os.cpu_count() or 1) // parallel)
    for seed in comparison.seeds:
        base = _claim(out, comparison.jobs[0].model_copy(update={"method": None, "config": {}}), seed)
        if not lines(base.with_suffix(".jsonl")) and (error := launch(base, threads, _teller(BASE, announce))):
            raise ModelError(error)
    queue = [(_claim(out, job, seed), job, seed) for job in comparison.jobs for seed in comparison.seeds]

    def one(entry: tuple[Path, Job, int]) -> None:
        path, job, seed = entry
        if _complete(path, seed, out):  # no process is started to find that out
            return
        if error := launch(path, threads, _teller(_name(job), announce)):
            failures[_name(job), seed] = error

    with ThreadPoolExecutor(parallel) as pool:
        for done in [pool.submit(one, entry) for entry in queue]:
            done.result()
    return collect(comparison, out, failures, started)


def collect(
    comparison: Comparison, out: Path, failures: Mapping[tuple[str, int], str], started: float
) -> dict[str, Any]:
    """results.json from the lines that are there."""
    bases = {seed: lines(out / f"seed-{seed}" / f"{BASE}.jsonl")[0] for seed in comparison.seeds}
    stream, model = bases[comparison.seeds[0]]["stream"], bases[comparison.seeds[0]]["model"]
    rows = []
    for job in comparison.jobs:
        name = _name(job)
        errors = [failures[name, seed] for seed in comparison.seeds if (name, seed) in failures]
        runs = [[bases[s], *lines(out / f"seed-{s}" / f"{name}.jsonl")] for s in comparison.seeds]
        whole = all(
            len(run) == len(bases[s]["stream"]["tasks"]) + 1 for run, s in zip(runs, comparison.seeds, strict=True)
        )
        if errors or not whole:
            rows.append(results.failed(name, job.config, (errors or ["it was not finished"])[0]))
        else:
            rows.append(results.row(name, job.config, runs, stream["score"]))
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
        "seeds": list(comparison.seeds),
        "command": comparison.command,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "machine": machine(model["device"]),
        "versions": {name: metadata.version(name) for name in ("accrete", "torch", "transformers", "peft")},
        **comparison.notes,
        "rows": rows,
    }
    write_atomically(out / "results.json", lambda path: _write(path, found))
    return found


def machine(device: str) -> dict[str, Any]:
    """Where it ran, in words that say what the seconds mean."""
    return {
        "system": platform.system(),
        "python": platform.python_version(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "device": device,
    }


def in_a_process(path: Path, threads: int, told: Callable[[Mapping[str, Any]], None]) -> str:
    """Run one job in a process of its own; returns why it failed, or nothing. It dies with its caller."""
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
    command = [sys.executable, "-m", "accrete.evaluate.run", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    said: list[str] = []
    listener = threading.Thread(target=lambda: said.extend(process.stderr or ()), daemon=True)
    listener.start()
    try:
        for line in process.stdout or ():
            with contextlib.suppress(ValueError):
                told(json.loads(line))
        process.wait()
    finally:
        process.kill()
        process.wait()
    listener.join(timeout=5)
    if process.returncode == 0:
        return ""
    if process.returncode < 0:
        return "It was killed by the system: probably too little memory."
    return next((line.strip() for line in reversed(said) if line.strip()), "It ended without a word.")[:300]


def _claim(out: Path, job: Job, seed: int) -> Path:
    """The job's file for this seed, written unless it is there; UsageError when another job has its place."""
    options = job.options.model_copy(update={"seed": seed})
    config = job.config | ({"seed": seed} if job.method and _has_seed(job.method) and "seed" not in job.config else {})
    text = job.model_copy(update={"options": options, "config": config}).model_dump_json(indent=2)
    path = out / f"seed-{seed}" / f"{_name(job)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.read_text("utf-8") != text:
        raise UsageError(f"{out} holds another comparison; choose another --out or remove it.")
    write_atomically(path, lambda new: _write_text(new, text))
    return path


def _complete(path: Path, seed: int, out: Path) -> bool:
    """Whether all lines of a job are there."""
    (base, *_) = lines(out / f"seed-{seed}" / f"{BASE}.jsonl")
    return len(lines(path.with_suffix(".jsonl"))) == len(base["stream"]["tasks"])


def _has_seed(method: str) -> bool:
    from accrete.methods import base

    return "seed" in base.find(method).Config.model_fields


def _name(job: Job) -> str:
    return job.method or BASE


def _teller(method: str, announce: Announce) -> Callable[[Mapping[str, Any]], None]:
    """Progress with the time left, at the mean speed of the steps of this process."""
    begun: list[tuple[float, int]] = []

    def told(line: Mapping[str, Any]) -> None:
        step, steps = line["step"], line["steps"]
        begun.append((time.monotonic(), step))
        (start, first) = begun[0]
        left = (time.monotonic() - start) / (step - first) * (steps - step) if step > first else None
        announce(method, line["what"], step, steps, left)

    return told


def _write(path: Path, found: Mapping[str, Any]) -> None:
    _write_text(path, json.dumps(found, ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")


def names(asked: Sequence[str]) -> list[str]:
    """The methods meant by `asked`: "all", or names; UsageError for one that there is not."""
    from accrete.methods import base

    chosen = base.names() if "all" in asked else [base.check_name(name) for name in asked]
    return list(dict.fromkeys(chosen))
