"""The verb that measures a base model."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from accrete.cli.lesson_lines import plain_table
from accrete.cli.session import Session, verb
from accrete.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console


@verb
def evaluate_base(
    session: Session,
    data: Annotated[
        Path | None, typer.Option(help="The folder of the real sets [$ACCRETE_DATA]; without it they are left out.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many questions, passages and rows of each.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="A figure, as in in_context; repeatable.")] = None,
) -> None:
    """Measure a base model on held-out worlds and real sets: reading, asking, restating, extracting, knowing."""
    from accrete.evaluate.base import BARS, evaluate, measures

    measures(only or ())  # what is wrong with a name is said before the model is loaded
    settings = session.settings().settings
    from accrete.lm.load import load

    lm = load(settings.model, device=settings.device, dtype=settings.dtype, offline=settings.offline)
    folder = data or (Path(os.environ["ACCRETE_DATA"]) if os.environ.get("ACCRETE_DATA") else None)

    def announce(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    found = {"model": settings.model, "base_digest": lm.digest} | evaluate(lm, folder, limit, only or (), announce)

    if not found["n"]:
        raise UsageError("Nothing was measured: what was asked for needs real sets; name their folder with --data.")

    def human(console: "Console") -> None:
        table = plain_table("measure", "value", "bar", "n")
        for key, n in found["n"].items():
            bar = f"{BARS[key][0]:.2f} (full {BARS[key][1]:.2f})" if key in BARS else ""
            table.add_row(key, f"{found[key]:.3f}", bar, f"{n:,}")
        console.print(table)

    session.print(found, human)
