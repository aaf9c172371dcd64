"""Measure every method and the peer on the streams of LEADERBOARD.md, and write it: `python scripts/leaderboard.py --write`.

    --out DIR          where the runs lie [runs/leaderboard]; what is there already is not measured again
    --stream NAME      this one only, repeatable; the tables of the others stay as they are
    --row METHOD       this method alone; the other rows stay as they are
    --check            measure nothing; say whether LEADERBOARD.md shows the stored figures, and those of this model
    --limit N, --model M, --methods A,B      a trial, which is printed and not written

For each stream `accrete compare` runs into OUT/STREAM/methods, benchmarks/peer_lora.py into OUT/STREAM/peer, and
`accrete compare --merge` joins them in OUT/STREAM. The figures are kept in leaderboard.json; the page is made of nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accrete.evaluate.collect import effective
from accrete.methods import base

ROOT = Path(__file__).parents[1]
PAGE, STORED = ROOT / "LEADERBOARD.md", ROOT / "leaderboard.json"
STREAMS: dict[str, tuple[str, ...]] = {
    "temporal": ("--limit", "60"),
    "world": ("--lessons", "12", "--facts", "20"),
    "tofu": ("--lessons", "10"),
}
NEEDS_DATA = {"tofu"}
PEER = "peft_lora"
# What the table shows: a figure, its heading, and what it means.
COLUMNS = {
    "floor": ("floor", "the base model, before anything was learned"),
    "learned": (
        "learned",
        "score right after each lesson; ± is half of the 95 % interval, lessons and their questions drawn anew",
    ),
    "ceiling": ("ceiling", "the base model with the passage before the question"),
    "kept": ("kept", "score over all lessons after the last one"),
    "forgetting": (
        "forgetting",
        "mean drop from the best score that was measured to the end, a lower bound without --full-matrix",
    ),
    "sentinels": ("sentinels", "share of what the base model knew that is still answered"),
    "plasticity": ("plasticity", "changed facts right after their period"),
    "stability": ("stability", "unchanged facts right after their period"),
    "versioned": ("versioned", "superseded facts, asked at the end as of their period"),
    "token_f1": ("F1", "overlap of words with the truth right after the lesson"),
    "wrong_document": ("wrong doc.", "score while only documents are learned that do not speak of what is asked"),
    "kl_to_base": ("KL", "from the base model to the taught one on prose that no lesson is about, nats a token"),
}
COSTS = {
    "learn_seconds": ("s a lesson", "seconds of learning"),
    "bytes": ("MB a lesson", "what a lesson added to the disk"),
    "peak_mb": ("peak MB", "the most memory that a lesson held, the model included"),
}
KEPT = ("method", "error", "intervals", "config", *COLUMNS, *COSTS)
# METHODS: 1B model, as published; plasticity, stability, token F1.
PUBLISHED = {
    "full finetuning": (0.089, 0.139, 0.048),
    "LoRA": (0.138, 0.221, 0.097),
    '"SMF": one dense soft memory, not sparse memory finetuning': (0.591, 0.482, 0.112),
    "CASM": (0.329, 0.258, 0.056),
}


# --- measuring --------------------------------------------------------------------------------------------------------


def measure(stream: str, sizes: Sequence[str], common: Sequence[str], methods: str, out: Path) -> dict[str, Any]:
    """What leaderboard.json keeps of a stream; each of its three runs is made unless its results are there."""
    place = out / stream
    base = ["--stream", stream, *sizes, *common]
    home = ["--home", str(place / "home")]  # no settings of the user's
    accrete, peer = [sys.executable, "-m", "accrete.cli.main", "compare"], [sys.executable, "benchmarks/peer_lora.py"]
    _run([*accrete, *base, *home, "--methods", methods, "--out", str(place / "methods")], place / "methods")
    _run([*peer, *base, "--out", str(place / "peer")], place / "peer")
    _run([*accrete, "--merge", str(place / "methods"), str(place / "peer"), *home, "--out", str(place)], place)
    return entry(json.loads((place / "results.json").read_text("utf-8")), sizes)


def again(stream: str, sizes: Sequence[str], common: Sequence[str], method: str, out: Path) -> dict[str, Any]:
    """What leaderboard.json keeps of a stream, with the row of this method measured anew; the other rows as they were."""
    stored, place = json.loads(STORED.read_text("utf-8"))["streams"][stream], out / stream / "rows" / method
    command = [sys.executable, "-m", "accrete.cli.main", "compare", "--stream", stream, *sizes, *common]
    _run([*command, "--home", str(out / stream / "home"), "--methods", method, "--out", str(place)], place)
    found = entry(json.loads((place / "results.json").read_text("utf-8")), sizes)
    for key in ("content", "base_digest", "seeds"):
        if found[key] != stored[key]:
            sys.exit(f"The {key} of {stream} is another than that of the stored rows: measure all of them again.")
    rows = {row["method"]: row for row in (*stored["rows"], *found["rows"])}
    return {**stored, "measured": found["measured"], "rows": [rows[name] for name in sorted(rows, key=_place)]}


def _place(method: str) -> tuple[bool, str]:
    return method == PEER, method


def entry(results: Mapping[str, Any], sizes: Sequence[str]) -> dict[str, Any]:
    """The results of a stream without lessons, answers and matrices; each row with the command that makes it."""
    stream, machine = results["stream"], results["machine"]
    asked = shlex.join(
        ["--stream", stream["name"], *sizes, *(["--data", "DIR"] if stream["name"] in NEEDS_DATA else [])]
    )
    rows = [{key: _rounded(row.get(key)) for key in KEPT} | {"commit": row["run"]["commit"]} for row in results["rows"]]
    for row in rows:
        start = "python benchmarks/peer_lora.py" if row["method"] == PEER else "accrete compare"
        end = "--out OUT" if row["method"] == PEER else f"--methods {row['method']}"
        row["command"] = f"{start} {asked} {end}"
        row["intervals"] = {
            key: row["intervals"][key] for key in ("learned", "kept", "sentinels") if key in (row["intervals"] or {})
        }
    return {
        "lessons": results["lessons"],
        "questions": sum(len(task["probes"]) for task in stream["tasks"]),
        "score": stream["score"],
        "content": stream["content"],
        "model": Path(results["model"]).name,  # not the place it had on some machine
        "base_digest": results["base_digest"],
        "seeds": results["seeds"],
        "measured": results["measured"],
        "machine": machine,
        "versions": results["versions"],
        "rows": rows,
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, 6) if isinstance(value, float) else value


def _run(command: Sequence[str], place: Path) -> None:
    """Run unless the results are there. Exit code 1 with results is a method that failed: a row like any other."""
    if (place / "results.json").exists():
        return
    print(shlex.join(["python", *command[1:]]), file=sys.stderr, flush=True)
    code = subprocess.run(command, cwd=ROOT, stdout=sys.stderr).returncode
    if code and not (code == 1 and (place / "results.json").exists()):
        sys.exit(f"This run failed ({code}): {shlex.join(command)}")


# --- the page ---------------------------------------------------------------------------------------------------------

HEAD = """# Leaderboard

