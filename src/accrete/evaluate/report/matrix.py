"""The matrix of a method as a heat map: a row for every step, a column for every lesson, grey where nobody asked. SVG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from accrete.evaluate.report.charts import nice_step
from accrete.evaluate.report.markup import Series, element, figure, given, text

WIDE, LEFT, TOP = 480, 132, 30
LARGEST = 46  # units of a cell's side
WORDS = 17  # characters of a lesson's name
NUMBERS = 26  # a cell this large has its number in it
FRAMED = 12  # and one this large has a frame when it stands right after its lesson
DARK = 0.55  # from here on the number is written in the other ink

LEGEND = (
    '<svg class="legend" viewBox="0 0 300 20" role="img" aria-label="scale of the heat maps">'
    '<text x="0" y="14">0</text>'
    + "".join(
        f'<rect x="{14 + 14 * i}" y="3" width="14" height="14" class="heat" fill-opacity="{0.04 + 0.96 * i / 8:.2f}"/>'
        for i in range(9)
    )
    + '<text x="146" y="14">1</text><rect x="180" y="3" width="14" height="14" class="unmeasured"/>'
    '<text x="200" y="14">not measured</text></svg>'
)


def heat_map(one: Series, tasks: Sequence[str]) -> str:
    """The figure of a method, or nothing when it has no matrix. Rows are steps, from the base down to the last lesson."""
    R = one.row.get("matrix") or []
    count = max(len(tasks), *(len(row) for row in R)) if R else 0
    if not count:
        return ""
    names = [*tasks, *(f"lesson {j + 1}" for j in range(len(tasks), count))]
    side = min(LARGEST, (WIDE - LEFT - 4) / count)
    high = TOP + side * len(R) + 4
    drawn = [element("rect", x=LEFT, y=TOP, width=side * count, height=side * len(R), class_="unmeasured")]
    drawn += [_cell(R, names, i, j, side) for i, row in enumerate(R) for j in range(len(row))]
    drawn += [_own(j, side) for j in range(min(count, len(R) - 1)) if side >= FRAMED]
    drawn += _names(names, side, len(R))
    said = f"{one.label}: score on every lesson after every step"
    box = f"0 0 {WIDE} {high:.0f}"
    drawing = element("svg", *drawn, viewBox=box, class_="chart map", role="img", aria_label=said)
    return element("figure", element("figcaption", element("b", one.key)), drawing)


def _cell(R: Sequence[Sequence[Any]], names: Sequence[str], step: int, task: int, side: float) -> str:
    value = given(R[step][task])
    if value is None:
        return ""
    x, y, shade = LEFT + task * side, TOP + step * side, min(1.0, max(0.0, value))
    gap = 1.0 if side > 12 else 0.0
    after = f"after {step}, {names[step - 1]}" if step else "base"
    tip = element("title", text(f"{after}: {figure(value)} on {task + 1}, {names[task]}"))
    place = {"x": x + gap / 2, "y": y + gap / 2, "width": side - gap, "height": side - gap}
    drawn = element("rect", **place, class_="ground") + element(
        "rect", tip, **place, class_="heat", fill_opacity=0.04 + 0.96 * shade
    )
    if side >= NUMBERS:
        ink = "cell dark" if shade > DARK else "cell"
        drawn += element("text", figure(value), x=x + side / 2, y=y + side / 2 + 4, text_anchor="middle", class_=ink)
    return drawn


def _own(task: int, side: float) -> str:
    """The frame around a lesson's score right after it."""
    return element("rect", x=LEFT + task * side, y=TOP + (task + 1) * side, width=side, height=side, class_="own")


def _names(names: Sequence[str], side: float, steps: int) -> list[str]:
    """Names at the left and numbers above, as many as there is room for."""
    every = max(1, int(nice_step(13 / side))) if side < 13 else 1
    drawn = [element("text", "asked about lesson", x=LEFT - 8, y=TOP - 10, text_anchor="end", class_="axis")]
    for j in range(every - 1, len(names), every):
        drawn.append(element("text", str(j + 1), x=LEFT + (j + 0.5) * side, y=TOP - 10, text_anchor="middle"))
    for i in range(0, steps, every):
        said = f"{i} {names[i - 1]}" if i else "base"
        at = {"x": LEFT - 8, "y": TOP + (i + 0.5) * side + 4}
        drawn.append(element("text", element("title", text(said)), text(said, WORDS), **at, text_anchor="end"))
    return drawn
