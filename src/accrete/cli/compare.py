"""The verbs that measure methods: evaluate, compare. Ends at a table, results.json and a report."""

import functools
import json
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accrete.cli.compare_table import show
from accrete.cli.jobs import jobs_of, method_names, named_stream, resolved_settings
from accrete.cli.session import Session, check_choice, verb
from accrete.cli.typed_questions import questions_about
from accrete.errors import UsageError

if TYPE_CHECKING:
    from accrete.evaluate.compare import Launch
    from accrete.evaluate.run import Job

StreamName = Annotated[
    str | None, typer.Option("--stream", help="What is learned and asked; `accrete streams` lists them.")
]
Lessons = Annotated[int | None, typer.Option(min=1, help="How many lessons, for streams that are drawn.")]
Facts = Annotated[int | None, typer.Option(min=1, help="How many facts: a lesson (world), in all (temporal).")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many facts or questions in all.")]
Data = Annotated[Path | None, typer.Option(help="A file or folder; `accrete streams NAME` says of what form.")]
Questions = Annotated[
    Path | None, typer.Option("--probes", help="Questions with answers (.jsonl, .json, .csv, .tsv), for documents.")
]
StudyOption = Annotated[
    str | None,
    typer.Option("--study", help="Whose study items: gold (given), self, off, auto [gold; auto with --document]."),
]
Teacher = Annotated[str | None, typer.Option(metavar="URL[#MODEL]", help="Who writes them, with --study self.")]
Seeds = Annotated[int, typer.Option(min=1, help="Repeat with so many seeds.")]
Jobs = Annotated[int, typer.Option(min=1, help="So many methods at once.")]
Out = Annotated[Path | None, typer.Option(help="Where results.json and report.html go [a folder of the home].")]
Full = Annotated[bool, typer.Option("--full-matrix", help="Ask every task after every lesson.")]
Again = Annotated[bool, typer.Option("--again", help="Measure anew what was measured already.")]
Merge = Annotated[bool, typer.Option("--merge", help="Measure nothing: join the results in the folders DIR.")]
Folders = Annotated[
    list[Path] | None, typer.Argument(metavar="DIR...", help="With --merge: what --out was of each run.")
]
On = Annotated[str | None, typer.Option("--on", help="ray: on the machines of RAY_ADDRESS (extra: scale) [here].")]


@verb
def evaluate(
    session: Session,
    stream: StreamName = None,
    lessons: Lessons = None,
    facts: Facts = None,
    limit: Limit = None,
    data: Data = None,
    probes: Questions = None,
    study: StudyOption = None,
    teacher: Teacher = None,
    seeds: Seeds = 1,
    out: Out = None,
    full_matrix: Full = False,
    again: Again = False,
) -> None:
    """Measure one method on a stream: what it learns, what it keeps, what it costs, beside floor and ceiling.

    The method is that of --method or of the settings, with its options. Stopped and called again, it goes on.
    """
    from accrete.methods import DEFAULT, base

    named_stream(stream)
    methods = [base.check_name(session.settings().settings.method or DEFAULT)]
    resolved, whose = resolved_settings(session, methods, study, teacher)
    chosen = {"lessons": lessons, "facts": facts, "limit": limit, "data": data, "probes": probes}
    jobs = jobs_of(resolved, stream, methods, chosen, study=whose, teacher=teacher, full_matrix=full_matrix)
    _run(session, jobs, seeds, out, 1, again)


@verb
def compare(
    session: Session,
    folders: Folders = None,
    stream: StreamName = None,
    methods: Annotated[str | None, typer.Option(help="Names between commas, or all [all].")] = None,
    document: Annotated[Path | None, typer.Option(help="Learn this document instead of a stream.")] = None,
    probes: Questions = None,
    lessons: Lessons = None,
    facts: Facts = None,
    limit: Limit = None,
    data: Data = None,
    study: StudyOption = None,
    teacher: Teacher = None,
    seeds: Seeds = 1,
    jobs: Jobs = 1,
    out: Out = None,
    full_matrix: Full = False,
    again: Again = False,
    on: On = None,
    merge: Merge = False,
) -> None:
    """Measure methods side by side on a stream, or on one document and your questions about it.

    Same data and same base model, a fresh process each. A method that fails is a row with its error. Stopped and called
    again, it goes on where it was. `compare --merge DIR DIR` joins what several machines measured.
    """
    chosen = {"lessons": lessons, "facts": facts, "limit": limit, "data": data, "probes": probes}
    if merge:
        given = {"stream": stream, "methods": methods, "document": document, "study": study, "on": on, **chosen}
        if wrong := [f"--{key}" for key, value in given.items() if value is not None]:
            raise UsageError(f"--merge measures nothing: it takes folders and --out, and no {', '.join(wrong)}.")
        _merge(session, folders or [], out)
        return
    if folders:
        raise UsageError(f"{folders[0]} is a folder to join with --merge, or an option lacks its name.")
    check_choice("--on", on, ["ray"])
    if document is None:
        named_stream(stream)
    elif stream or data:
        raise UsageError("--document takes the place of --stream and --data.")
    asked = method_names(session, methods)
    resolved, whose = resolved_settings(session, asked, study, teacher)
    if document is not None:
        stream, chosen["data"], whose = "documents", document, study or "auto"
        if probes is None:
            chosen["probes"] = questions_about(document, session)
    made = jobs_of(resolved, stream, asked, chosen, study=whose, teacher=teacher, full_matrix=full_matrix)
    _run(session, made, seeds, out, jobs, again, on)


def _run(
    session: Session,
    jobs: "tuple[Job, ...]",
    seeds: int,
    out: Path | None,
    parallel: int,
    again: bool,
    on: str | None = None,
) -> None:
    """Measure, print, and leave with 1 when a method failed."""
    from accrete.evaluate.compare import Comparison, compare

    comparison = Comparison(jobs, tuple(range(seeds)), command=shlex.join(["accrete", *sys.argv[1:]]))
    place = out or session.home_directory() / "comparisons" / f"{jobs[0].stream}-{comparison.digest[:10]}"
    if on and parallel == 1:
        parallel = len(jobs) * seeds  # what has no room yet waits there
    line = _Line()
    try:
        with _terminable(), _launcher(on, parallel) as launch:
            found = compare(comparison, place, line, parallel, launch, again)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_stopped(jobs, place, again)) from None
    finally:
        line.done()
    _show(session, found, place)


