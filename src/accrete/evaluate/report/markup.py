"""The words and marks of the report: escaped text, numbers as people read them, elements, and a look for every method.

Everything that comes from a model or a file enters a page through `text` or as an attribute of `element`.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DASH = "–"  # a number without meaning
COLOURS = 8  # --c0 to --c7 of page.css
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def text(value: Any, longest: int | None = None) -> str:
    """Any value, safe as the content of an element or an attribute; cut to `longest` characters."""
    said = _CONTROL.sub("\ufffd", str(value))
    if longest is not None and len(said) > longest:
        said = said[: longest - 1].rstrip() + "…"
    return html.escape(said)


def element(name: str, *content: str, **attributes: Any) -> str:
    """An element around markup. `class_` is class, `stroke_width` stroke-width; attributes that are None are left out."""
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(_short(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{said}>{''.join(content)}</{name}>"


def _short(value: Any) -> Any:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


# --- numbers ----------------------------------------------------------------------------------------------------------


def given(value: Any) -> float | None:
    """A number that means something, or None: for null, NaN, infinities and what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def figure(value: Any) -> str:
    """A score or ratio: two decimals, more only where two would show nothing."""
    found = given(value)
    if found is None:
        return DASH
    decimals = 2 if abs(found) >= 0.005 or abs(found) < 0.00005 else 3 if abs(found) >= 0.0005 else 4
    said = f"{found:.{decimals}f}"
    return said.replace("-", "−") if float(said) else said.lstrip("-")


def quantity(value: Any) -> str:
    """A count or an amount: 3 significant digits, thousands apart, millions as M."""
    found = given(value)
    if found is None:
        return DASH
    for unit, size in (("G", 1e9), ("M", 1e6)):
        if abs(found) >= size:
            return f"{found / size:.3g} {unit}"
    return f"{found:,.0f}" if found == int(found) or abs(found) >= 100 else f"{found:.2g}"


def seconds(value: Any) -> str:
    found = given(value)
    if found is None:
        return DASH
    if found >= 600:
        return f"{found / 60:,.0f} min"
    return f"{found:.0f} s" if found >= 10 else f"{found:.1f} s" if found >= 1 else f"{found * 1000:.3g} ms"


def size(value: Any) -> str:
    found = given(value)
    if found is None:
        return DASH
    for unit in ("B", "KB", "MB"):
        if abs(found) < 1000:
            return f"{found:.3g} {unit}"
        found /= 1000
    return f"{found:,.3g} GB"


# --- methods ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Series:
    """A row of the results with its name and its look, which are the same in every table and chart."""

    index: int
    label: str
    row: Mapping[str, Any]

    @property
    def colour(self) -> str:
        return f"s{self.index % COLOURS}"

    @property
    def look(self) -> str:
        """The classes of a line: dashed from the ninth method on, where the colours begin again."""
        return self.colour + (" again" if self.index >= COLOURS else "")

    def mark(self, x: float, y: float, r: float = 4.0, **attributes: Any) -> str:
        """A shape of its own, so that colour is never all that tells methods apart."""
        wide = r * 1.2
        shape = (
            f"M{x - r:.1f} {y:.1f}a{r:.1f} {r:.1f} 0 1 0 {2 * r:.1f} 0a{r:.1f} {r:.1f} 0 1 0 {-2 * r:.1f} 0z",
            f"M{x - r * 0.9:.1f} {y - r * 0.9:.1f}h{r * 1.8:.1f}v{r * 1.8:.1f}h{-r * 1.8:.1f}z",
            f"M{x:.1f} {y - wide:.1f}l{wide:.1f} {wide * 1.8:.1f}h{-2 * wide:.1f}z",
            f"M{x:.1f} {y - wide:.1f}l{wide:.1f} {wide:.1f}l{-wide:.1f} {wide:.1f}l{-wide:.1f} {-wide:.1f}z",
        )[self.index % 4]
        return element("path", d=shape, **{"class_": f"mark {self.colour}"} | attributes)

    @property
    def key(self) -> str:
        """The mark beside the name, which may be broken at its underscores, for running text and tables."""
        drawn = element("svg", self.mark(6, 6), class_="key", viewBox="0 0 12 12", aria_hidden="true")
        return drawn + text(self.label).replace("_", "_<wbr>")


def series(rows: Sequence[Mapping[str, Any]]) -> list[Series]:
    """Every row, named by its method and, where a method comes more than once, by what was set differently."""
    names = [str(row.get("method", "?")) for row in rows]
    labels: list[str] = []
    for name, row in zip(names, rows, strict=True):
        same = [other for other, its in zip(rows, names, strict=True) if its == name]
        label = f"{name} {_told_apart(row, same)}".rstrip() if len(same) > 1 else name
        labels.append(label if label not in labels else f"{label} ({labels.count(label) + 1})")
    return [Series(index, label, row) for index, (label, row) in enumerate(zip(labels, rows, strict=True))]


def _told_apart(row: Mapping[str, Any], same: Sequence[Mapping[str, Any]]) -> str:
    settings = [dict(other.get("config") or {}) for other in same]
    own = dict(row.get("config") or {})
    differing = [key for key in own if any(other.get(key) != own[key] for other in settings)]
    return ", ".join(f"{key}={own[key]}" for key in differing)
