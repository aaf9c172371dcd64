"""Many methods over one stream: same data, same base, a process each, resumable. Ends at results.json.

OUT/seed-0/base.json, base.jsonl       the job and its lines; floor, ceiling and what must be kept are asked once a seed
OUT/seed-0/METHOD.json, METHOD.jsonl   and METHOD.home while it runs
OUT/seed-0/written                     self-made items, a file for each document, for all methods
OUT/sentinels/                         what a model that brings no sentinels must keep, made by the first base job
OUT/results.json, OUT/report.html      everything together
OUT/lock                               one process at a time
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from accrete.errors import ModelError, UsageError
from accrete.evaluate.collect import collect
from accrete.evaluate.record import BASE, lines
from accrete.evaluate.run import WRITTEN, Job
from accrete.files import alone, write_text

Announce = Callable[[str, str, int, int, float | None], None]
"""(method, what it does, step, steps, seconds that all methods and seeds still take, where that can be told)."""
Launch = Callable[[Path, int, Callable[[Mapping[str, Any]], None]], str]
"""(job file, threads, told progress) -> why it failed, or nothing."""
STOPPED = "It was stopped."


@dataclass(frozen=True)
class Comparison:
    """What is compared: one job a method; `seeds` are those of the stream, and of methods that have a seed."""

    jobs: tuple[Job, ...]
    seeds: tuple[int, ...] = (0,)
    command: str = ""

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
    again: bool = False,
) -> dict[str, Any]:
    """Run what is missing in `out`, and write and return the results. A method that fails is a row with its error.

    `again` measures anew what is asked for; other methods and seeds in `out` stay. Raises UsageError when `out` holds another
    comparison or another process works there, and ModelError when the base model itself cannot be asked.
    Whatever else is raised, KeyboardInterrupt among it, stops the jobs that run and begins no other.
    """
    started = time.time()
    out.mkdir(parents=True, exist_ok=True)
    with alone(
        out / "lock", f"Another process ({{holder}}) measures into {out}; wait for it, or choose another --out."
    ):
        if again:
            _forget(comparison, out)
        pool = ThreadPoolExecutor(parallel)
        with contextlib.ExitStack() as stack:  # the last first: the processes end, then what waits for them
            stack.callback(pool.shutdown, cancel_futures=True)
            failures = _measure(comparison, out, announce, parallel, launch or stack.enter_context(processes()), pool)
        return collect(comparison, out, failures, started)


def _forget(comparison: Comparison, out: Path) -> None:
    """Remove what was measured of these methods and seeds, and of the base and the self-made items that they share."""
    for seed in comparison.seeds:
        shutil.rmtree(out / f"seed-{seed}" / WRITTEN, ignore_errors=True)
        for name in (BASE, *map(_name, comparison.jobs)):
            path = out / f"seed-{seed}" / f"{name}.json"
            for file in (path, path.with_suffix(".jsonl")):
                file.unlink(missing_ok=True)
            shutil.rmtree(path.with_suffix(".home"), ignore_errors=True)


def _measure(
    comparison: Comparison, out: Path, announce: Announce, parallel: int, launch: Launch, pool: ThreadPoolExecutor
) -> dict[tuple[str, int], str]:
    """Run what is missing; why methods failed, by name and seed."""
    failures: dict[tuple[str, int], str] = {}
    threads = max(1, (os.cpu_count() or 1) // parallel)
    for seed in comparison.seeds:
        base = _claim(out, comparison.jobs[0].model_copy(update={"method": None, "config": {}}), seed)
        if not lines(base.with_suffix(".jsonl")) and (error := launch(base, threads, _teller(BASE, announce))):
            raise ModelError(error)
        if not lines(base.with_suffix(".jsonl")):
            raise ModelError("The base model was asked, but its answers did not arrive.")
    queue = [(_claim(out, job, seed), job, seed) for job in comparison.jobs for seed in comparison.seeds]

    clock = Clock({path: _missing(path, seed, out) for path, _, seed in queue})

    def one(entry: tuple[Path, Job, int]) -> None:
        path, job, seed = entry
        if not _missing(path, seed, out):  # no process is started to find that out
            return
        if error := launch(path, threads, _teller(_name(job), announce, functools.partial(clock.left, path))):
            failures[_name(job), seed] = error
        clock.over(path)

    for done in [pool.submit(one, entry) for entry in queue]:
        done.result()
    return failures


@contextlib.contextmanager
def processes() -> Iterator[Launch]:
    """A `launch` that runs each job in a process of its own. Those that still run when the context ends are stopped."""
    running: list[subprocess.Popen[str]] = []
    over = threading.Event()

    def begun(process: subprocess.Popen[str]) -> None:
        running.append(process)
        if over.is_set():  # it ended between the two
            process.kill()

    def launch(path: Path, threads: int, told: Callable[[Mapping[str, Any]], None]) -> str:
        return STOPPED if over.is_set() else in_a_process(path, threads, told, begun)

    try:
        yield launch
    finally:
        over.set()
        for process in list(running):
            process.kill()


def in_a_process(
    path: Path,
    threads: int,
    told: Callable[[Mapping[str, Any]], None],
    begun: Callable[[subprocess.Popen[str]], None] = lambda process: None,
) -> str:
    """Run one job in a process of its own, which `begun` is told; returns why it failed, or nothing.

    The process ends with the call, whatever is raised meanwhile.
    """
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
    command = [sys.executable, "-m", "accrete.evaluate.run", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    begun(process)
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
    if process.returncode == -signal.SIGKILL:
        return "Its process was killed (SIGKILL), as a system does that runs out of memory."
    if process.returncode < 0:
        return f"Its process was ended by {signal.Signals(-process.returncode).name}."
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
    write_text(path, text)
    return path


def _missing(path: Path, seed: int, out: Path) -> int:
    """How many lines of a job are still to be written."""
    (base, *_) = lines(out / f"seed-{seed}" / f"{BASE}.jsonl")
    return len(base["stream"]["tasks"]) - len(lines(path.with_suffix(".jsonl")))


def _has_seed(method: str) -> bool:
    from accrete.methods import base

    return "seed" in base.find(method).Config.model_fields


def _name(job: Job) -> str:
    return job.method or BASE


class Clock:
    """How long all jobs of a comparison still take: the steps that are missing, at the mean speed of those done since."""

    def __init__(self, missing: Mapping[Path, int]):
        self.missing, self.done = dict(missing), dict.fromkeys(missing, 0)
        self.begun, self.lock = time.monotonic(), threading.Lock()

    def left(self, job: Path, step: int, steps: int) -> float | None:
        """Seconds, told that `job` is at `step` of `steps`; None as long as no step was done."""
        with self.lock:
            self.done[job] = max(self.done[job], self.missing[job] - (steps - step))
            done = sum(self.done.values())
            return (time.monotonic() - self.begun) / done * (sum(self.missing.values()) - done) if done > 0 else None

    def over(self, job: Path) -> None:
        """The job has ended, whether it came to its last step or not."""
        with self.lock:
            self.missing[job] = self.done[job]


def _teller(
    method: str, announce: Announce, left: Callable[[int, int], float | None] = lambda step, steps: None
) -> Callable[[Mapping[str, Any]], None]:
    """What a job says, as progress."""

    def told(line: Mapping[str, Any]) -> None:
        announce(method, line["what"], line["step"], line["steps"], left(line["step"], line["steps"]))

    return told


def names(asked: Sequence[str]) -> list[str]:
    """The methods meant by `asked`: "all", or names; UsageError for one that there is not."""
    from accrete.methods import base

    chosen = base.names() if "all" in asked else [base.check_name(name) for name in asked]
    return list(dict.fromkeys(chosen))
