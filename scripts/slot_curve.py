"""How many slots a lesson of sparse memory may write: learned, kept and what the base knew, against t, by selection.

    python scripts/slot_curve.py OUT [--rows 300,1000,3000,9000] [--selections tfidf,kl,random,all] [--lessons 3]
                                     [--set key=value]

Each point is a run of its own over the first lessons of the stream `world` (twenty facts each, study items given, asked in
held-out wordings and backwards), written to OUT/points.jsonl as it is done; killed and called again, it goes on. The table
goes to stdout, the figure to OUT/slots.html. `all` has no t: one point, drawn across. Hub slots show as a cliff: with too few
rows nothing is learned, and a few more cost the base. What is forgotten is finer than which sentinels come out right: how
much less likely their answers are than before, in nats an answer.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import tempfile
from pathlib import Path
from typing import Any, get_args

from accrete.evaluate.report.charts import SCORES, Frame, figure_of
from accrete.evaluate.report.markup import Series, element, series, text
from accrete.evaluate.streams import Options, make
from accrete.gates.slots import Selection
from accrete.learner import Learner
from accrete.lm.forced import log_likelihoods
from accrete.lm.prompts import study_sequence
from accrete.settings import parse_value

FIGURES = {
    "learned": "Right after each lesson, mean",
    "kept": "All lessons, after the last",
    "sentinels": "What the base knew, at the end",
    "forgotten": "The same: nats an answer more than before",
}
STYLE = """body{font:14px system-ui,sans-serif;margin:24px;max-width:1100px;color:#222}
svg{width:100%;max-width:520px}svg text{font-size:12px;fill:#444}.grid{stroke:#ddd}.line{fill:none;stroke-width:2}
.panels{display:grid;grid-template-columns:repeat(auto-fit,minmax(420px,1fr));gap:20px}figure{margin:0}
.s0{stroke:#0b62a8}.s1{stroke:#c4570d}.s2{stroke:#3a7d2c}.s3{stroke:#7a3f98}
.mark.s0{fill:#0b62a8}.mark.s1{fill:#c4570d}.mark.s2{fill:#3a7d2c}.mark.s3{fill:#7a3f98}"""


def point(selection: str, rows: int, lessons: int, config: dict[str, Any]) -> dict[str, Any]:
    """One run: what is learned, kept, and left of the base."""
    stream = make("world", Options(lessons=lessons, facts=20))
    with tempfile.TemporaryDirectory() as home:
        learner = Learner(
            "embedded",
            method="sparse_memory",
            home=home,
            offline=True,
            max_forgetting=1.0,
            study="gold",
            config=config | {"selection": selection, "rows": rows},
        )
        asked, learned, written, before = [], [], 0, nats_of_sentinels(learner)
        for number, task in enumerate(stream.tasks, 1):
            print(f"{selection}, t {rows:,}: lesson {number} of {lessons}", file=sys.stderr, flush=True)
            metrics = learner.learn(task.document, probes=task.probes).metrics
            learned.append(metrics["probes_after"])
            written += metrics["rows_written"]
            asked += task.probes
        return {
            "selection": selection,
            "rows": rows,
            "lessons": lessons,
            "config": config,
            "learned": sum(learned) / lessons,
            "kept": learner.grade(asked),
            "sentinels": learner.kept(split="scored"),
            "forgotten": nats_of_sentinels(learner) - before,
            "rows_written": written / lessons,
        }


def nats_of_sentinels(learner: Learner) -> float:
    """How unlikely the answers of the scored sentinels are, mean."""
    sentinels = [row for row in learner.lm.sentinels if row[2] == "scored"]
    sequences = [study_sequence(learner.lm, question, answers[0]) for question, answers, _ in sentinels]
    return -sum(log_likelihoods(learner.lm, sequences)) / len(sequences)


def table(points: list[dict[str, Any]]) -> str:
    names = ("selection", "t", "rows written a lesson", "learned", "kept", "sentinels", "forgotten, nats")
    head = f"| {' | '.join(names)} |\n|{'---|' * len(names)}\n"
    return head + "".join(
        f"| {p['selection']} | {'-' if p['selection'] == 'all' else format(p['rows'], ',')} | {p['rows_written']:,.0f}"
        f" | {p['learned']:.2f} | {p['kept']:.2f} | {p['sentinels']:.3f} | {p['forgotten']:.3f} |\n"
        for p in points
    )


def page(points: list[dict[str, Any]]) -> str:
    """A panel for each of the figures."""
    found = {
        name: [p for p in points if p["selection"] == name] for name in dict.fromkeys(p["selection"] for p in points)
    }
    ticks = sorted({p["rows"] for p in points})
    ticks = ticks if len(ticks) > 1 else [max(1, ticks[0] // 10), ticks[0]]
    shown = series([{"method": name} for name in found])
    panels = [panel(key, said, shown, found, ticks) for key, said in FIGURES.items()]
    return "<!doctype html>" + element(
        "html",
        element("head", element("title", "Slots a lesson may write"), element("style", STYLE)),
        element("body", element("h1", "Slots a lesson may write"), element("div", *panels, class_="panels")),
    )


def panel(key: str, said: str, shown: list[Series], found: dict[str, list[dict[str, Any]]], ticks: list[int]) -> str:
    most = max(1e-3, *(p[key] for points in found.values() for p in points))
    scores = SCORES if key != "forgotten" or most > 1 else [round(1.1 * most * share, 3) for share in SCORES]
    frame = Frame((math.log10(ticks[0]), math.log10(ticks[-1])), (min(0, *scores), max(scores)))
    across = [(math.log10(t), f"{t:,}") for t in ticks]
    drawn = [frame.grid(across, [(v, f"{v:g}") for v in scores], "rows of each layer that a lesson may write")]
    for one in shown:
        points = sorted(found[one.label], key=lambda p: p["rows"])
        places = [(frame.across(math.log10(p["rows"])), frame.up(p[key])) for p in points]
        if one.label == "all":
            places = [(frame.across(x), places[0][1]) for x in frame.x]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        drawn += [element("path", d=path, class_=f"line {one.look}"), *(one.mark(x, y, 3.2) for x, y in places)]
        end = frame.width - frame.right + 12
        height = frame.top + 14 + 18 * one.index
        drawn += [one.mark(end, height - 4), element("text", text(one.label), x=end + 10, y=height)]
    return figure_of(frame.drawing(said, *drawn), f"{key}.", said)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", default="300,1000,3000,9000")
    parser.add_argument("--selections", default="tfidf,kl,random,all")
    parser.add_argument("--lessons", type=int, default=3)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    selections = options.selections.split(",")
    if not set(selections) <= set(get_args(Selection)) or not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", options.rows):
        parser.error(f"--selections are of {', '.join(get_args(Selection))}, and --rows are numbers, between commas")
    options.out.mkdir(parents=True, exist_ok=True)
    config = {key: parse_value(value, key) for key, _, value in (given.partition("=") for given in options.set)}
    rows, path = [int(t) for t in options.rows.split(",")], options.out / "points.jsonl"
    done = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
    same = {(p["selection"], p["rows"]): p for p in done if (p["lessons"], p["config"]) == (options.lessons, config)}
    points = []
    for selection in selections:
        for t in rows[-1:] if selection == "all" else rows:
            if (selection, t) not in same:
                same[selection, t] = point(selection, t, options.lessons, config)
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(same[selection, t]) + "\n")
            points.append(same[selection, t])
            print(table(points[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    print(table(points), end="")
    (options.out / "slots.html").write_text(page(points), "utf-8")
    print(f"figure: {options.out / 'slots.html'}", file=sys.stderr)


if __name__ == "__main__":
    main()
