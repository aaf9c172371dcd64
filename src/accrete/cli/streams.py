"""The verbs about what methods are measured on: streams, stream."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accrete.cli.lesson_lines import plain_table
from accrete.cli.session import Session, Ticker, verb
from accrete.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from accrete.evaluate.streams import Stream

Price = Annotated[float | None, typer.Option(min=0, help="Of a million tokens, for the estimate of --dry-run.")]


@verb
def streams(
    session: Session,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One of them, in full.")] = None,
) -> None:
    """List what methods can be measured on; with a NAME all about one: what it teaches and asks, options, file formats."""
    from accrete.evaluate import streams as known

    chosen = known.names() if name is None else [known.check_name(name)]
    rows: list[dict[str, Any]] = [
        {"name": name, "summary": known.summary(name), "options": dict(known.options_of(name))} for name in chosen
    ]
    if name is not None:
        rows[0]["about"] = known.description(name)

    def human(console: "Console") -> None:
        if name is not None:
            _described(console, rows[0])
            return
        table = plain_table("stream", "what it is", "options")
        for row in rows:
            table.add_row(row["name"], row["summary"], " ".join(f"--{option}" for option in row["options"]))
        console.print(table)
        console.print(
            "accrete streams NAME says more: what is asked and kept, what the options mean, which files are read"
        )

    session.print(rows, human)


def _described(console: "Console", row: dict[str, Any]) -> None:
    """A stream's docstring, its lines joined where they are no list, and its options."""
    from rich.text import Text

    for paragraph in row["about"].split("\n\n"):
        lines = paragraph.splitlines()
        text = paragraph if any(line.startswith(" ") for line in lines) else " ".join(lines)
        console.print(text + "\n", markup=False)
    table = plain_table("option", "what it means here [default]")
    for option, meaning in row["options"].items():
        table.add_row(f"--{option}", Text(meaning))
    console.print(table)


@verb
def stream(
    session: Session,
    name: Annotated[str, typer.Argument(help="Of a stream; `accrete streams` lists them.")],
    out: Annotated[Path | None, typer.Option(help="The folder to write it to.")] = None,
    seed: Annotated[int, typer.Option(help="Another seed draws another stream.")] = 0,
    lessons: Annotated[int | None, typer.Option(min=1, help="How many lessons, for streams that are drawn.")] = None,
    facts: Annotated[
        int | None, typer.Option(min=1, help="How many facts: a lesson (world), in all (temporal).")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many facts or questions in all.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="A file or folder; `accrete streams NAME` says of what form.")
    ] = None,
    probes: Annotated[
        Path | None, typer.Option(help="Questions with answers (.jsonl, .json, .csv, .tsv), for documents.")
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(metavar="URL[#MODEL]", help="Let an OpenAI-compatible endpoint write richer passages.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print what a teacher would be asked, and the cost; write and ask nothing."),
    ] = False,
    price_in: Price = None,
    price_out: Price = None,
) -> None:
    """Write a stream out: documents, study items and questions, as JSON Lines.

    temporal is written as facts, passages, probes and items, which `--data` reads again; any other as lessons.jsonl and
    probes.jsonl. A teacher's passage that lost a fact is not taken.
    """
    from accrete.config import build
    from accrete.evaluate import streams as known

    chosen = {"seed": seed, "lessons": lessons, "facts": facts, "limit": limit, "data": data, "probes": probes}
    if out is None and not dry_run:
        raise UsageError("Name the folder to write to with --out.")
    options = build(known.Options, {key: value for key, value in chosen.items() if value is not None}, "the options")
    made = known.make(name, options)
    if dry_run:
        _plan(session, made, price_in, price_out)
        return
    assert out is not None
    _write(session, _richer(session, made, teacher) if teacher else made, out)


def _plan(session: Session, stream: "Stream", price_in: float | None, price_out: float | None) -> None:
    """What a teacher would be asked."""
    from accrete.evaluate.streams._writer import plan

    if (price_in is None) != (price_out is None):
        raise UsageError("The cost wants both prices: --price-in and --price-out.")
    found = plan(stream, price_in, price_out)
    _check_passages(stream, found["requests"])

    def human(console: "Console") -> None:
        for prompt in found["prompts"]:
            console.print(prompt + "\n", markup=False)
        cost = found["cost"]
        priced = "give --price-in and --price-out for the cost" if cost is None else f"{max(0.01, cost):.2f} in all"
        console.print(
            f"{found['requests']:,} requests, about {found['prompt_tokens']:,} tokens to read and"
            f" {found['answer_tokens']:,} to write; {priced}"
        )

    session.print(found, human)


def _richer(session: Session, stream: "Stream", address: str) -> "Stream":
    from accrete.dreams.teacher import Teacher
    from accrete.evaluate.streams._writer import plan, richer

    _check_passages(stream, plan(stream)["requests"])
    writer = Teacher(address, offline=session.settings().settings.offline)
    ticker = Ticker("stream", bool(session.json))
    ticker("the teacher writes", 0, 0.0)
    try:
        return richer(stream, writer)
    finally:
        ticker.done()


def _check_passages(stream: "Stream", requests: int) -> None:
    if not requests:
        raise UsageError(f'The stream "{stream.name}" has no passages of facts that a teacher could write anew.')


def _write(session: Session, stream: "Stream", out: Path) -> None:
    from accrete.evaluate.streams import digest
    from accrete.evaluate.streams._written import write

    files = write(stream, out)
    found = {
        "stream": stream.name,
        "out": str(out),
        "files": files,
        "lessons": len(stream.tasks),
        "questions": sum(len(task.probes) for task in stream.tasks),
        "kept": {name: len(probes) for name, probes in stream.keep.items()},
        "digest": digest(stream),
        "about": dict(stream.about),
    }

    def human(console: "Console") -> None:
        console.print(f"{stream.name}: {found['lessons']:,} lessons, {found['questions']:,} questions")
        for name, value in stream.about.items():
            console.print(f"  {name}: {value}", markup=False)
        console.print(f"written to {out}: {', '.join(files)}", markup=False)

    session.print(found, human)
