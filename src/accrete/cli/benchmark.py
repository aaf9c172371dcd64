"""The verb that checks quickly what the lessons cost: benchmark."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from accrete.cli.lessons import figure, plain_table
from accrete.cli.session import Session, Ticker, verb

if TYPE_CHECKING:
    from rich.console import Console

NAMES = {"exact_match": "exact match", "f1": "F1"}
FEW = 10  # right answers; with fewer one more or less is a tenth of them


@verb
def benchmark(
    session: Session,
    data: Annotated[
        Path | None, typer.Option(help="A SQuAD 1.1 file, or the folder that it lies in [$ACCRETE_DATA].")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many questions.")] = 50,
) -> None:
    """Ask questions of SQuAD with their passage, now and as the base model: what did the lessons cost?

    The base model is asked once for the same questions; its figures are kept in the home.
    """
    from accrete.evaluate.benchmark import benchmark as measure
    from accrete.evaluate.benchmark import questions

    probes = questions(data, limit)  # what is wrong with the data is said before the model is loaded
    ticker = Ticker("benchmark", bool(session.json))
    try:
        found = measure(session.learner(progress=ticker), probes)
    finally:
        ticker.done()

    def human(console: "Console") -> None:
        taught = f"after {found['lessons']:,} lessons of {found['method']}" if found["lessons"] else "before any lesson"
        console.print(
            f"{found['model']}, {taught}: {found['questions']:,} questions of SQuAD 1.1, read with their passage"
        )
        table = plain_table("", "base", "now", "forgetting ratio")
        for name, shown in NAMES.items():
            ratio = found["forgetting_ratio"][name]
            lost = "-" if ratio is None else f"{ratio:.1%}"
            table.add_row(shown, figure(found["baseline"][name]), figure(found["now"][name]), lost)
        console.print(table)
        before, now = (round(found[which]["exact_match"] * found["questions"]) for which in ("baseline", "now"))
        console.print(f"exactly right: {before} of {found['questions']:,} before, {now} now")
        if before < FEW:
            console.print(
                f"The base answers fewer than {FEW} of these: no ratio says much of what it forgot.", style="dim"
            )
        if found["baseline_was"] == "measured":
            first = "" if found["lessons"] else "No lessons yet: this is the baseline. "
            console.print(f"{first}The base model's figures are kept in {found['baseline_file']}", markup=False)

    session.print(found, human)
