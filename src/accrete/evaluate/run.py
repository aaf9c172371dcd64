"""One method over one stream: lesson after lesson, with questions between them. Ends at a file with a line for every step.

    step 0    the base model: every probe without its passage (floor) and with it (ceiling), and what must be kept
    step i    task i is learned; its own probes are asked, and those of the next task, which was not learned yet
    step N    the same, then every probe, and what must be kept

Step 0 is a job of its own, since it is the same for all methods. A job that was killed goes on after its last line: the
lessons before it are in its home. Runs as a process: `python -m accrete.evaluate.run JOB.json`.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from accrete.config import Config, build
from accrete.errors import AccreteError, LessonError
from accrete.evaluate import streams
from accrete.evaluate.ask import Drift, ask, budget, sentinels
from accrete.evaluate.streams import Stream, Task
from accrete.learner import Learner
from accrete.lm.load import load
from accrete.lm.model import LM
from accrete.reader import Reader
from accrete.types import Probe

Announce = Callable[[str, int, int], None]
"""(what is being done, step, steps in all)."""


class Job(Config):
    """Everything that decides what a run measures. `method` None is the base model."""

    stream: str
    content: str = ""  # the stream's digest: files may change
    options: streams.Options = streams.Options()
    method: str | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    model: str = "embedded"
    weights: str = ""  # a mark of the model's weights: what lies under its name may change
    device: str = "auto"
    dtype: str = "auto"
    offline: bool = False
    study: str = "gold"
    teacher: str | None = None
    full_matrix: bool = False


def run(job: Job, path: Path, announce: Announce = lambda what, step, steps: None) -> None:
    """Write the lines that are still missing at `path`; lessons are kept in a folder beside it until the last line."""
    stream = streams.make(job.stream, job.options)
    lm = load(job.model, device=job.device, dtype=job.dtype, offline=job.offline)
    steps = len(stream.tasks)
    if job.method is None:
        if not lines(path):
            announce("asking the base model", 0, steps)
            _append(path, base(lm, stream))
        return
    done = len(lines(path))
    if done < steps:
        announce("asking the base model", done, steps)
        drift = Drift(lm, stream.texts)
        home = path.with_suffix(".home")
        learner = Learner(
            lm,
            method=job.method,
            home=home,
            config=job.config,
            offline=job.offline,
            study=job.study,
            teacher=job.teacher,
            max_forgetting=1.0,  # measured here, not prevented
        )
        for number in range(done + 1, steps + 1):
            announce(f"task {number}, {stream.tasks[number - 1].name}", number - 1, steps)
            _append(path, step(learner, stream, number, drift, job.full_matrix))
        shutil.rmtree(home, ignore_errors=True)
    announce("done", steps, steps)


def base(lm: LM, stream: Stream) -> dict[str, Any]:
    """Step 0."""
    reader, everything = Reader(lm, None), list(range(len(stream.tasks)))
    asked, seconds = _asked(reader, stream.tasks, everything)
    ceiling, _ = _asked(reader, stream.tasks, everything, with_context=True)
    return {
        "step": 0,
        "model": {"name": lm.name, "base_digest": lm.digest, "device": str(lm.device)},
        "stream": about(stream),
        "asked": asked,
        "ceiling": ceiling,
        "answer_seconds": seconds / max(1, len(asked)),
        **_kept(reader, stream, Drift(lm, stream.texts)),
    }


def step(learner: Learner, stream: Stream, number: int, drift: Drift, full_matrix: bool = False) -> dict[str, Any]:
    """Step `number`, counted from 1: learn, then ask."""
    lesson, last = teach(learner, stream.tasks[number - 1]), number == len(stream.tasks)
    wanted = list(range(len(stream.tasks)) if last or full_matrix else range(number - 1, number + 1))
    asked, seconds = _asked(learner.reader, stream.tasks, wanted)
    line = {"step": number, "base_digest": learner.base, "lesson": lesson, "asked": asked}
    line |= {"answer_seconds": seconds / max(1, len(asked))}
    return line | (_kept(learner.reader, stream, drift) if last or full_matrix else {})


def teach(learner: Learner, task: Task) -> dict[str, Any]:
    """One lesson, and what it cost. A lesson that is refused is taken back, and counts as one that taught nothing."""
    started = time.monotonic()
    try:
        commit = learner.learn(task.document, dates=task.dates)
    except LessonError as error:
        return {"task": task.name, "refused": str(error), "seconds": time.monotonic() - started, "peak_mb": peak_mb()}
    metrics = commit.metrics
    study = metrics.get("study", {})
    return {
        "task": task.name,
        "seconds": metrics["learning_seconds"] + study.get("seconds", 0.0),  # without measuring before and after
        "tokens": metrics["tokens"],
        "steps": metrics["steps"],
        "guard": metrics["kept_after"],
        "study": study,
        "bytes": commit.bytes,
        "peak_mb": peak_mb(),
        "trainable": learner.status()["parameters"]["trainable"],
    }


def about(stream: Stream) -> dict[str, Any]:
    """What a report says of a stream: names, numbers and every probe's question and truths."""
    return {
        "name": stream.name,
        "score": stream.score,
        "about": dict(stream.about),
        "tasks": [
            {"name": task.name, "items": len(task.document.items), "probes": [_told(probe) for probe in task.probes]}
            for task in stream.tasks
        ],
    }


