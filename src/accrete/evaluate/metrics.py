"""What a run is worth: the R matrix of its scored answers, and every figure of learning and forgetting from it. Pure.

    answers (rows) -> matrix -> Figure by task -> value, interval -> mean and spread over seeds

R[i][j] is the score on task j after i lessons: row 0 is the base, row j + 1 stands right after the lesson of task j, row N at
the end (tasks and columns count from 0). An entry that was not measured is None, and so is a figure without meaning.

A row is one answer to one probe: {"step": i, "task": j, "probe": k, "kind": str, "as_of": str | None} and a number under the
name of every score (ask.py); "related" and "superseded" where that is so (control.py).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from accrete.evaluate.figures import Figure, interval

Row = Mapping[str, Any]
Matrix = Sequence[Sequence[float | None]]
Place = tuple[int, int]  # step, task
Cells = Mapping[Place, Mapping[int, float]]  # the score of every probe
Parts = dict[str, Figure]

FIGURES = (
    "learned", "kept", "floor", "wrong_document", "plasticity", "stability", "token_f1", "versioned",
    "op", "bwt", "fwt", "forgetting", "forgetting_ratio",
)  # fmt: skip
NOTHING = 1e-9  # no share can be told of less than this
CHANGED, UNCHANGED = (
    "changed",
    "unchanged",
)  # kinds of probes: did the answer change with the period that they ask about?
RIGHT = 0.5  # an answer with this score or more counts as right where it has to be one or the other


# --- from answers to the matrix ---------------------------------------------------------------------------------------


def matrix(rows: Iterable[Row], score: str = "contains", tasks: int | None = None) -> list[list[float | None]]:
    """R, N + 1 rows of N columns: the mean score of every task's probes after every step that was measured."""
    return _filled(entries(rows, score), tasks)


def entries(rows: Iterable[Row], score: str) -> dict[Place, dict[int, float]]:
    """By step and task the score of each probe, in the order of the probes, whatever order they were asked in."""
    found: dict[Place, dict[int, float]] = {}
    for row in sorted((row for row in rows if _measured(row, score)), key=lambda row: row["probe"]):
        found.setdefault((row["step"], row["task"]), {})[row["probe"]] = row[score]
    return found


def _filled(cells: Cells, tasks: int | None) -> list[list[float | None]]:
    width = tasks if tasks is not None else 1 + max((task for _, task in cells), default=-1)
    means = {place: _mean(list(scores.values())) for place, scores in cells.items()}
    return [[means.get((step, task)) for task in range(width)] for step in range(width + 1)]


def average(rows: Iterable[Row], score: str = "contains") -> Figure | None:
    """The score averaged as `learned` is, tasks weighing the same: for the ceiling, and for sets that no task teaches."""
    return _mean_of_tasks(rows, score)


# --- figures of the matrix --------------------------------------------------------------------------------------------


def of_matrix(R: Matrix) -> dict[str, float | None]:
    """Every figure that the matrix alone gives, METHODS section 9; None where too little of it is filled."""
    return values(matrix_parts(R))


def matrix_parts(R: Matrix, cells: Cells | None = None) -> Parts:
    """The same by task, so that tasks can be drawn anew, and the answers of `cells` in them; nothing without meaning."""
    tasks, last = range(len(R) - 1), len(R) - 1
    learned, before_last, after_first = [R[j + 1][j] for j in tasks], tasks[:-1], tasks[1:]
    # Every figure is a mean over tasks j of an entry (i, j), or of how much it is above another (k, j).
    places: dict[str, list[tuple[Place, Place | None]]] = {
        "learned": [((j + 1, j), None) for j in tasks],
        "kept": [((last, j), None) for j in tasks],
        "op": [((last, j), None) for j in tasks],
        "floor": [((0, j), None) for j in tasks],
        "wrong_document": [((j, j), None) for j in after_first],
        "bwt": [((last, j), (j + 1, j)) for j in before_last],
        "fwt": [((j, j), (0, j)) for j in after_first],
        "forgetting": [((_best(R, j), j), (last, j)) for j in before_last],
    }
    found = {name: _mean_of_entries(R, wanted, cells or {}) for name, wanted in places.items()}
    found["forgetting_ratio"] = _ratio([(learned[j], R[last][j]) for j in before_last])
    return {name: figure for name, figure in found.items() if figure is not None}


def _mean_of_entries(R: Matrix, wanted: Iterable[tuple[Place, Place | None]], cells: Cells) -> Figure | None:
    """The mean over entries, or over how much each is above another one; those that were not measured are left out."""
    tops, within = [], []
    for here, there in wanted:
        now, before = R[here[0]][here[1]], 0.0 if there is None else R[there[0]][there[1]]
        if now is None or before is None:
            continue
        tops.append(now - before)
        known, less = cells.get(here, {}), cells.get(there, {}) if there else {}
        within.append(tuple(score - less.get(probe, 0.0) for probe, score in known.items()))
    if not tops:
        return None
    return Figure(tuple(tops), (1.0,) * len(tops), len(tops), tuple(within) if all(within) else ())


def forgetting_ratio(before: float | None, after: float | None) -> float | None:
    """The share of what was known that is lost, negative for a gain; undefined where nothing was known."""
    return None if before is None or before < NOTHING or after is None else (before - after) / before


def _best(R: Matrix, task: int) -> int:
    """The step before the last lesson at which the task was answered best, the base included; the first of several."""
    return max(range(len(R) - 1), key=lambda step: -1.0 if (score := R[step][task]) is None else score)


def _ratio(pairs: Sequence[tuple[float | None, float | None]]) -> Figure | None:
    """sum(before - after) / sum(before): means over the same tasks, so it is -BWT over what there was to forget."""
    filled = [(before, after) for before, after in pairs if before is not None and after is not None]
    if sum(before for before, _ in filled) < NOTHING:
        return None
    return Figure(tuple(before - after for before, after in filled), tuple(b for b, _ in filled), len(filled))


