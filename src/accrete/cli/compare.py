"""The verbs that measure methods: evaluate, compare. Ends at a table, results.json and a report."""

import functools
import hashlib
import json
import shlex
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accrete.cli.lessons import plain_table
from accrete.cli.session import Session, verb
from accrete.errors import DocumentError, UsageError, did_you_mean

if TYPE_CHECKING:
    from rich.console import Console

    from accrete.evaluate.compare import Launch
    from accrete.evaluate.run import Job

StreamName = Annotated[
    str | None, typer.Option("--stream", help="What is learned and asked; `accrete streams` lists them.")
]
Lessons = Annotated[int | None, typer.Option(min=1, help="How many lessons, for streams that are drawn.")]
Facts = Annotated[int | None, typer.Option(min=1, help="How many facts: a lesson (world), in all (temporal).")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many facts or questions in all.")]
Data = Annotated[Path | None, typer.Option(help="A file or folder in the stream's own format.")]
Questions = Annotated[Path | None, typer.Option("--probes", help="Questions with answers (.jsonl), for documents.")]
StudyOption = Annotated[
    str | None, typer.Option("--study", help="Whose study items: gold (given), self, off, auto [gold].")
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
COLUMNS = {
    "floor": "floor",
    "learned": "learned",
    "kept": "kept",
    "ceiling": "ceiling",
    "sentinels": "sentinels",
    "plasticity": "plasticity",
    "stability": "stability",
    "versioned": "versioned",
    "token_f1": "F1",
    "forgetting": "forgetting",
    "kl_to_base": "KL",
}
KEYS = (
    "method", "learned", "kept", "sentinels", "plasticity", "stability", "token_f1", "versioned", "op", "bwt", "fwt",
    "forgetting", "forgetting_ratio", "wrong_document", "floor", "ceiling", "kl_to_base", "top1_agreement",
    "perplexity_before", "perplexity_after", "learn_seconds", "answer_seconds", "tokens", "tokens_per_second", "bytes",
    "peak_mb", "trainable", "refused", "intervals", "error",
)  # fmt: skip


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
    from accrete.methods import DEFAULT

    method = session.settings().settings.method or DEFAULT
    chosen = {"lessons": lessons, "facts": facts, "limit": limit, "data": data, "probes": probes}
    jobs = _jobs(session, stream, [method], chosen, study=study, teacher=teacher, full_matrix=full_matrix)
    _run(session, jobs, seeds, out, 1, again)


@verb
def compare(
    session: Session,
    folders: Folders = None,
    stream: StreamName = None,
    methods: Annotated[str, typer.Option(help="Names between commas, or all.")] = "all",
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
    if merge:
        _merge(session, folders or [], out)
        return
    if folders:
        raise UsageError(f"{folders[0]} is a folder to join with --merge, or an option lacks its name.")
    if document is not None:
        if stream or data:
            raise UsageError("--document takes the place of --stream and --data.")
        stream, data, probes = "documents", document, probes or _typed(session)
    chosen = {"lessons": lessons, "facts": facts, "limit": limit, "data": data, "probes": probes}
    made = _jobs(session, stream, methods.split(","), chosen, study=study, teacher=teacher, full_matrix=full_matrix)
    _run(session, made, seeds, out, jobs, again, on)


def _jobs(
    session: Session, stream: str | None, methods: Sequence[str], chosen: dict[str, Any], **how: Any
) -> "tuple[Job, ...]":
    """A job for every method, from the settings and the verb's own options."""
    from accrete.config import build
    from accrete.evaluate import streams as known
    from accrete.evaluate.compare import names
    from accrete.evaluate.run import Job
    from accrete.lm.load import weights_mark

    if stream is None:
        raise UsageError(f"Name a stream with --stream: {', '.join(known.names())}.")
    for key in ("data", "probes"):
        if chosen[key] is not None:
            if not chosen[key].exists():
                raise DocumentError(f"There is no file {chosen[key]}.")
            chosen[key] = chosen[key].resolve()  # the processes may run elsewhere
    resolved = session.settings()
    settings = resolved.settings
    if how["study"] is None:
        how["study"] = "gold"
    options = build(known.Options, {key: value for key, value in chosen.items() if value is not None}, "the options")
    content = known.digest(
        known.make(stream, options)
    )  # what is wrong with the data is said before anything is measured
    return tuple(
        Job(
            stream=stream,
            content=content,
            options=options,
            method=method,
            config=settings.options.get(method, {}),
            model=settings.model,
            weights=weights_mark(settings.model),
            device=settings.device,
            dtype=settings.dtype,
            offline=settings.offline,
            **how,
        )
        for method in names([method.strip() for method in methods])
    )


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
    import shutil

    from accrete.evaluate.compare import Comparison, compare

    comparison = Comparison(jobs, tuple(range(seeds)), command=shlex.join(["accrete", *sys.argv[1:]]))
    place = out or session.home_directory() / "comparisons" / f"{jobs[0].stream}-{comparison.digest[:10]}"
    if again:
        for folder in place.glob("seed-*"):
            shutil.rmtree(folder)
    if on and parallel == 1:
        parallel = len(jobs) * seeds  # what has no room yet waits there
    line = _Line(bool(session.json))
    with _launcher(on, parallel) as launch:
        try:
            found = compare(comparison, place, line, parallel, launch)
        finally:
            line.done()
    _show(session, found, place)


def _merge(session: Session, folders: Sequence[Path], out: Path | None) -> None:
    """Join what was measured, write it as a comparison's results, and print it."""
    from accrete.evaluate import merge
    from accrete.files import write_atomically

    found = merge.merge({str(f): merge.read(f) for f in folders}, shlex.join(["accrete", *sys.argv[1:]]))
    place = out or session.home_directory() / "comparisons" / f"{found['stream']['name']}-{found['digest'][:10]}"
    place.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    write_atomically(place / "results.json", lambda path: _write(path, text))
    _show(session, found, place)


def _launcher(on: str | None, parallel: int) -> "AbstractContextManager[Launch | None]":
    """What runs the jobs: None is a process each on this machine."""
    if on is None:
        return nullcontext()
    if on != "ray":
        raise UsageError(f'Jobs cannot run on "{on}".{did_you_mean(on, ["ray"])}')
    from accrete.evaluate import on_ray

    return on_ray.cluster(parallel)


def _show(session: Session, found: dict[str, Any], place: Path) -> None:
    """Write the report, print the results, and leave with 1 when a method failed."""
    from accrete.evaluate import report
    from accrete.files import write_atomically

    page = report.html(found)
    write_atomically(place / "report.html", lambda path: _write(path, page))
    shown = {
        "stream": found["stream"]["name"],
        "lessons": found["lessons"],
        "base_digest": found["base_digest"],
        "seeds": found["seeds"],
        "out": str(place),
        "rows": [{key: row.get(key) for key in KEYS} for row in found["rows"]],
    }
    session.print(shown, functools.partial(_table, found=found, place=place))
    if any(row["error"] for row in found["rows"]):
        raise typer.Exit(1)


def _table(console: "Console", found: dict[str, Any], place: Path) -> None:
    rows = found["rows"]
    columns = {key: name for key, name in COLUMNS.items() if any(row.get(key) is not None for row in rows)}
    questions = sum(len(task["probes"]) for task in found["stream"]["tasks"])
    console.print(
        f"{found['stream']['name']}: {found['lessons']} lessons, {questions:,} questions, learned = {found['stream']['score']}"
    )
    table = plain_table("method", *columns.values(), "tokens learned", "s a lesson", "questions/s", "peak MB")
    for row in rows:
        if row["error"]:
            table.add_row(row["method"], *["-"] * (len(columns) + 4))
            continue
        cost = (f"{row['tokens']:,.0f}", f"{row['learn_seconds']:.1f}", f"{1 / row['answer_seconds']:.0f}",
                f"{row['peak_mb']:.0f}")  # fmt: skip
        table.add_row(row["method"], *(_with_interval(row, key) for key in columns), *cost)
    console.print(table)
    for row in rows:
        if row["error"]:
            console.print(f"{row['method']} failed: {row['error']}", markup=False)
    console.print(f"report: {place / 'report.html'}", markup=False)


def _with_interval(row: dict[str, Any], key: str) -> str:
    """0.93 ±0.04: half of the interval's width, for the two figures that everything is about."""
    value = row.get(key)
    if value is None:
        return "-"
    text = f"{value:.3f}" if key == "kl_to_base" else f"{value:.2f}"
    if key in ("learned", "kept") and key in row["intervals"]:
        low, high = row["intervals"][key]
        text += f" ±{(high - low) / 2:.2f}"
    return text


class _Line:
    """Progress on stderr: one line that rewrites itself on a terminal, a line for every step elsewhere."""

    def __init__(self, quiet: bool):
        self.live, self.quiet, self.last = sys.stderr.isatty(), quiet, ""

    def __call__(self, method: str, what: str, step: int, steps: int, left: float | None) -> None:
        text = f"{method}: {what} ({step}/{steps})" + (f", about {_duration(left)} left" if left else "")
        if self.live:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
        elif not self.quiet and text != self.last:
            print(text, file=sys.stderr, flush=True)
        self.last = text

    def done(self) -> None:
        if self.live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _typed(session: Session) -> Path | None:
    """Questions and answers from the keyboard, kept as a file; None where no one types (a folder may hold probes)."""
    from accrete.files import write_atomically

    if not sys.stdin.isatty():
        return None
    print("Questions about the document, each with its answer; an empty question ends.", file=sys.stderr)
    rows = []
    while question := input("question: ").strip():
        rows.append({"question": question, "answer": input("answer:   ").strip()})
    if not rows:
        raise UsageError("Nothing to ask: type questions, or name a file with --probes.")
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path = session.home_directory() / "comparisons" / f"typed-{hashlib.sha256(text.encode()).hexdigest()[:10]}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda new: _write(new, text))
    return path


def _write(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")