def _told(probe: Probe) -> dict[str, Any]:
    return {"question": probe.question, "answers": list(probe.answers), "kind": probe.kind, "as_of": probe.as_of}


def _asked(
    reader: Reader, tasks: Sequence[Task], wanted: Sequence[int], with_context: bool = False
) -> tuple[list[dict[str, Any]], float]:
    """The probes of the wanted tasks, all at once, and the seconds that answering took."""
    places = [(task, probe) for task in wanted if task < len(tasks) for probe in range(len(tasks[task].probes))]
    limit = budget(reader.lm, [probe for task in tasks for probe in task.probes])
    rows, seconds = ask(reader, [tasks[task].probes[probe] for task, probe in places], with_context, limit)
    return [{"task": task, "probe": probe, **row} for (task, probe), row in zip(places, rows, strict=True)], seconds


def _kept(reader: Reader, stream: Stream, drift: Drift) -> dict[str, Any]:
    """What no task teaches: the scored sentinels, the stream's own sets, and how far the model is from its base."""
    sets: Mapping[str, Sequence[Probe]] = {"sentinels": sentinels(reader.lm), **stream.keep}
    kept = {}
    for name, probes in sets.items():
        rows, _ = ask(reader, probes, [bool(probe.context) for probe in probes])
        kept[name] = [round(row["grade"], 4) for row in rows]
    return {"kept": kept, "drift": drift.measure(reader)}


def peak_mb() -> float:
    """The most memory this process has had, in MB: of the accelerator where there is one."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return round(torch.cuda.max_memory_allocated() / 1e6, 1)
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)


# --- the file --------------------------------------------------------------------------------------------------------


def lines(path: Path) -> list[dict[str, Any]]:
    """The steps that are there; a last line that was cut off is not."""
    whole = path.read_text("utf-8").split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in whole]


def _append(path: Path, line: Mapping[str, Any]) -> None:
    """One line more, on disk before anything else is done; what was cut off goes."""
    with path.open("a+b") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.write(json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def main() -> None:
    """The process of one job: progress as JSON lines on stdout, one sentence on stderr when it fails."""
    path = Path(sys.argv[1])
    job = build(Job, json.loads(path.read_text("utf-8")), path.name)

    def announce(what: str, done: int, steps: int) -> None:
        sys.stdout.write(json.dumps({"what": what, "step": done, "steps": steps}) + "\n")
        sys.stdout.flush()

    try:
        run(job, path.with_suffix(".jsonl"), announce)
    except (AccreteError, RuntimeError, MemoryError, OSError, ValueError) as error:
        message = str(error) if isinstance(error, AccreteError) else f"{type(error).__name__}: {error}"
        if os.environ.get("ACCRETE_DEBUG"):
            raise
        sys.exit((message.splitlines() or [type(error).__name__])[0][:300])


if __name__ == "__main__":
    main()
