"""A comparison as one HTML file that opens offline: results.json in, a page out. Nothing is loaded, nothing runs.

What is read of results.json, schema 3; every key may be missing or null:

    schema, model, base_digest, dtype, commit, command, study, teacher, measured; machine, versions: {name: value}; seeds: []
    stream: {"name", "about": {}, "options": {}, "tasks": [names, or objects with a "name"], "score"}
    rows: one a method, in the order shown:
        method, config: {}, error, the figures of table.py (which says what each is)
        intervals: {figure: [low, high]}; spread: {figure: standard deviation over seeds}
        by_kind: {kind of probe: {"probes", "floor", "learned", "kept", "ceiling"}}
        wrong_document_of: {"document", "reason"}: what was learned for that control, or why nothing was
        matrix: R of metrics.py, N + 1 rows of N, null where it was not measured
        sentinels_by_step: [N + 1], kept_sets: {name: [N + 1]}, from the base on, null where it was not measured
        lessons: [{"task", "seconds", "tokens", "peak_mb", "bytes"}]
        worst: [{"task", "question", "truth", "before", "after_lesson", "at_end"}]
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from accrete.errors import UsageError
from accrete.evaluate.report.charts import curves
from accrete.evaluate.report.markup import DASH, Series, element, figure, series, text
from accrete.evaluate.report.matrix import LEGEND, heat_map
from accrete.evaluate.report.scatter import trade_off
from accrete.evaluate.report.table import COST, KIND, OUTCOME, STRIP_KEY, TRANSFER, Column, table
from accrete.evaluate.results import SCHEMA

POLICY = "default-src 'none'; style-src 'unsafe-inline'"  # a browser keeps the promise that nothing is loaded
ANSWER = 400  # characters shown of an answer
WORST = 12  # examples shown of a method

Results = Mapping[str, Any]


def html(results: Results) -> str:
    """The whole page. UsageError for results of another schema."""
    if results.get("schema", SCHEMA) != SCHEMA:
        raise UsageError(f"These results are of schema {results['schema']}; this version draws schema {SCHEMA}.")
    stream, shown = results.get("stream") or {}, series(results.get("rows") or [])
    tasks = [str(task.get("name") if isinstance(task, Mapping) else task) for task in stream.get("tasks") or []]
    body = [
        _header(results, stream, shown, tasks),
        _section("Learned and kept", table(shown, OUTCOME, strip=True), STRIP_KEY),
        _section("Lesson by lesson", curves(shown, len(tasks))),
        _section("The trade-off", trade_off(shown)),
        _matrices(shown, tasks),
        _kinds(shown),
        _section("Transfer and drift", table(shown, TRANSFER), _control(shown)),
        _section("What it cost", table(shown, COST)),
        _worst(shown),
        _making(results, stream, shown),
        _glossary(),
    ]
    return _page(_title(stream), "\n".join(filter(None, body)))


def _page(title: str, body: str) -> str:
    style = resources.files("accrete.evaluate.report").joinpath("page.css").read_text("utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"{element('title', text(title))}\n<style>\n{style}</style>\n</head>\n<body>\n{PATTERNS}<main>\n{body}\n</main>\n"
        "</body>\n</html>\n"
    )


PATTERNS = (
    '<svg width="0" height="0" aria-hidden="true" class="patterns"><defs><pattern id="hatch" width="6" height="6" '
    'patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="6" height="6" class="hatch-ground"/>'
    '<line x1="0" y1="0" x2="0" y2="6" class="hatch-line"/></pattern></defs></svg>\n'
)


def _title(stream: Results) -> str:
    return f"accrete on {stream.get('name') or 'a stream'}"


def _section(heading: str, content: str, note: str = "") -> str:
    """Empty when there is nothing to show."""
    said = element("p", text(note), class_="note") if note else ""
    return element("section", element("h2", text(heading)), said, content) if content else ""


def _header(results: Results, stream: Results, shown: Sequence[Series], tasks: Sequence[str]) -> str:
    failed = sum(bool(one.row.get("error")) for one in shown)
    facts = [
        _count(len(shown), "method") + (f", {failed} failed" if failed else ""),
        _count(len(tasks), "lesson") + (" one after another" if len(tasks) > 1 else ""),
        f"scored by {str(stream.get('score') or 'contains').replace('_', ' ')}",
        f"study items: {results['study']}" if results.get("study") else "",
        f"seeds {', '.join(map(str, results['seeds']))}" if len(results.get("seeds") or []) > 1 else "",
    ]
    model = element("b", text(results["model"])) if results.get("model") else "a model"
    when = f" · {text(str(results['measured'])[:10])}" if results.get("measured") else ""
    return element(
        "header",
        element("p", "accrete · comparison", when, class_="over"),
        element("h1", "What ", model, " learned from the stream ", element("b", text(stream.get("name") or DASH))),
        element("p", text(" · ".join(filter(None, facts))), class_="lead"),
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _matrices(shown: Sequence[Series], tasks: Sequence[str]) -> str:
    maps = [drawn for one in shown if (drawn := heat_map(one, tasks))]
    note = "Rows are steps, from the base model down to the last lesson; the framed cell is a lesson right after it."
    content = LEGEND + element("div", *maps, class_="panels") if maps else ""
    return _section("The matrices", content, note)


def _kinds(shown: Sequence[Series]) -> str:
    """What was scored by kind of probe, where there are several kinds."""
    every = dict.fromkeys(kind for one in shown for kind in one.row.get("by_kind") or {})
    if len(every) < 2:
        return ""
    found = [
        Series(one.index, f"{kind}: {one.label}", figures)
        for kind in every
        for one in shown
        if (figures := (one.row.get("by_kind") or {}).get(kind))
    ]
    return _section("By kind of question", table(found, KIND)) if found else ""


def _control(shown: Sequence[Series]) -> str:
    """What the wrong document was, which is the same for all methods."""
    told = [one.row.get("wrong_document_of") or {} for one in shown]
    said = [f"The wrong document: {one['document']}." for one in told if one.get("document")]
    said += [f"No wrong document: {one['reason']}." for one in told if one.get("reason")]
    return " ".join(dict.fromkeys(said))


# --- worst examples ---------------------------------------------------------------------------------------------------


def _worst(shown: Sequence[Series]) -> str:
    groups = []
    for one in shown:
        examples = list(one.row.get("worst") or [])[:WORST]
        cards = element("div", *map(_example, examples), class_="cards")
        if examples:
            summary = element("summary", one.key, " ", element("small", _count(len(examples), "question")))
            groups.append(element("details", summary, cards))
    note = "The questions each method did worst on, answered by the base model, right after the lesson, and at the end."
    return _section("Worst answers", "".join(groups), note)


def _example(example: Results) -> str:
    said = [("truth", "Truth"), ("before", "Before"), ("after_lesson", "After its lesson"), ("at_end", "At the end")]
    pairs = [element("dt", name) + element("dd", _answer(example.get(key)), class_=key) for key, name in said]
    return element(
        "article",
        element("p", text(example.get("task") or "", 60), class_="task"),
        element("h3", text(example.get("question") or DASH, ANSWER), dir="auto"),
        element("dl", *pairs),
    )


def _answer(answer: Any) -> str:
    if answer is None:
        return DASH
    if isinstance(answer, list | tuple):
        answer = " / ".join(map(str, answer))
    return element("bdi", text(answer, ANSWER)) if str(answer).strip() else element("i", "(nothing)")


# --- how it was made --------------------------------------------------------------------------------------------------


def _making(results: Results, stream: Results, shown: Sequence[Series]) -> str:
    plain = {
        "Model": results.get("model"),
        "Base digest": results.get("base_digest"),
        "Precision": results.get("dtype"),
        "Commit": results.get("commit"),
        "Measured": results.get("measured"),
        "Seeds": ", ".join(map(str, results.get("seeds") or [])),
        "Study": results.get("study"),
        "Teacher": results.get("teacher"),
        "Stream": _pairs({"name": stream.get("name"), "score": stream.get("score"), **(stream.get("about") or {})}),
        "Stream options": _pairs(stream.get("options") or {}),
        "Machine": _pairs(results.get("machine") or {}),
        "Versions": _pairs(results.get("versions") or {}),
    }
    pairs = [element("dt", name) + element("dd", text(value)) for name, value in plain.items() if value]
    command = element("pre", element("code", text(results["command"]))) if results.get("command") else ""
    settings = [
        element("dt", one.key) + element("dd", text(_pairs(one.row["config"])))
        for one in shown
        if one.row.get("config")
    ]
    configs = element("h3", "Settings") + element("dl", *settings, class_="making") if settings else ""
    return _section("How it was made", command + element("dl", *pairs, class_="making") + configs)


def _pairs(found: Results) -> str:
    return ", ".join(f"{key} {_plain(value)}" for key, value in found.items() if value is not None)


def _plain(value: Any) -> str:
    if isinstance(value, float) and abs(value) >= 1:
        return figure(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _glossary() -> str:
    columns: tuple[Column, ...] = (*OUTCOME, *TRANSFER, *COST)
    pairs = [element("dt", text(column.heading)) + element("dd", text(column.meaning)) for column in columns]
    note = "Scores run from 0 to 1. The small figures under a score are its 95 % interval, lessons and their questions drawn "
    note += f"anew, and ± the standard deviation over seeds. {DASH} stands where a figure has no meaning."
    return _section("What the figures mean", element("dl", *pairs, class_="making"), note)
