"""From the lines of all runs to results.json: a row for every method, with floor and ceiling. Pure; ends at JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from accrete.evaluate import metrics
from accrete.evaluate.control import BEFORE
from accrete.evaluate.figures import Figure

SCHEMA = 3
WORST = 12  # examples of a method
Line = Mapping[str, Any]
Run = Sequence[Line]
"""The lines of one seed, step 0 (the base) first."""


def row(method: str, config: Mapping[str, Any], runs: Sequence[Run], score: str) -> dict[str, Any]:
    """The figures of one method: means over its seeds, intervals over tasks; lessons, matrix and examples of the first."""
    tasks = len(runs[0]) - 1
    parts = [metrics.parts(_rows(run), score, len(run) - 1, _control(run)) | _beside(run, score) for run in runs]
    means, spreads = metrics.over_seeds(
        [metrics.values(p, (*metrics.FIGURES, *BESIDE)) | _other(run) for p, run in zip(parts, runs, strict=True)]
    )
    first = runs[0]
    return {
        "method": method,
        "config": dict(config),
        "score": score,
        **means,
        **{name: None if means[name] is None else round(means[name]) for name in COUNTS},  # type: ignore[arg-type]
        "refused": sum("refused" in line["lesson"] for run in runs for line in run[1:]),
        "spread": spreads if len(runs) > 1 else {},
        "intervals": metrics.intervals(*parts),
        "by_kind": _by_kind(runs, score),
        "wrong_document_of": _wrong_document_of(first),
        "perplexity_of": first[-1].get("drift", {}).get("perplexity_of"),
        "matrix": metrics.matrix(_rows(first), score, tasks),
        "kept_sets": {
            name: [_mean(line["kept"][name]) if "kept" in line else None for line in first] for name in _sets(first)
        },
        "kept_questions": {name: len(grades) for name, grades in first[0].get("kept", {}).items()},
        "sentinels_by_step": [share.value if (share := _sentinels(first[0], line)) else None for line in first],
        "lessons": [dict(line["lesson"]) for line in first[1:]],
        "worst": _worst(first, score),
        "error": None,
    }


def failed(
    method: str, config: Mapping[str, Any], error: str, bases: Sequence[Line] = (), score: str = ""
) -> dict[str, Any]:
    """The row of a method that did not come to an end: what is known of the base stands, from step 0 of every seed."""
    parts = [metrics.parts(_rows([b]), score, len(b["stream"]["tasks"])) | _beside([b], score) for b in bases]
    known: dict[str, Any] = dict(metrics.over_seeds([metrics.values(found, OF_BASE) for found in parts])[0])
    if bases:
        known["ceiling_left_out"] = round(sum(base.get("ceiling_left_out", 0) for base in bases) / len(bases))
    return {"method": method, "config": dict(config), "error": error, **dict.fromkeys(FIGURES), **known}


def _control(run: Run) -> list[dict[str, Any]] | None:
    """The answers after another document was learned; None where the lessons themselves are the control."""
    if run[0].get("control", {"of": BEFORE})["of"] == BEFORE:
        return None
    return list(run[1].get("control", {}).get("asked", []))


def _wrong_document_of(run: Run) -> dict[str, str]:
    """What was learned in place of a lesson's own document, and why nothing could be told where that is so."""
    control = run[0].get("control", {})
    own = run[1].get("control", {}) if len(run) > 1 else {}
    return {"document": control.get("of", ""), "reason": control.get("reason") or own.get("reason") or ""}


