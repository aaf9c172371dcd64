"""The jobs of a comparison as tasks of ray (extra `scale`), on many machines. Ends at the lines of a job, written here.

    here                                     where ray puts it
    seed-0/METHOD.json ------ its text ----> a folder for the while, and the process that compare() starts
    progress           <----- an actor ----- what the process says
    seed-0/METHOD.jsonl <---- its lines ---- when it is done

No folder is shared. Lines come back when they are whole: the lessons behind half of them would stay on a machine that may
be gone, so a job that was cut off begins anew. Every machine has accrete, the model and the data under the same names;
a machine where one of them is another is found out.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

from accrete.errors import AccreteError, UsageError
from accrete.evaluate import streams
from accrete.evaluate.compare import STOPPED, Launch, in_a_process
from accrete.evaluate.record import BASE, lines
from accrete.evaluate.run import Job
from accrete.files import check_plain_name, write_text

Say = Callable[[Mapping[str, Any]], None]
POLL = 1.0  # seconds between two looks at a job


@contextlib.contextmanager
def cluster(parallel: int) -> Iterator[Launch]:
    """A `launch` for compare(): on the cluster of RAY_ADDRESS, else on one that is there, else on a ray of its own here.

    Each of `parallel` jobs at once gets its share of the processors, and a GPU where there are any and it may use one.
    UsageError when ray is missing or cannot be reached.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # ray reports home unless told not to
    try:
        import ray
    except ImportError:
        raise UsageError('--on ray needs the extra "scale": pip install "accrete[scale]".') from None
    began = not ray.is_initialized()
    try:
        try:
            if began:
                ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
            cpus, has_gpus = share(ray.nodes(), parallel)
            ear = ray.remote(num_cpus=0)(Ear).remote()
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise UsageError(f"Ray cannot be used: {_first_line(error)}") from None
        task = ray.remote(max_retries=0, num_cpus=cpus)(work)
        with _interruptible() as stopped:
            yield _launch(ray, task, ear, cpus, has_gpus, stopped)
    finally:
        if began:
            ray.shutdown()


def share(nodes: list[Mapping[str, Any]], parallel: int) -> tuple[int, bool]:
    """The processors of one job of `parallel`, never more than the smallest machine has; and whether there are GPUs."""
    there = [node["Resources"] for node in nodes if node["Alive"]]
    processors = [int(resources.get("CPU", 0)) for resources in there if resources.get("CPU", 0) >= 1]
    if not processors:
        raise UsageError("Ray has no processors to run on.")
    return max(1, min(*processors, sum(processors) // parallel)), any(resources.get("GPU") for resources in there)


def _launch(ray: Any, task: Any, ear: Any, cpus: int, has_gpus: bool, stopped: threading.Event) -> Launch:
    def launch(path: Path, threads: int, told: Say) -> str:
        if is_whole(path):
            return ""
        if stopped.is_set():
            return STOPPED
        text = path.read_text("utf-8")
        gpus = int(has_gpus and json.loads(text)["device"] != "cpu")
        running = task.options(num_gpus=gpus).remote(path.name, text, cpus, ear, str(path), _texts(_sentinels(path)))
        try:
            while not ray.wait([running], timeout=POLL)[0]:
                if stopped.is_set():
                    ray.cancel(running)
                    return STOPPED
                if line := ray.get(ear.heard.remote(str(path))):
                    told(line)
            return take(path, ray.get(running))
        except ray.exceptions.RayError as error:
            return f"Ray lost it: {_first_line(error)}"

    return launch


# --- there ------------------------------------------------------------------------------------------------------------


class Ear:
    """What the jobs say while they run, for those who wait for them."""

    def __init__(self) -> None:
        self.said: dict[str, Mapping[str, Any]] = {}

    def tell(self, job: str, line: Mapping[str, Any]) -> None:
        self.said[job] = line

    def heard(self, job: str) -> Mapping[str, Any] | None:
        """The last line of this job that nobody has heard yet."""
        return self.said.pop(job, None)


def work(
    name: str, job: str, threads: int, ear: Any, place: str, sentinels: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Any]:
    """Run the job of this text on this machine: {"error", "lines", "sentinels", "machine", "version"}."""
    found: dict[str, Any] = {"machine": platform.node(), "version": metadata.version("accrete"), "lines": ""}
    if error := other_data(job):
        return found | {"error": error}
    with tempfile.TemporaryDirectory(prefix="accrete-") as folder:
        path = Path(folder) / "seed" / name
        for there, text in [(path, job), *((_sentinels(path) / file, rows) for file, rows in sentinels.items())]:
            there.parent.mkdir(exist_ok=True)
            write_text(there, text)
        error = in_a_process(path, threads, lambda line: ear.tell.remote(place, line))
        written = path.with_suffix(".jsonl")
        lines_of = "" if error else written.read_text("utf-8")
        return found | {"error": error, "lines": lines_of, "sentinels": _texts(_sentinels(path))}


def other_data(text: str) -> str:
    """Why the stream of a job is not here what it was where the job was made, or nothing."""
    job = Job.model_validate_json(text)
    try:
        if job.content in ("", streams.digest(streams.make(job.stream, job.options.model_copy(update={"seed": 0})))):
            return ""
    except AccreteError as error:
        return f"{platform.node()}: {error}"
    return f'The stream "{job.stream}" is another on {platform.node()}: its data differ.'


# --- here -------------------------------------------------------------------------------------------------------------


def is_whole(path: Path) -> bool:
    """Whether all lines of the job at `path` are here."""
    done = len(lines(path.with_suffix(".jsonl")))
    if path.stem == BASE:
        return done > 0
    return done == len(_base(path)["stream"]["tasks"])


def take(path: Path, outcome: Mapping[str, Any]) -> str:
    """Write the lines of a job that ran elsewhere; why they cannot be taken, or nothing."""
    machine, version = outcome["machine"], metadata.version("accrete")
    if outcome["version"] != version:
        return f"{machine} has accrete {outcome['version']}, this machine {version}."
    if outcome["error"]:
        return str(outcome["error"])
    if path.stem != BASE:
        base = _base(path)["model"]["base_digest"]
        if any(json.loads(line)["base_digest"] != base for line in outcome["lines"].split("\n")[:-1]):
            return f"{machine} has another base model than the machine that asked it first."
    for name, text in outcome.get("sentinels", {}).items():
        place = _sentinels(path) / check_plain_name(Path(name).stem, "file")
        place.parent.mkdir(exist_ok=True)
        write_text(place.with_suffix(".jsonl"), text)
    write_text(path.with_suffix(".jsonl"), outcome["lines"])
    return ""


def _base(path: Path) -> dict[str, Any]:
    return lines(path.with_name(f"{BASE}.jsonl"))[0]


def _sentinels(path: Path) -> Path:
    """Where the jobs of a comparison find what a model without sentinels of its own must keep."""
    return path.parent.parent / "sentinels"


def _texts(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text("utf-8") for file in folder.glob("*.jsonl")}


@contextlib.contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """An event that is set when the user stops the program: threads that wait for ray would not notice."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return

    def stop(number: int, frame: Any) -> None:
        stopped.set()
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    if not callable(before[signal.SIGINT]):  # ignored, as for what runs in the background
        del before[signal.SIGINT]
    for number in before:
        signal.signal(number, stop)
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _first_line(error: Exception) -> str:
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (said or [type(error).__name__])[0][:300]