Written by `python scripts/leaderboard.py --write` from `leaderboard.json`; do not edit. Every method learns the lessons of a
stream one after another, on the same base model, and is asked closed-book; `peft_lora` is a plain LoRA loop of
transformers and peft (`benchmarks/peer_lora.py`: rank, rate and batch of accrete's own LoRA, 30 epochs a lesson), without
replay or anything that holds it to its base. Floor and ceiling are the base model without and with the passage before the
question. Seconds and memory are those of the machine named, which had other work to do beside: they say which method is
slower, not how slow. Each command makes its row alone.
"""
FOOT = """## Published figures of another model

Not measured here and not comparable row by row: a model of 1B parameters, from the paper on contradiction-aware sparse memory
(CASM), on its own Synthetic TemporalWiki of the shape of `temporal`. Averages over 2020, 2022 and 2024.

| method, as the paper names it | plasticity | stability | token F1 |
|---|---|---|---|
"""


def page(stored: Mapping[str, Any]) -> str:
    """LEADERBOARD.md of leaderboard.json."""
    known = [*STREAMS, *sorted(stored["streams"].keys() - STREAMS.keys())]
    tables = [section(name, stored["streams"][name]) for name in known if name in stored["streams"]]
    published = "".join(f"| {name} | {' | '.join(f'{x:.3f}' for x in found)} |\n" for name, found in PUBLISHED.items())
    return "\n".join([HEAD, *tables, FOOT + published])


def section(name: str, found: Mapping[str, Any]) -> str:
    """One stream: what it is, its table, and how to make each row again."""
    rows = found["rows"]
    shown = {k: head for k, (head, _) in (COLUMNS | COSTS).items() if any(row.get(k) is not None for row in rows)}
    lines = [f"| method | {' | '.join(shown.values())} |", "|---" * (len(shown) + 1) + "|"]
    lines += [_row(row, list(shown)) for row in rows]
    made = [f"- {row['method']}: `{row['command']}` at commit {row['commit']}" for row in rows]
    meant = "; ".join(f"{head}: {text}" for key, (head, text) in (COLUMNS | COSTS).items() if key in shown)
    machine = ", ".join(f"{key} {value}" for key, value in found["machine"].items())
    versions = ", ".join(f"{key} {value}" for key, value in found["versions"].items())
    return "\n".join(
        [
            f"## {name}",
            "",
            f"{found['lessons']} lessons, {found['questions']:,} questions, learned = {found['score']}, "
            f"model {found['model']} ({found['base_digest'][:10]}), seeds {', '.join(map(str, found['seeds']))}, "
            f"{str(found['measured'])[:10]}.",
            "",
            *lines,
            "",
            f"{meant[0].upper()}{meant[1:]}.",
            "",
            *made,
            "",
            f"Machine: {machine}. Versions: {versions}.",
            "",
        ]
    )


def _row(row: Mapping[str, Any], shown: Sequence[str]) -> str:
    if row["error"]:
        said = " ".join(str(row["error"]).split()).replace("|", "/")
        return f"| {row['method']} | failed: {said} |" + " |" * (len(shown) - 1)
    return f"| {row['method']} | {' | '.join(_cell(row, key) for key in shown)} |"


def _cell(row: Mapping[str, Any], key: str) -> str:
    if (value := row.get(key)) is None:
        return "–"
    if key in COSTS:
        return f"{value / 1e6:.1f}" if key == "bytes" else f"{value:.1f}" if key == "learn_seconds" else f"{value:.0f}"
    said = f"{value:.3f}" if key == "kl_to_base" else f"{value:.2f}"
    if key in row["intervals"]:
        low, high = row["intervals"][key]
        said += f" ±{(high - low) / 2:.2f}"
    return said


# --- what is stored ---------------------------------------------------------------------------------------------------


def write(streams: Mapping[str, Any]) -> None:
    """Keep these streams beside those that are there, and make the page."""
    before = json.loads(STORED.read_text("utf-8"))["streams"] if STORED.exists() else {}
    stored = {"streams": {**before, **streams}}
    STORED.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n", "utf-8")
    PAGE.write_text(page(stored), "utf-8")


def stale(digest: str | None = None) -> list[str]:
    """What does not agree, a sentence each; with the digest of the embedded model, whether the figures are its."""
    if not STORED.exists() or not PAGE.exists():
        return [f"There is no {path.name}." for path in (PAGE, STORED) if not path.exists()]
    stored, wrong = json.loads(STORED.read_text("utf-8")), []
    if PAGE.read_text("utf-8") != page(stored):
        wrong.append(f"{PAGE.name} does not show the figures of {STORED.name}.")
    wrong += [f"{PAGE.name} has no figures of {name}." for name in STREAMS if name not in stored["streams"]]
    for name, found in stored["streams"].items():
        wrong += [f"{method} on {name} was measured with other defaults than today's." for method in _changed(found)]
        if digest is not None and found["base_digest"] != digest:
            wrong.append(f"The figures of {name} were measured on other weights than those of the package.")
    return wrong


def _changed(found: Mapping[str, Any]) -> list[str]:
    """The methods whose defaults are no longer those that were measured."""
    rows = [row for row in found["rows"] if row["method"] in base.names()]
    return [row["method"] for row in rows if row["config"] != effective(row["method"], {}, found["seeds"])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "leaderboard")
    parser.add_argument("--stream", action="append", help="only this one; repeatable")
    parser.add_argument("--data", type=Path, help="where the data of tofu are [ACCRETE_DATA]")
    parser.add_argument("--write", action="store_true", help="write LEADERBOARD.md and leaderboard.json")
    parser.add_argument(
        "--row", choices=base.names(), help="measure this method alone, beside the rows that are stored"
    )
    parser.add_argument("--check", action="store_true", help="measure nothing; say what is stale")
    parser.add_argument("--limit", type=int, help="a trial: so many facts or questions in all")
    parser.add_argument("--model", default="embedded", help="a trial: another model")
    parser.add_argument("--methods", default="all", help="a trial: these methods")
    options = parser.parse_args()
    if options.check:
        from accrete.lm.load import load

        if wrong := stale(load("embedded", device="cpu", offline=True).digest):
            sys.exit("\n".join(wrong))
        print(f"{PAGE.name} shows the figures of {STORED.name}, of these weights and today's defaults.")
        return
    names = options.stream or list(STREAMS)
    trial = options.limit or options.model != "embedded" or options.methods != "all" or not STREAMS.keys() >= set(names)
    if trial and options.write:
        parser.error("a trial (--limit, --model, --methods, another stream) is not written")
    data = options.data or os.environ.get("ACCRETE_DATA")
    common = ["--model", options.model, "--offline"]
    found = {}
    for name in names:
        if name in NEEDS_DATA and not data:
            print(f"{name} is left out: name its data with --data or ACCRETE_DATA.", file=sys.stderr)
            continue
        sizes = ["--limit", str(options.limit)] if options.limit else STREAMS.get(name, ())
        more = ["--data", str(Path(data).resolve())] if name in NEEDS_DATA else []
        if options.row:
            found[name] = again(name, sizes, [*common, *more], options.row, options.out.resolve())
        else:
            found[name] = measure(name, sizes, [*common, *more], options.methods, options.out.resolve())
        if options.write:  # after each: the next may take long
            write({name: found[name]})
    if not options.write:
        print(page({"streams": found}))


if __name__ == "__main__":
    main()
