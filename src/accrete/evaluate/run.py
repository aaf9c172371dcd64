"""One method over one stream: lesson after lesson, with questions between them. Ends at a file with a line for every step.

    step 0    the base model: every probe without its passage (floor) and with it (ceiling), and what must be kept
    step 1    where no lesson will do, a document that has nothing to do with the first is learned, asked, and taken back
    step i    task i is learned; its own probes are asked, and those of the next task, which was not learned yet
    step N    the same, then every probe, and what must be kept

Step 0 is a job of its own, since it is the same for all methods. A job that was killed goes on after its last line: the
lessons before it are in its home. Runs as a process: `python -m accrete.evaluate.run JOB.json`.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field

from accrete.config import Config, build
from accrete.dreams.written import Written
from accrete.errors import AccreteError, LessonError
from accrete.evaluate import record, streams
from accrete.evaluate.ask import ask, budget, sentinels
from accrete.evaluate.control import Control, control, related, superseded
from accrete.evaluate.drift import Drift
from accrete.evaluate.machine import forget_peak, machine, peak_mb, source, utc
from accrete.evaluate.record import lines
from accrete.evaluate.streams import Stream, Task
from accrete.files import alone
from accrete.learner import Learner
from accrete.lm.load import load
from accrete.lm.model import LM
from accrete.reader import Reader
from accrete.store.journal import Journal
from accrete.store.sentinels import provide_sentinels, read_sentinels
from accrete.types import Probe

PROTOCOL = 3  # of what a run asks and writes: what was measured by another is not gone on with
WRITTEN = "written"  # the folder beside the jobs in which self-made items lie, for all of them
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
    protocol: int = PROTOCOL


def run(job: Job, path: Path, announce: Announce = lambda what, step, steps: None) -> None:
    """Write the lines that are still missing at `path`; lessons are kept in a folder beside it until the last line.

    A model that brings no sentinels makes its own in step 0, for all jobs: they lie in the folder above that of `path`.
    UsageError while another process writes these lines.
    """
    busy = f"{path.stem} is being measured by another process ({{holder}}) in {path.parent}; wait for it."
    stream = streams.make(job.stream, job.options)
    with alone(path.with_suffix(".lock"), busy):
        said = record.mend(path)
        steps, done = len(stream.tasks), len(lines(path))
        if said:
            announce(said, done, steps)
        if done < (1 if job.method is None else steps):
            lm = load(job.model, device=job.device, dtype=job.dtype, offline=job.offline)
            announce("asking the base model", done, steps)
            if job.method is None:
                provide_sentinels(lm, path.parent.parent, lambda _: announce("making sentinels", 0, steps))
                record.append(path, signed(base(lm, stream, control(stream, job.options)), lm))
            else:
                _lessons(job, path, stream, lm, announce)
        announce("done", steps, steps)


def _lessons(job: Job, path: Path, stream: Stream, lm: LM, announce: Announce) -> None:
    """The steps of a method that are missing."""
    steps, home = len(stream.tasks), path.with_suffix(".home")
    read_sentinels(lm, path.parent.parent)
    drift = Drift(lm, stream.texts)
    done = _resumed(job, path, stream, lm, announce)
    learner = Learner(
        lm,
        method=job.method or "",
        home=home,
        config=job.config,
        offline=job.offline,
        study=job.study,
        teacher=job.teacher,
        max_forgetting=1.0,  # measured here, not prevented
    )
    learner.study.written = Written(path.parent / WRITTEN)  # the jobs of a folder are of one base model and one writer
    last, taught = done[-1]["head"] if done else None, [commit.id for commit in learner.history.active()]
    while taught and taught[-1] != last:  # a lesson whose line did not come to be
        learner.undo()
        taught.pop()
    for number in range(len(done) + 1, steps + 1):
        line: dict[str, Any] = {}
        if number == 1 and (controlled := control(stream, job.options)).task:
            announce(f"the control, {controlled.of}", 0, steps)
            line = learn_a_stranger(learner, controlled)
        announce(f"task {number}, {stream.tasks[number - 1].name}", number - 1, steps)
        record.append(path, signed(line | step(learner, stream, number, drift, job.full_matrix), lm))
    shutil.rmtree(home, ignore_errors=True)


def signed(line: Mapping[str, Any], lm: LM) -> dict[str, Any]:
    """The line with what measured it, and when it was done: the next may be of another day, code and machine."""
    return {**line, "run": {"measured": utc(time.time()), "machine": machine(str(lm.device)), **source()}}


def _resumed(job: Job, path: Path, stream: Stream, lm: LM, announce: Announce) -> list[dict[str, Any]]:
    """The lines to go on after, whose lessons are in the home. Where they are not, it begins anew."""
    done, home = lines(path), path.with_suffix(".home")
    if done and home.is_dir():
        taught = {commit.id for commit in Journal(home).active(lm.digest, job.method or "")}
        if done[-1]["head"] is None or done[-1]["head"] in taught:
            return done
    if done:
        announce(f"the lessons behind {path.name} are gone: it begins anew", 0, len(stream.tasks))
    record.keep(path, 0)
    shutil.rmtree(home, ignore_errors=True)
    return []


def base(lm: LM, stream: Stream, controlled: Control | None = None) -> dict[str, Any]:
    """Step 0. A probe without a passage of its own is shown its lesson's document, as far as it fits, for the ceiling."""
    reader, everything = Reader(lm, None), list(range(len(stream.tasks)))
    asked, seconds = _asked(reader, stream.tasks, everything)
    ceiling, _ = _asked(reader, list(map(_with_passages, stream.tasks)), everything, with_context=True)
    controlled = controlled or Control()
    return {
        "step": 0,
        "model": {"name": lm.name, "base_digest": lm.digest, "device": str(lm.device)},
        "stream": about(stream),
        "control": {"of": controlled.of, "reason": controlled.reason},
        "asked": asked,
        "ceiling": ceiling,
        "ceiling_left_out": len(asked) - len(ceiling),
        "answer_seconds": seconds / max(1, len(asked)),
        **_kept(reader, stream, Drift(lm, stream.texts)),
    }


