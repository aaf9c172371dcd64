"""The verb that checks quickly what the lessons cost: benchmark."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from accrete.cli.lesson_lines import figure, plain_table
from accrete.cli.session import Session, Ticker, verb

if TYPE_CHECKING:
    from rich.console import Console

NAMES = {"exact_match": "exact match", "f1": "F1"}


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
    from accrete.evaluate.benchmark import FEW, questions
    from accrete.evaluate.benchmark import benchmark as measure

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
        intervals = found["intervals"]
        for name, shown in NAMES.items():
            said = "-" if found["few"][name] or (ratio := found["forgetting_ratio"][name]) is None else f"{ratio:.1%}"
            both = (figure(found[when][name]) + _half(intervals[when][name], 1) for when in ("baseline", "now"))
            table.add_row(shown, *both, said + _half(intervals["forgetting_ratio"][name], 100))
        console.print(table)
        right, count = found["right"], found["questions"]
        console.print(
            f"exactly right: {right['baseline']:,} of {count:,} before any lesson, {right['now']:,} now; ± is half of the"
            " 95 % interval, questions drawn anew"
        )
        if any(found["few"].values()):
            said = "no ratio means anything" if all(found["few"].values()) else "only the ratio shown means something"
            console.print(f"The base model answers fewer than {FEW} of these: {said} (--limit asks more).")
        if found["baseline_was"] == "measured":
            first = "" if found["lessons"] else "No lessons yet: this is the baseline. "
            console.print(f"{first}The base model's figures are kept in {found['baseline_file']}", markup=False)

    session.print(found, human)


def _half(interval: list[float] | None, times: float) -> str:
    """Half of an interval as it stands behind a figure; nothing without one."""
    if interval is None:
        return ""
    half = (interval[1] - interval[0]) / 2 * times
    return f" ±{half:.1f}" if times > 1 else f" ±{half:.2f}"
