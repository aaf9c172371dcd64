"""The verbs that carry a state: save, load, checkpoints, export."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from accrete.cli.lesson_lines import figure, lesson_json, plain_table
from accrete.cli.session import Session, verb
from accrete.errors import HistoryError, UsageError

if TYPE_CHECKING:
    from rich.console import Console


@verb
def save(
    session: Session,
    name: Annotated[str, typer.Argument(help="Letters, digits, - and _.", show_default=False)],
    replace: Annotated[bool, typer.Option("--replace", help="Write over a checkpoint of this name.")] = False,
) -> None:
    """Save what was learned under a name: the trainable state, not the base model."""
    from accrete.store import checkpoint

    place = checkpoint.named(session.home_directory(), name)
    if place.exists() and not replace:
        raise HistoryError(f'There is a checkpoint "{name}" already; --replace writes over it.')
    learner = session.learner()
    learner.save_checkpoint(place)
    count = checkpoint.size(place)
    result = {"checkpoint": name, "path": str(place), "bytes": count, "digest": learner.digest}
    session.print(result, lambda console: console.print(f"saved {name}: {_size(count)}, {place}", markup=False))


@verb
def load(
    session: Session,
    name: Annotated[str, typer.Argument(help="A saved name, or a directory of accrete or PEFT.", show_default=False)],
    domain: Annotated[str | None, typer.Option(help="For a PEFT adapter: the domain it is to answer for.")] = None,
) -> None:
    """Take up a checkpoint or a PEFT adapter; this is a commit, and undo takes it back."""
    from accrete.store import checkpoint

    place = checkpoint.find(session.home_directory(), name)
    learner = session.learner()
    if (place / "adapter_config.json").is_file():
        commit = learner.load_adapter(place, session.settings(domain=domain).settings.domain)
    elif domain:
        raise UsageError("A checkpoint holds all of its domains; --domain is for PEFT adapters.")
    else:
        commit = learner.load_checkpoint(place)
    kept = f"kept {figure(commit.metrics.get('kept_before'))} -> {figure(commit.metrics.get('kept_after'))}"
    said = f"{name} is the present state already" if commit.already else f"loaded {name} as {commit.id} ({kept})"
    session.print(lesson_json(commit), lambda console: console.print(said, markup=False))


@verb
def checkpoints(session: Session) -> None:
    """List the saved checkpoints of this home."""
    from accrete.store import checkpoint

    rows = checkpoint.listed(session.home_directory())

    def human(console: "Console") -> None:
        if not rows:
            console.print("No checkpoints: `accrete save NAME` makes one.")
            return
        table = plain_table("name", "saved", "method", "model", "size", "lessons", "kept")
        for row in rows:
            known = [str(row[key] if row[key] is not None else "-") for key in ("method", "model")]
            lessons = "-" if row["lessons"] is None else str(row["lessons"])
            table.add_row(row["name"], row["saved"][:16], *known, _size(row["bytes"]), lessons, figure(row["kept"]))
        console.print(table)

    session.print(rows, human)


@verb
def export(
    session: Session,
    directory: Annotated[Path, typer.Argument(help="A new or empty directory.", show_default=False)],
    format: Annotated[str, typer.Option(help="hf: a whole model; peft: an adapter.")] = "hf",
    domain: Annotated[list[str] | None, typer.Option(help="A domain to take; repeatable with --merge.")] = None,
    merge: Annotated[bool, typer.Option("--merge", help="Add several domains up (all, or those named).")] = False,
) -> None:
    """Write what was learned for others to load: a Hugging Face model or a PEFT adapter."""
    from accrete.store.checkpoint import size
    from accrete.store.export import export as write

    learner = session.learner()
    chosen = learner.reader.chosen_domains(domain or [], merge)
    compared = write(learner.lm, learner.method, directory, format, chosen)
    if not learner.history.active():
        dtype = str(learner.lm.dtype).removeprefix("torch.")
        print(
            f"accrete: what was written was taught nothing: no lesson in this home is of {learner.lm.name} as {dtype}",
            file=sys.stderr,
        )
    count = size(directory)
    result = {"directory": str(directory), "format": format, "domains": chosen, "bytes": count}
    result["compared"] = compared and compared._asdict()
    told = f"wrote {directory} ({format}, {_size(count)})" + (f" with {', '.join(chosen)}" if chosen else "")
    if compared:
        told += f"\nread back: logits differ by at most {compared.difference:.1g}, {compared.agreement:.0%} of choices agree"
    session.print(result, lambda console: console.print(told, markup=False))


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 100_000 else f"{count / 1e3:,.1f} kB"
