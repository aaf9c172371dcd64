"""The trade-off in a picture: what was kept across, what was learned upwards, the seconds as the size of the mark. SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accrete.evaluate.report.charts import LONGEST, Frame, figure_of
from accrete.evaluate.report.markup import Series, element, figure, given, seconds, text

NAMES = {
    "plasticity": "plasticity: changed facts right",
    "stability": "stability: unchanged facts right",
    "learned": "learned: right after each lesson",
    "sentinels": "sentinels: of what the base knew, still answered",
    "kept": "kept: all lessons at the end",
}
SMALLEST, LARGEST = 5.0, 22.0  # radius
STARTS = (0.9, 0.8, 0.5, 0.0)  # an axis begins at the first of these that leaves nothing out
CHARACTER, TALL = 8.0, 15.0  # units that a character of a label is wide, and a label high

Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Spot:
    one: Series
    x: float
    y: float
    r: float
    said: str

    @property
    def box(self) -> Box:
        return self.x - self.r, self.y - self.r, self.x + self.r, self.y + self.r


def trade_off(shown: Sequence[Series]) -> str:
    """A scatter for every pair of figures that some method has in full; empty when none has."""
    one_lesson = all(len(one.row.get("lessons") or ()) < 2 for one in shown)  # then what is kept is what was learned
    first = ("sentinels" if one_lesson else "kept", "learned", "Learning against keeping.")
    after = (
        "stability",
        "plasticity",
        "What changed and what did not, right after each period; what came later is not in it.",
    )
    drawn = [scatter for pair in (first, after) if (scatter := _scatter(shown, *pair))]
    return element("div", *drawn, class_="panels") if drawn else ""


def _scatter(shown: Sequence[Series], x_key: str, y_key: str, title: str) -> str:
    """The methods that have both numbers, on axes that begin alike."""
    rows = [one.row for one in shown]
    placed = [one for one in shown if _has(one.row, x_key, y_key)]
    if not placed:
        return ""
    start_x = start_y = _start([one.row[key] for one in placed for key in (x_key, y_key)])
    frame = Frame((start_x, 1), (start_y, 1), height=400, left=54, right=30, top=26, bottom=46)
    longest = max((_seconds(one.row) or 0.0 for one in placed), default=0.0)
    spots = sorted((_spot(frame, one, x_key, y_key, longest) for one in placed), key=lambda spot: -spot.r)
    drawn = [frame.grid(_ticks(start_x), _ticks(start_y), NAMES[x_key], NAMES[y_key])]
    drawn += [_bound(frame, rows, key, start_y) for key in ("floor", "ceiling") if y_key == "learned"]
    drawn += [_bubble(spot) for spot in spots] + _labels(frame, spots)
    caption = "Up and to the right is better." + (_sizes(longest) if longest else "")
    caption += f" Both axes begin at {start_x:g}." if start_x else ""
    said = "; ".join(spot.said for spot in spots)
    return figure_of(frame.drawing(said, *drawn), title, caption)


def _has(row: Mapping[str, Any], *keys: str) -> bool:
    return all(given(row.get(key)) is not None for key in keys)


def _seconds(row: Mapping[str, Any]) -> float | None:
    return given(row.get("learn_seconds"))


def _start(found: Sequence[float]) -> float:
    return next((start for start in STARTS if min(found) >= start + (1 - start) * 0.1), 0.0)


def _ticks(start: float) -> list[tuple[float, str]]:
    step = (1 - start) / 5
    return [(start + step * i, f"{start + step * i:.2f}".rstrip("0").rstrip(".")) for i in range(6)]


def _spot(frame: Frame, one: Series, x_key: str, y_key: str, longest: float) -> Spot:
    x, y, took = given(one.row[x_key]) or 0.0, given(one.row[y_key]) or 0.0, _seconds(one.row)
    r = max(SMALLEST, LARGEST * math.sqrt(took / longest)) if took and longest else SMALLEST
    said = f"{one.label}: {x_key} {figure(x)}, {y_key} {figure(y)}, {seconds(took)} a lesson"
    return Spot(one, frame.across(min(x, 1.0)), frame.up(min(y, 1.0)), r, said)


def _sizes(longest: float) -> str:
    return f" The area of a mark is the time of a lesson: {seconds(longest)} at the largest."


def _bubble(spot: Spot) -> str:
    disc = element("circle", cx=spot.x, cy=spot.y, r=spot.r, class_=f"bubble {spot.one.colour}")
    heart = spot.one.mark(spot.x, spot.y, 3.2)
    return element("g", element("title", text(spot.said)), disc, heart, class_="series")


def _bound(frame: Frame, rows: Sequence[Mapping[str, Any]], key: str, start: float) -> str:
    """A line at the floor or ceiling, which all methods share."""
    value = next((found for row in rows if (found := given(row.get(key))) is not None), None)
    if value is None or value < start:
        return ""
    at, end = frame.up(min(value, 1.0)), frame.width - frame.right
    line = element("line", x1=frame.left, x2=end, y1=at, y2=at, class_="limit")
    return line + element("text", key, x=frame.left + 5, y=at - 4, class_="axis")


# --- labels where they hide nothing -----------------------------------------------------------------------------------


def _labels(frame: Frame, spots: Sequence[Spot]) -> list[str]:
    taken = [spot.box for spot in spots]
    drawn = []
    for spot in sorted(spots, key=lambda spot: spot.y):
        said = text(spot.one.label, LONGEST)
        box = _free(frame, spot, min(len(spot.one.label), LONGEST) * CHARACTER, taken)
        taken.append(box)
        anchor, at = _anchor(spot, box)
        near_x, near_y = min(max(spot.x, box[0]), box[2]), min(max(spot.y, box[1]), box[3])
        if math.dist((near_x, near_y), (spot.x, spot.y)) > spot.r + 6:
            path = f"M{spot.x:.1f} {spot.y:.1f}L{near_x:.1f} {near_y:.1f}"
            drawn.append(element("path", d=path, class_=f"lead {spot.one.colour}"))
        drawn.append(element("text", said, x=at, y=box[3] - 3, text_anchor=anchor, class_="name"))
    return drawn


def _anchor(spot: Spot, box: Box) -> tuple[str, float]:
    """Names right of their spot start there, names left of it end there, whatever the width of the letters."""
    if box[0] >= spot.x:
        return "start", box[0]
    return ("end", box[2]) if box[2] <= spot.x else ("middle", (box[0] + box[2]) / 2)


def _free(frame: Frame, spot: Spot, wide: float, taken: Sequence[Box]) -> Box:
    """The nearest place around the spot that touches nothing, or the one that touches least."""
    best: tuple[float, Box] | None = None
    for away in (4.0, 12.0, 24.0, 40.0, 60.0, 84.0, 112.0):
        for angle in (0, 180, 90, 270, 45, 135, 225, 315):
            reach, turn = spot.r + away, math.radians(angle)
            x, y = spot.x + math.cos(turn) * (reach + wide / 2), spot.y + math.sin(turn) * (reach + TALL / 2)
            box = (x - wide / 2, y - TALL / 2, x + wide / 2, y + TALL / 2)
            if box[0] < frame.left + 2 or box[2] > frame.width or box[1] < 0 or box[3] > frame.height - frame.bottom:
                continue
            hidden = sum(_overlap(box, other) for other in taken)
            if not hidden:
                return box
            if best is None or hidden < best[0]:
                best = (hidden, box)
    return best[1] if best else (spot.x - wide, spot.y - TALL / 2, spot.x, spot.y + TALL / 2)


def _overlap(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
