"""A measured figure: a ratio of two sums over passages, so that drawing passages anew gives its interval. Plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

RESAMPLES = 1_000


@dataclass(frozen=True)
class Figure:
    """sum(top) / sum(bottom) over passages; `n` is how many questions, pairs, lines or pieces that stands for.

    `within` has the values whose mean each top is, where they are known: then these are drawn anew as well.
    """

    top: tuple[float, ...]
    bottom: tuple[float, ...]
    n: int
    within: tuple[tuple[float, ...], ...] = ()

    @property
    def value(self) -> float:
        return sum(self.top) / sum(self.bottom) if sum(self.bottom) else 0.0

    def interval(self) -> tuple[float, float]:
        """The middle 95 % of the values for passages drawn anew, with repetition, and what is within each."""
        return interval([self])


def interval(runs: Sequence[Figure]) -> tuple[float, float]:
    """The same of the mean over runs, of each of which the passages are its own: runs are drawn anew, then their passages."""
    import numpy

    random = numpy.random.default_rng(0)
    chosen = random.integers(len(runs), size=(RESAMPLES, len(runs))) if len(runs) > 1 else numpy.zeros((RESAMPLES, 1))
    values = numpy.empty(chosen.shape)
    for number, run in enumerate(runs):
        places = chosen == number
        drawn = random.integers(len(run.top), size=(int(places.sum()), len(run.top)))
        tops = _within(run, drawn, random) if run.within else numpy.array(run.top)[drawn]
        values[places] = tops.sum(1) / numpy.maximum(numpy.array(run.bottom)[drawn].sum(1), 1e-9)
    low, high = numpy.quantile(values.mean(1), (0.025, 0.975))
    return float(low), float(high)


def _within(run: Figure, drawn: Any, random: Any) -> Any:
    """The tops of the passages drawn [D, P], each the mean of its own values drawn anew: two stages, as the data came."""
    import numpy

    lengths_P = numpy.array([len(values) for values in run.within])
    values_PK = numpy.zeros((len(run.within), lengths_P.max()))
    for place, values in enumerate(run.within):
        values_PK[place, : len(values)] = values
    tops = numpy.zeros(drawn.shape)
    for column in range(drawn.shape[1]):  # one at a time: all at once would be [D, P, K]
        passages = drawn[:, column]
        chosen_DK = (random.random((len(passages), lengths_P.max())) * lengths_P[passages, None]).astype(int)
        counts = numpy.arange(lengths_P.max()) < lengths_P[passages, None]
        tops[:, column] = (values_PK[passages[:, None], chosen_DK] * counts).sum(1) / lengths_P[passages]
    return tops


Figures = dict[str, Figure]


def summed(groups: Sequence[Any], tops: Sequence[float], bottoms: Sequence[float], n: int | None = None) -> Figure:
    """A figure whose rows are summed by the passage they are about."""
    sums: dict[Any, list[float]] = {}
    for group, top, bottom in zip(groups, tops, bottoms, strict=True):
        row = sums.setdefault(group, [0.0, 0.0])
        row[0] += top
        row[1] += bottom
    return Figure(
        tuple(row[0] for row in sums.values()), tuple(row[1] for row in sums.values()), len(tops) if n is None else n
    )


def share(groups: Sequence[Any], right: Sequence[float]) -> Figure:
    return summed(groups, right, [1.0] * len(right))


def agreement(
    name: str, groups: Sequence[Any], both: Sequence[float], given: Sequence[float], true: Sequence[float], n: int
) -> Figures:
    """F1, precision and recall from counts a row: in both, given, true."""
    return {
        f"{name}_f1": summed(groups, [2 * x for x in both], [g + t for g, t in zip(given, true, strict=True)], n),
        f"{name}_precision": summed(groups, both, given, int(sum(given))),
        f"{name}_recall": summed(groups, both, true, int(sum(true))),
    }
