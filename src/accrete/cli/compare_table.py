"""The results of a comparison on a terminal: figures, costs, and what must not be lost. Ends at lines that fit its width."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accrete.cli.lesson_lines import figure, plain_table

if TYPE_CHECKING:
    from rich.console import Console

Row = Mapping[str, Any]
FIGURES = {
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
COSTS: dict[str, tuple[str, Callable[[float], str]]] = {
    "tokens": ("tokens", lambda value: f"{value:,.0f}"),
    "learn_seconds": ("s/lesson", lambda value: f"{value:.1f}" if value >= 1 else f"{value:.2g}"),
    "answer_seconds": ("questions/s", lambda value: f"{1 / value:.0f}" if value else "-"),
    "peak_mb": ("peak MB", lambda value: f"{value:.0f}"),
}


def show(console: "Console", found: Mapping[str, Any], place: Path) -> None:
    """Print everything; a table that is wider than the terminal goes on in another below it."""
    rows = found["rows"]
    questions = sum(len(task["probes"]) for task in found["stream"]["tasks"])
    stream = found["stream"]
    console.print(f"{stream['name']}: {found['lessons']} lessons, {questions:,} questions, learned = {stream['score']}")
    names = [row["method"] for row in rows]
    columns = [
        (heading, [_with_interval(row, key) for row in rows])
        for key, heading in FIGURES.items()
        if any(row.get(key) is not None for row in rows)
    ]
    _print(console, names, columns)
    if any(row.get("intervals") for row in rows):
        console.print("± is half of the 95 % interval, lessons and their questions drawn anew", style="dim")
    costs = [
        (heading, ["-" if row.get(key) is None else said(row[key]) for row in rows])
        for key, (heading, said) in COSTS.items()
    ]
    _print(console, names, costs)
    measured = [row for row in rows if not row["error"]]
    if kept := _kept(measured):
        console.print("what must not be lost, share answered before and after all lessons:")
        _print(console, [row["method"] for row in measured], kept)
    for row in rows:
        if row["error"]:
            console.print(f"{row['method']} failed: {row['error']}", markup=False)
    console.print(f"report: {place / 'report.html'}", markup=False, soft_wrap=True)  # a path that is folded is none


def _print(console: "Console", names: Sequence[str], columns: Sequence[tuple[str, Sequence[str]]]) -> None:
    """As many columns side by side as the terminal holds, then the rest below; the names are before each part."""
    part: list[tuple[str, Sequence[str]]] = []
    for column in columns:
        if part and _width(console, _table(names, [*part, column])) > console.width:
            console.print(_table(names, part))
            part = []
        part.append(column)
    if part:
        console.print(_table(names, part))


def _width(console: "Console", table: Any) -> int:
    """The columns of the screen that it would take if there were enough of them."""
    width: int = console.measure(table, options=console.options.update(width=10_000)).maximum
    return width


def _table(names: Sequence[str], columns: Sequence[tuple[str, Sequence[str]]]) -> Any:
    table = plain_table("method", *(heading for heading, _ in columns))
    for number, name in enumerate(names):
        table.add_row(name, *(cells[number] for _, cells in columns))
    return table


def _kept(rows: Sequence[Row]) -> list[tuple[str, list[str]]]:
    """The sets of a stream that no task teaches, and the perplexity of its held-out text; nothing but the sentinels: none."""
    sets = list(dict.fromkeys(name for row in rows for name in row.get("kept_sets") or {}))
    texts = any(row.get("perplexity_of") == "texts" for row in rows)
    if not texts and not [name for name in sets if name != "sentinels"]:
        return []
    counts = {name: count for row in rows for name, count in (row.get("kept_questions") or {}).items()}
    columns = [
        (f"{name} ({counts[name]})" if name in counts else name, [_change(row["kept_sets"].get(name)) for row in rows])
        for name in sets
    ]
    if texts:
        ends = [(row.get("perplexity_before"), row.get("perplexity_after")) for row in rows]
        columns.append(("perplexity of held-out text", [_change(pair, 1) for pair in ends]))
    return columns


def _change(values: Sequence[float | None] | None, digits: int = 2) -> str:
    """0.90 > 0.85: the first and the last of what was measured; of what the base answered nothing of, nothing can be lost."""
    measured = [value for value in values or () if value is not None]
    if measured and not any(measured):
        return "none known"
    return f"{measured[0]:.{digits}f} > {measured[-1]:.{digits}f}" if measured else "-"


def _with_interval(row: Row, key: str) -> str:
    """0.93 ±0.04: half of the interval's width, for the two figures that everything is about."""
    value = row.get(key)
    if value is None:
        return "-"
    text = f"{value:.3f}" if key == "kl_to_base" else figure(value)
    text = text.lstrip("-") if not float(text) else text  # -0.000 is 0.000
    if key in ("learned", "kept") and key in row["intervals"]:
        low, high = row["intervals"][key]
        text += f" ±{(high - low) / 2:.2f}"
    return text