@contextmanager
def _terminable() -> Iterator[None]:
    """Within it a SIGTERM stops what runs as Ctrl-C does: a job that a cluster ends leaves no process behind."""

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stopped(jobs: "tuple[Job, ...]", place: Path, again: bool) -> str:
    """What is there, and how to go on."""
    from accrete.evaluate.record import lines

    done = sum(len(lines(path)) for path in place.glob("seed-*/*.jsonl") if path.stem != "base")
    without = " without --again" if again else ""
    typed = jobs[0].options.probes
    asked = f", with --probes {typed}" if typed and typed.name.startswith("typed-") else ""
    return f"Stopped after {done} measured lessons; the same command{without}{asked} goes on from there (in {place})."


def _merge(session: Session, folders: Sequence[Path], out: Path | None) -> None:
    """Join what was measured, write it as a comparison's results, and print it."""
    from accrete.evaluate import merge
    from accrete.files import write_text

    found = merge.merge({str(f): merge.read(f) for f in folders}, shlex.join(["accrete", *sys.argv[1:]]))
    place = out or session.home_directory() / "comparisons" / f"{found['stream']['name']}-{found['digest'][:10]}"
    place.mkdir(parents=True, exist_ok=True)
    write_text(place / "results.json", json.dumps(found, ensure_ascii=False, indent=1, allow_nan=False) + "\n")
    _show(session, found, place)


def _launcher(on: str | None, parallel: int) -> "AbstractContextManager[Launch | None]":
    """What runs the jobs: None is a process each on this machine."""
    if on is None:
        return nullcontext()
    from accrete.evaluate import on_ray

    return on_ray.cluster(parallel)


def _show(session: Session, found: dict[str, Any], place: Path) -> None:
    """Write the report, print the results, and leave with 1 when a method failed."""
    from accrete.evaluate import report
    from accrete.evaluate.results import KEYS
    from accrete.files import write_text

    write_text(place / "report.html", report.html(found))
    shown = {
        "stream": found["stream"]["name"],
        "lessons": found["lessons"],
        "base_digest": found["base_digest"],
        "seeds": found["seeds"],
        "out": str(place),
        "rows": [{key: row.get(key) for key in KEYS} for row in found["rows"]],
    }
    session.print(shown, functools.partial(show, found=found, place=place))
    if any(row["error"] for row in found["rows"]):
        raise typer.Exit(1)


class _Line:
    """Progress on stderr, with --json as well: one line that rewrites itself on a terminal, a line a step elsewhere."""

    def __init__(self) -> None:
        self.live, self.last = sys.stderr.isatty(), ""

    def __call__(self, method: str, what: str, step: int, steps: int, left: float | None) -> None:
        text = f"{method}: {what} ({step}/{steps})" + (f", about {_duration(left)} left" if left else "")
        if self.live:
            room = shutil.get_terminal_size().columns - 1  # a line that wraps could not be written over
            print(
                f"\r\x1b[K{text if len(text) <= room else text[: room - 1] + '…'}", end="", file=sys.stderr, flush=True
            )
        elif text != self.last:
            print(text, file=sys.stderr, flush=True)
        self.last = text

    def done(self) -> None:
        if self.live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