# --- figures of the answers -------------------------------------------------------------------------------------------


def parts(
    rows: Sequence[Row], score: str = "contains", tasks: int | None = None, control: Sequence[Row] | None = None
) -> Parts:
    """Every figure by task, of the matrix and of what it averages over; by probe when there is but one task.

    The wrong document is what was learned before a task, where that says nothing of what is asked; or what was learned
    before the answers in `control`.
    """
    cells = entries(rows, score)
    R = _filled(cells, tasks)
    right_after = [row for row in rows if row["step"] == row["task"] + 1]
    periods = [row for row in right_after if row.get("kind") in (CHANGED, UNCHANGED)]
    just_before = (row for row in rows if row["step"] == row["task"] > 0 and not row.get("related"))
    found: dict[str, Figure | None] = {
        **matrix_parts(R, cells),
        "wrong_document": _mean_of_tasks(just_before, score) if control is None else _each(control, score),
        "plasticity": _from_second([row for row in periods if row["kind"] == CHANGED], score),
        "stability": _from_second([row for row in periods if row["kind"] == UNCHANGED], score),
        "token_f1": _from_second(right_after, "token_f1") if periods else _over_probes(right_after, "token_f1"),
        "versioned": _over_probes([r for r in rows if r["step"] == len(R) - 1 and r.get("superseded")], score),
    }
    if len(R) == 2:  # one task: its probes take the place of tasks
        steps = {"floor": 0, "learned": 1, "kept": 1, "op": 1}
        found |= {name: _each([row for row in rows if row["step"] == step], score) for name, step in steps.items()}
        found["token_f1"] = None if periods else _each(right_after, "token_f1")
    return {name: figure for name, figure in found.items() if figure is not None}


def _from_second(right_after: Iterable[Row], score: str) -> Figure | None:
    """Answers right after their own period's lesson, averaged over the periods from the second on (METHODS 4)."""
    return _mean_of_tasks((row for row in right_after if row["task"] > 0), score)


def _mean_of_tasks(rows: Iterable[Row], score: str) -> Figure | None:
    """The mean of the tasks' means."""
    groups = _by_task(rows, score).values()
    tops = tuple(math.fsum(group) / len(group) for group in groups)
    return Figure(tops, (1.0,) * len(tops), len(tops), tuple(map(tuple, groups))) if tops else None


def _over_probes(rows: Iterable[Row], score: str) -> Figure | None:
    """The mean over all probes, every probe weighing the same, drawn by task."""
    groups = list(_by_task(rows, score).values())
    tops, bottoms = tuple(map(math.fsum, groups)), tuple(float(len(group)) for group in groups)
    within = tuple(tuple(score * len(group) for score in group) for group in groups)
    return Figure(tops, bottoms, int(sum(bottoms)), within) if groups else None


def _each(rows: Iterable[Row], score: str) -> Figure | None:
    """The mean over probes, drawn by probe; in the order of the probes, whatever order they were asked in."""
    measured = [row for row in rows if _measured(row, score)]
    return _mean_figure(row[score] for row in sorted(measured, key=lambda row: (row["probe"], row[score])))


def _by_task(rows: Iterable[Row], score: str) -> dict[int, list[float]]:
    groups: dict[int, list[float]] = {}
    for row in sorted((row for row in rows if _measured(row, score)), key=lambda row: row["probe"]):
        groups.setdefault(row["task"], []).append(row[score])
    return dict(sorted(groups.items()))


# --- values, intervals, seeds -----------------------------------------------------------------------------------------


def values(found: Mapping[str, Figure], names: Iterable[str] = FIGURES) -> dict[str, float | None]:
    """{figure: value} of these, None for those that the run gives no meaning to."""
    return {name: found[name].value if name in found else None for name in names}


def intervals(*runs: Mapping[str, Figure]) -> dict[str, list[float]]:
    """{figure: [low, high]}: the middle 95 % for seeds, tasks and the answers of each task drawn anew, one after the other.

    What differs among answers is in the tasks' means already, so this is rather too wide than too narrow. A task of one seed
    is another than that of another seed. Left out where there is one thing to draw from, and for a ratio that some draw would
    divide by nothing.
    """
    found = {}
    for name in dict.fromkeys(name for run in runs for name in run):
        drawn = [run[name] for run in runs if name in run]
        if (
            sum(len(figure.top) for figure in drawn) > 1
            and min(b for figure in drawn for b in figure.bottom) >= NOTHING
        ):
            found[name] = list(interval(drawn))
    return found


def over_seeds(runs: Sequence[Mapping[str, float | None]]) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """({figure: mean}, {figure: spread}) over the seeds that have it; the spread is the sample standard deviation,
    None for a single seed."""
    names = list(dict.fromkeys(name for run in runs for name in run))
    seen = {name: [value for run in runs if (value := run.get(name)) is not None] for name in names}
    spreads = {name: statistics.stdev(found) if len(found) > 1 else None for name, found in seen.items()}
    return {name: _mean(found) for name, found in seen.items()}, spreads


def _measured(row: Row, score: str) -> bool:
    return row.get(score) is not None and math.isfinite(row[score])


def _mean(numbers: Sequence[float]) -> float | None:
    """Exactly rounded, so that the order of the numbers does not matter."""
    return math.fsum(numbers) / len(numbers) if numbers else None


def _mean_figure(numbers: Iterable[float | None]) -> Figure | None:
    filled = tuple(number for number in numbers if number is not None)
    return Figure(filled, (1.0,) * len(filled), len(filled)) if filled else None