def _with_passages(task: Task) -> Task:
    """The task with a passage for every probe, wherever there is anything to read."""
    return replace(task, probes=tuple(replace(p, context=p.context or task.document.text) for p in task.probes))


def step(learner: Learner, stream: Stream, number: int, drift: Drift, full_matrix: bool = False) -> dict[str, Any]:
    """Step `number`, counted from 1: learn, then ask."""
    lesson, last = teach(learner, stream.tasks[number - 1]), number == len(stream.tasks)
    wanted = list(range(len(stream.tasks)) if last or full_matrix else range(number - 1, number + 1))
    asked, seconds = _asked(learner.reader, stream.tasks, wanted)
    status = learner.status()
    line = {
        "step": number,
        "base_digest": learner.base,
        "head": status.get("head"),
        "lesson": lesson | {"trainable": status["parameters"]["trainable"]},
        "asked": asked,
        "answer_seconds": seconds / max(1, len(asked)),
    }
    return line | (_kept(learner.reader, stream, drift) if last or full_matrix else {})


def learn_a_stranger(learner: Learner, controlled: Control) -> dict[str, Any]:
    """The control: a document is learned that has nothing to do with the first lesson, its probes asked, all taken back."""
    if controlled.task is None:
        return {}
    lesson = teach(learner, controlled.task)
    if "refused" in lesson:
        return {"control": {"asked": [], "reason": f"the other document was not learned: {lesson['refused']}"}}
    limit = budget(learner.reader.lm, controlled.task.probes)
    rows, _ = ask(learner.reader, controlled.task.probes, max_new_tokens=limit)
    learner.undo()
    return {"control": {"asked": [{"probe": probe, **row} for probe, row in enumerate(rows)], "reason": ""}}


def teach(learner: Learner, task: Task) -> dict[str, Any]:
    """One lesson, and what it cost. A lesson that is refused is taken back, and counts as one that taught nothing."""
    forget_peak()
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
    }


def about(stream: Stream) -> dict[str, Any]:
    """What a report says of a stream: names, numbers and every probe's question and truths."""
    marks = zip(stream.tasks, related(stream.tasks), superseded(stream.tasks), strict=True)
    return {
        "name": stream.name,
        "score": stream.score,
        "about": dict(stream.about),
        "tasks": [
            {
                "name": task.name,
                "items": len(task.document.items),
                "probes": [
                    {
                        "question": probe.question,
                        "answers": list(probe.answers),
                        "kind": probe.kind,
                        "as_of": probe.as_of,
                        "related": known,
                        "superseded": old,
                    }
                    for probe, known, old in zip(task.probes, knows, olds, strict=True)
                ],
            }
            for task, knows, olds in marks
        ],
    }


def _asked(
    reader: Reader, tasks: Sequence[Task], wanted: Sequence[int], with_context: bool = False
) -> tuple[list[dict[str, Any]], float]:
    """The probes of the wanted tasks, all at once, and the seconds that answering took; with context, those that have it."""
    wanted = [task for task in wanted if task < len(tasks)]
    places = [(task, probe) for task in wanted for probe in range(len(tasks[task].probes))]
    if with_context:
        places = [(task, probe) for task, probe in places if tasks[task].probes[probe].context.strip()]
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