def _by_kind(runs: Sequence[Run], score: str) -> dict[str, dict[str, Any]]:
    """For every kind of probe: how many, and their mean score before, right after their lesson, at the end, and with context.

    Probes without a kind are called plain.
    """
    moments: dict[str, dict[str, list[float]]] = {}

    def note(moment: str, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            kind = moments.setdefault(row["kind"] or "plain", {"floor": [], "learned": [], "kept": [], "ceiling": []})
            kind[moment].append(row[score])

    for run in runs:
        rows = _rows(run)
        note("floor", [row for row in rows if row["step"] == 0])
        note("learned", [row for row in rows if row["step"] == row["task"] + 1])
        note("kept", [row for row in rows if row["step"] == len(run) - 1])
        note("ceiling", run[0]["ceiling"])
    return {
        kind: {"probes": len(found["floor"]), **{moment: _mean(scores) for moment, scores in found.items()}}
        for kind, found in sorted(moments.items())
    }


def _beside(run: Run, score: str) -> metrics.Parts:
    """The figures of BESIDE."""
    found = metrics.average(run[0]["ceiling"], score), _sentinels(run[0], run[-1])
    return {name: figure for name, figure in zip(BESIDE, found, strict=True) if figure is not None}


def _other(run: Run) -> dict[str, float | None]:
    """What no answers say: drift and cost."""
    base, end, lessons = run[0], run[-1], [line["lesson"] for line in run[1:]]
    seconds = math.fsum(lesson["seconds"] for lesson in lessons)
    tokens = sum(lesson.get("tokens", 0) for lesson in lessons)
    drift: Mapping[str, Any] = end.get("drift", {})
    return {
        "ceiling_left_out": base.get("ceiling_left_out", 0),
        "kl_to_base": drift.get("kl_to_base"),
        "top1_agreement": drift.get("top1_agreement"),
        "positions": drift.get("positions"),
        "perplexity_before": base.get("drift", {}).get("perplexity"),
        "perplexity_after": drift.get("perplexity"),
        "perplexity_positions": drift.get("perplexity_positions"),
        "log_likelihood": _mean([row["log_likelihood"] for row in end["asked"]]),
        "learn_seconds": seconds / max(1, len(lessons)),
        "answer_seconds": end["answer_seconds"],
        "tokens": tokens,
        "tokens_per_second": tokens / seconds if seconds else None,
        "bytes": math.fsum(lesson.get("bytes", 0) for lesson in lessons) / max(1, len(lessons)),
        "peak_mb": max((lesson["peak_mb"] for lesson in lessons), default=None),
        "trainable": max((lesson.get("trainable", 0) for lesson in lessons), default=None),
    }


OF_BASE = ("floor", "ceiling")  # figures that no method has a part in
BESIDE = ("ceiling", "sentinels")  # figures that can be drawn anew, and are not of the matrix
COUNTS = ("tokens", "trainable", "positions", "perplexity_positions", "ceiling_left_out")  # the mean over seeds, whole
FIGURES = (
    *metrics.FIGURES, *BESIDE, "kl_to_base", "top1_agreement", "perplexity_before", "perplexity_after",
    "log_likelihood", "learn_seconds", "answer_seconds", "tokens_per_second", "bytes", "peak_mb", "refused", *COUNTS,
)  # fmt: skip
# What `accrete compare --json` shows of a row.
KEYS = (
    "method", "score", "learned", "kept", "sentinels", "plasticity", "stability", "token_f1", "versioned", "op", "bwt", "fwt",
    "forgetting", "forgetting_ratio", "wrong_document", "wrong_document_of", "floor", "ceiling", "ceiling_left_out",
    "log_likelihood", "kl_to_base", "top1_agreement", "positions", "perplexity_before", "perplexity_after", "perplexity_of",
    "perplexity_positions", "kept_sets", "kept_questions", "by_kind", "learn_seconds", "answer_seconds", "tokens",
    "tokens_per_second", "bytes", "peak_mb", "trainable", "refused", "intervals", "config", "error",
)  # fmt: skip


def _rows(run: Run) -> list[dict[str, Any]]:
    """Every answer of the run with its step, and what its probe has to do with other documents and with time."""
    told = [task["probes"] for task in run[0]["stream"]["tasks"]]
    marks = [[{key: probe.get(key, False) for key in ("related", "superseded")} for probe in probes] for probes in told]
    return [
        {"step": line["step"], **marks[asked["task"]][asked["probe"]], **asked}
        for line in run
        for asked in line["asked"]
    ]


def _sets(run: Run) -> list[str]:
    return list(run[0].get("kept", {}))


def _sentinels(base: Line, line: Line) -> Figure | None:
    """The share of what the base knew that is still answered."""
    before, after = base.get("kept", {}).get("sentinels"), line.get("kept", {}).get("sentinels")
    if not before or not after or not sum(before):
        return None
    known = [(was, min(was, now)) for was, now in zip(before, after, strict=True) if was]
    return Figure(tuple(now for _, now in known), tuple(was for was, _ in known), len(known))


def _worst(run: Run, score: str) -> list[dict[str, Any]]:
    """What was not learned or not kept: question, truth, and the answers of the base, after the lesson and at the end."""
    tasks = run[0]["stream"]["tasks"]
    answers = {
        (line["step"], asked["task"], asked["probe"]): asked for line in (run[0], *run[1:]) for asked in line["asked"]
    }

    def examples() -> Iterator[dict[str, Any]]:
        for task, told in enumerate(tasks):
            for probe, asked in enumerate(told["probes"]):
                moments = (0, task + 1, len(run) - 1)
                before, after, end = (answers.get((step, task, probe)) for step in moments)
                if before and after and end and min(after[score], end[score]) < metrics.RIGHT:
                    yield {
                        "task": told["name"],
                        "question": asked["question"],
                        "truth": asked["answers"][0],
                        "before": before["answer"],
                        "after_lesson": after["answer"],
                        "at_end": end["answer"],
                        "score": end[score],
                        "lost": after[score] - end[score],
                    }

    # Wrong at the end first, of these what was right after its lesson; in turns from all tasks.
    worst = sorted(examples(), key=lambda example: (example["score"], -example["lost"]))
    turns: Counter[str] = Counter()
    for example in worst:
        example["turn"] = turns[example["task"]]
        turns[example["task"]] += 1
    return [{k: v for k, v in one.items() if k != "turn"} for one in sorted(worst, key=lambda one: one["turn"])[:WORST]]


def _mean(numbers: Sequence[float]) -> float | None:
    return math.fsum(numbers) / len(numbers) if numbers else None
