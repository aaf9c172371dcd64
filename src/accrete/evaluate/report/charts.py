"""The curves of the report: every method in one chart, named at the end of its line, and the frame all charts share. SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from accrete.evaluate.report.markup import Series, element, figure, given, seconds, text

Points = list[tuple[float, float]]
LABEL = 15  # units from one label to the next
LONGEST = 16  # characters of a label
SCORES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Frame:
    """A plane in the units of its SVG; `x` and `y` are the ranges shown, `log` is for y."""

    x: tuple[float, float]
    y: tuple[float, float]
    log: bool = False
    width: int = 480
    height: int = 300
    left: int = 44
    right: int = 138
    top: int = 14
    bottom: int = 42

    def across(self, value: float) -> float:
        low, high = self.x
        share = (value - low) / (high - low) if high > low else 0.5
        return self.left + share * (self.width - self.left - self.right)

    def up(self, value: float) -> float:
        low, high, value = (math.log10(v) if self.log else v for v in (*self.y, value))
        return self.height - self.bottom - (value - low) / (high - low) * (self.height - self.top - self.bottom)

    def grid(
        self, x: Sequence[tuple[float, str]], y: Sequence[tuple[float, str]], x_name: str, y_name: str = ""
    ) -> str:
        """Thin lines with their numbers; the name of x stands below, of y along its axis."""
        foot, end = self.height - self.bottom, self.width - self.right
        drawn = []
        for value, said in y:
            at = self.up(value)
            drawn.append(element("line", x1=self.left, x2=end, y1=at, y2=at, class_="grid"))
            drawn.append(element("text", text(said), x=self.left - 8, y=at + 4, text_anchor="end"))
        for value, said in x:
            at = self.across(value)
            drawn.append(element("line", x1=at, x2=at, y1=foot, y2=foot + 4, class_="grid"))
            drawn.append(element("text", text(said), x=at, y=foot + 18, text_anchor="middle"))
        centred = {"text_anchor": "middle", "class_": "axis"}
        drawn.append(element("text", text(x_name), x=(self.left + end) / 2, y=self.height - 5, **centred))
        if y_name:
            middle = (self.top + foot) / 2
            drawn.append(
                element("text", text(y_name), x=12, y=middle, transform=f"rotate(-90 12 {middle:.0f})", **centred)
            )
        return "".join(drawn)

    def drawing(self, said: str, *drawn: str) -> str:
        box = f"0 0 {self.width} {self.height}"
        return element("svg", *drawn, viewBox=box, class_="chart", role="img", aria_label=said)


def figure_of(drawing: str, heading: str, caption: str = "") -> str:
    said = element("figcaption", element("b", text(heading)), " ", text(caption))
    return element("figure", said, drawing)


# --- the panels -------------------------------------------------------------------------------------------------------


def curves(shown: Sequence[Series], tasks: int) -> str:
    """Learning, retention, what must not be lost, and seconds, each over the lessons; panels without numbers left out."""
    kept_sets = list(dict.fromkeys(name for one in shown for name in one.row.get("kept_sets") or {}))
    kept_sets = [name for name in kept_sets if name != "sentinels"]  # they have a panel as a share of what was known
    panels = [
        _panel(shown, "Right after each lesson.", "The score on the lesson just learned.", _diagonal, smooth=True),
        _panel(shown, "The same lessons at the end.", "What is lower was forgotten; --full-matrix shows when.", _last,
               smooth=True),
        _panel(shown, "All lessons so far.", "Mean score over everything taught up to here.", _so_far, least=3),
        _panel(shown, "What the base knew.", "Share of the sentinels still answered, asked where a mark stands.",
               lambda row: _steps(row, tasks)),
        *(_panel(shown, f"Kept: {name}.", "No lesson teaches it.", lambda row, name=name: _steps(row, tasks, name))  # type: ignore[misc]
          for name in kept_sets),
        _panel(shown, "Time.", "Seconds that each lesson took.", _lesson_seconds, timed=True),
    ]  # fmt: skip
    return element("div", *filter(None, panels), class_="panels")


def _diagonal(row: Any) -> Points:
    R = row.get("matrix") or []
    return _filled((j + 1, R[j + 1][j]) for j in range(len(R) - 1))


def _last(row: Any) -> Points:
    R = row.get("matrix") or []
    return _filled((j + 1, R[-1][j]) for j in range(len(R) - 1))


def _so_far(row: Any) -> Points:
    """Only the steps at which every lesson taught so far was asked about."""
    R = row.get("matrix") or []
    taught = ((i, [given(score) for score in R[i][:i]]) for i in range(1, len(R)))
    return [(i, math.fsum(scores) / i) for i, scores in taught if None not in scores]  # type: ignore[arg-type]


def _steps(row: Any, tasks: int, name: str | None = None) -> Points:
    """A list of one number a step; one that leaves the base row out begins at the first lesson."""
    found = (row.get("sentinels_by_step") if name is None else (row.get("kept_sets") or {}).get(name)) or []
    first = 0 if len(found) > tasks else 1
    return _filled((first + step, value) for step, value in enumerate(found))


def _lesson_seconds(row: Any) -> Points:
    lessons = enumerate(row.get("lessons") or [], 1)
    return [(i, value) for i, value in _filled((i, lesson.get("seconds")) for i, lesson in lessons) if value > 0]


def _filled(points: Any) -> Points:
    return [(x, value) for x, y in points if (value := given(y)) is not None]


# --- one panel --------------------------------------------------------------------------------------------------------


def _panel(
    shown: Sequence[Series],
    heading: str,
    caption: str,
    read: Callable[[Any], Points],
    least: int = 1,
    timed: bool = False,
    smooth: bool = False,
) -> str:
    """A chart of the methods that have points; empty when none has `least` of them."""
    lines = [(one, points) for one in shown if (points := read(one.row))]
    if max((len(points) for _, points in lines), default=0) < least:
        return ""
    if smooth and (window := max(len(points) for _, points in lines) // 10) > 1:
        lines = [(one, _running(points, window | 1)) for one, points in lines]
        caption += f" A running mean over {window | 1} lessons."
    steps = [x for _, points in lines for x, _ in points]
    span = (min(steps), max(steps))
    frame, y = _time_frame(lines, span) if timed else (Frame(span, (0, 1)), [(v, f"{v:g}") for v in SCORES])
    if timed and frame.log:
        caption += " The scale is logarithmic."
    x = [(step, f"{step:g}" if step else "base") for step in _whole_ticks(*span)]
    drawn = [frame.grid(x, y, "lesson"), *(_line(frame, one, points, timed) for one, points in lines)]
    ends = [(one, frame.across(points[-1][0]), frame.up(points[-1][1])) for one, points in lines]
    drawn += _labels(frame, ends)
    said = f"{heading} {', '.join(one.label for one, _ in lines)}"
    return figure_of(frame.drawing(said, *drawn), heading, caption)


def _running(points: Points, window: int) -> Points:
    """Every point the mean of those around it, fewer at the ends: scores of single lessons jump too much to compare."""
    half, found = window // 2, [y for _, y in points]
    near = [found[max(0, i - half) : i + half + 1] for i in range(len(found))]
    return [(x, math.fsum(ys) / len(ys)) for (x, _), ys in zip(points, near, strict=True)]


def _line(frame: Frame, one: Series, points: Points, timed: bool) -> str:
    show = seconds if timed else figure
    places = [
        (frame.across(x), frame.up(y), f"{one.label}, {f'lesson {x:g}' if x else 'base'}: {show(y)}") for x, y in points
    ]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y, _ in places)
    drawn = [element("path", d=path, class_=f"line {one.look}")]
    for x, y, said in places:
        tip = element("title", text(said))
        if len(places) <= 24:
            drawn.append(element("g", tip, one.mark(x, y, 3.2)))
        else:
            drawn.append(element("circle", tip, cx=x, cy=y, r=5, class_="touch"))
    return element("g", *drawn, class_="series")


def _time_frame(
    lines: Sequence[tuple[Series, Points]], span: tuple[float, float]
) -> tuple[Frame, list[tuple[float, str]]]:
    """Seconds from 0, or by powers of ten when the methods are far apart."""
    found = [y for _, points in lines for _, y in points]
    if max(found) > 30 * min(found):
        low, high = math.floor(math.log10(min(found))), math.ceil(math.log10(max(found)))
        ticks = [10.0**power for power in range(low, max(high, low + 1) + 1)]
        return Frame(span, (ticks[0], ticks[-1]), log=True), [(tick, seconds(tick)) for tick in ticks]
    step = nice_step(max(found) / 4)
    ticks = [step * i for i in range(math.ceil(max(found) / step) + 1)]
    return Frame(span, (0, ticks[-1])), [(tick, f"{tick:.4g} s") for tick in ticks]


def _labels(frame: Frame, ends: Sequence[tuple[Series, float, float]]) -> list[str]:
    """Names right of the plane at the height of their line's end, moved apart where they would touch."""
    edge, order = frame.width - frame.right, sorted(ends, key=lambda end: (end[2], end[0].index))
    heights = spread([y for _, _, y in order], LABEL, frame.top, frame.height - frame.bottom)
    drawn = []
    for (one, x, y), height in zip(order, heights, strict=True):
        path = f"M{x + 5:.1f} {y:.1f}L{max(x + 6, edge + 4):.1f} {y:.1f}L{edge + 16} {height:.1f}"
        said = element("text", element("title", text(one.label)), text(one.label, LONGEST), x=edge + 20, y=height + 4)
        drawn.append(element("path", d=path, class_=f"lead {one.colour}") + said)
    return drawn


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Sorted places moved as little as need be to lie `gap` apart (less where there is no room) between the bounds."""
    gap = min(gap, (high - low) / max(1, len(places) - 1))
    groups: list[list[float]] = []  # [sum of wanted starts, members]; a group lies at the mean of what its members want
    for index, place in enumerate(places):
        groups.append([place - index * gap, 1])
        while len(groups) > 1 and groups[-2][0] / groups[-2][1] > groups[-1][0] / groups[-1][1]:
            total, members = groups.pop()
            groups[-1] = [groups[-1][0] + total, groups[-1][1] + members]
    ceiling = high - (len(places) - 1) * gap
    starts = [min(max(total / members, low), ceiling) for total, members in groups for _ in range(int(members))]
    return [start + index * gap for index, start in enumerate(starts)]


def _whole_ticks(low: float, high: float) -> list[float]:
    step = max(1, nice_step((high - low) / 8))
    first = math.ceil(low / step) * step
    ticks = [first + step * i for i in range(int((high - first) / step) + 1)]
    return ticks if low in ticks or step == 1 else [low, *(tick for tick in ticks if tick - low >= step / 2)]


def nice_step(step: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step)) if step > 0 else 1.0
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * 0.999)
