"""The tables of the report: what was learned and kept, transfer and drift, and what it cost. Ends at HTML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from accrete.evaluate.report.markup import DASH, Series, element, figure, given, quantity, seconds, size, text


@dataclass(frozen=True)
class Column:
    key: str
    heading: str
    meaning: str
    show: Callable[[Any], str] = figure


OUTCOME = (
    Column("learned", "Learned", "mean score on a lesson's probes right after that lesson"),
    Column("kept", "Kept", "mean score over all lessons after the last one"),
    Column("sentinels", "Sentinels", "share of what the base model knew that is still answered"),
    Column("floor", "Floor", "the base model, before anything was learned, asked without the passage"),
    Column("ceiling", "Ceiling", "the base model with the passage before the question"),
    Column(
        "forgetting", "Forgetting", "mean drop from the best score that was measured before the last lesson to the end"
    ),
    Column("plasticity", "Plasticity", "share right of changed facts right after their period, from the second on"),
    Column("stability", "Stability", "the same for unchanged facts"),
    Column("versioned", "Versioned", "superseded facts as of their own period, asked after the last lesson"),
    Column(
        "token_f1", "Token F1", "word overlap with the truth right after the lesson; of periods, from the second on"
    ),
)
KIND = (
    Column("probes", "Probes", "how many of this kind were asked", quantity),
    *(column for column in OUTCOME[:5] if column.key != "sentinels"),
)
TRANSFER = (
    Column("op", "OP", "overall performance: mean of the last row of the matrix"),
    Column("bwt", "BWT", "backward transfer: the end less right after the lesson, the last lesson left out"),
    Column("fwt", "FWT", "forward transfer: just before the lesson less the base, the first lesson left out"),
    Column("forgetting_ratio", "Ratio", "forgetting ratio: (before − after) / before, the last lesson left out"),
    Column(
        "wrong_document", "Wrong doc.", "score on probes while only documents are learned that do not speak of them"
    ),
    Column("log_likelihood", "Log-lik.", "log-likelihood of the truth at the end, nats a token"),
    Column("kl_to_base", "KL to base", "mean KL from the base model to the taught one, nats a token"),
    Column("top1_agreement", "Top-1", "share of positions where the first choice is still the base model's"),
    Column("positions", "Positions", "how many tokens KL and Top-1 are over", quantity),
    Column(
        "perplexity_before", "PPL before", "perplexity of held-out text (without any, of the sentinels) under the base"
    ),
    Column("perplexity_after", "PPL after", "the same after the last lesson"),
    Column("perplexity_positions", "PPL over", "how many tokens that is over", quantity),
)
COST = (
    Column("learn_seconds", "Learning", "time of a lesson, on average", seconds),
    Column("answer_seconds", "Answering", "time of an answer, with all probes in one batch", seconds),
    Column("tokens", "Tokens", "tokens trained on or stored, all lessons", quantity),
    Column("tokens_per_second", "Tokens/s", "tokens per second of learning", quantity),
    Column("bytes", "Stored", "bytes that a lesson adds to the home, on average", size),
    Column("peak_mb", "Peak memory", "the most memory that the process held", lambda mb: size(_times(mb, 1e6))),
    Column("trainable", "Trainable", "parameters that a lesson may change", quantity),
    Column(
        "refused",
        "Refused",
        "lessons taken back because they did harm; they count as lessons that taught nothing",
        quantity,
    ),
)


def table(shown: Sequence[Series], columns: Sequence[Column], strip: bool = False) -> str:
    """A row for every method. Columns without a single number are named below instead of shown."""
    filled = [c for c in columns if any(given(s.row.get(c.key)) is not None for s in shown)] or list(columns[:1])
    empty = [column.heading for column in columns if column not in filled]
    heads = [element("th", "Method", scope="col", class_="name")]
    if strip:
        heads.append(element("th", SCALE, scope="col", class_="strip"))
    heads += [element("th", text(column.heading), scope="col", title=column.meaning) for column in filled]
    body = "".join(_row(one, filled, strip) for one in shown)
    head = element("thead", element("tr", *heads))
    drawn = element("div", element("table", head, element("tbody", body)), class_="scroll", tabindex="0")
    missing = element("p", "Not measured here: ", text(", ".join(empty)), ".", class_="note") if empty else ""
    return drawn + missing


def _row(one: Series, columns: Sequence[Column], strip: bool) -> str:
    cells = [element("th", one.key, scope="row", class_="name")]
    error = one.row.get("error")
    if error and all(given(one.row.get(column.key)) is None for column in columns):
        said = element("td", _failure(error), colspan=len(columns) + strip, class_="error")
        return element("tr", *cells, said, class_="failed")
    if strip:
        cells.append(element("td", _strip(one), class_="strip"))
    cells += [_cell(one, column) for column in columns]
    row = element("tr", *cells)
    if error:  # it failed on the way, after some figures were taken
        said = element("td", _failure(error), colspan=len(columns) + strip + 1, class_="error")
        row += element("tr", said, class_="failed")
    return row


def _failure(error: object) -> str:
    return element("p", "Failed: ", text(error, 600))


def _cell(one: Series, column: Column) -> str:
    value = column.show(one.row.get(column.key))
    if value == DASH:
        return element("td", DASH, class_="none")
    low, high = _interval(one, column.key)
    spread = given((one.row.get("spread") or {}).get(column.key))
    bounds = [column.show(bound) for bound in (low, high)]
    notes = [" to ".join(bounds)] if low is not None and bounds[0] != bounds[1] else []
    notes += [f"± {column.show(spread)}"] if spread is not None else []
    return element("td", text(value), *(element("small", text(note)) for note in notes))


def _interval(one: Series, key: str) -> tuple[float | None, float | None]:
    bounds = (one.row.get("intervals") or {}).get(key) or ()
    low, high = map(given, bounds) if len(bounds) == 2 else (None, None)
    return (None, None) if low is None or high is None else (low, high)


# --- the strip: floor, learned, kept and ceiling on one line from 0 to 1 ----------------------------------------------

WIDE, HIGH = 180, 26
SCALE = (
    '<svg class="strip" viewBox="0 0 180 16" aria-label="scale from 0 to 1">'
    '<text x="6" y="12">0</text><text x="90" y="12" text-anchor="middle">0.5</text>'
    '<text x="174" y="12" text-anchor="end">1</text></svg>'
)
STRIP_KEY = (
    "Each line runs from 0 to 1. The bar goes from floor to ceiling; the filled mark is what was learned, with its 95 % "
    "interval, the ring what was kept to the end."
)


def _strip(one: Series) -> str:
    found = {key: given(one.row.get(key)) for key in ("floor", "learned", "kept", "ceiling")}
    middle = HIGH / 2
    drawn = [element("line", x1=_x(0), x2=_x(1), y1=middle, y2=middle, class_="track")]
    if (floor := found["floor"]) is not None and (ceiling := found["ceiling"]) is not None:
        left, right = sorted((_x(floor), _x(ceiling)))
        drawn.append(element("rect", x=left, width=right - left, y=middle - 5, height=10, class_="room"))
    for key in ("floor", "ceiling"):
        if (at := found[key]) is not None:
            drawn.append(element("line", x1=_x(at), x2=_x(at), y1=middle - 8, y2=middle + 8, class_="bound"))
    low, high = _interval(one, "learned")
    if low is not None and high is not None:
        drawn.append(element("line", x1=_x(low), x2=_x(high), y1=middle, y2=middle, class_=f"whisker {one.colour}"))
    if (kept := found["kept"]) is not None:
        drawn.append(element("circle", cx=_x(kept), cy=middle, r=5.5, class_=f"ring {one.colour}"))
    if (learned := found["learned"]) is not None:
        drawn.append(one.mark(_x(learned), middle, 4.0))
    said = ", ".join(f"{key} {figure(value)}" for key, value in found.items())
    title = element("title", text(said))
    return element("svg", title, *drawn, class_="strip", viewBox=f"0 0 {WIDE} {HIGH}", role="img", aria_label=said)


def _x(score: float) -> float:
    return 8 + (WIDE - 16) * min(1.0, max(0.0, score))


def _times(value: Any, factor: float) -> float | None:
    found = given(value)
    return None if found is None else found * factor
