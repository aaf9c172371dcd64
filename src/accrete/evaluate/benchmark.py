"""The short check of what lessons cost a general skill: SQuAD 1.1 questions with their passage, now and before any lesson.

The baseline is the base model's, so it belongs to the base and the questions, whatever the method. It is measured once and
kept as HOME/benchmarks/<digest of both>.json, the score of every question: what was lost is told question by question.
Ends at figures.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accrete.errors import DocumentError
from accrete.evaluate.ask import budget
from accrete.evaluate.figures import Figure
from accrete.evaluate.metrics import forgetting_ratio
from accrete.evaluate.streams import squad
from accrete.evaluate.streams._files import located, shown
from accrete.evaluate.streams._limits import drawn
from accrete.files import write_text
from accrete.learner import Learner
from accrete.reader import Reader
from accrete.scoring import exact_match, token_f1
from accrete.store.home import plain_errors
from accrete.types import Probe, Query

FILES = ("eval/squad_v1_dev_half.jsonl.xz", "dev-v1.1.json")
QUESTIONS = 50
SEED = "benchmark"  # the same questions on every machine that has the same file
SCORES = {"exact_match": exact_match, "f1": token_f1}
FEW = 10  # right answers; with fewer, one more or less is a tenth of them
Figures = Mapping[str, tuple[float, ...]]
"""For each of SCORES that of every question, from 0 to 1, in their order."""


def questions(data: Path | None, limit: int = QUESTIONS) -> list[Probe]:
    """`limit` answerable questions of a SQuAD file, which `data` or ACCRETE_DATA names. DocumentError without one."""
    path = located(data, *FILES)
    answerable = [p for article in squad.read(path) for p in article.probes if p.kind == "answerable"]
    if not answerable:
        raise DocumentError(f"{shown(path)} holds no question that its passage answers.")
    return drawn(answerable, limit, SEED)


def benchmark(learner: Learner, probes: Sequence[Probe]) -> dict[str, Any]:
    """What is answered now, what was before any lesson, and the share of it that was lost; JSON's terms.

    Without lessons the state is the base, and what is measured becomes the baseline. A forgetting ratio is None where the
    base answers nothing, and `few` where the base's scores add up to less than FEW: then it says next to nothing. `right`
    counts the questions answered exactly. Intervals are the middle 95 % for questions drawn anew, None where that has no
    meaning. Raises HomeError where the baseline cannot be kept.
    """
    asked = hashlib.sha256(repr(list(probes)).encode()).hexdigest()
    both = hashlib.sha256(f"{learner.base} {asked}".encode()).hexdigest()
    path = learner.home / "benchmarks" / f"{both[:32]}.json"
    lessons = sum(commit.undone is None for commit in learner.log())
    learner.progress("asking", 0, 0.0)
    now = scores(learner.reader, probes)
    before = stored = _stored(path, len(probes))
    if before is None:
        before = now
        if lessons:
            learner.progress("asking the base model", 0, 0.0)
            with learner.as_base() as reader:
                before = scores(reader, probes)
        _store(path, before, {"model": learner.lm.name, "base_digest": learner.base, "questions_digest": asked})
    return {
        "model": learner.lm.name,
        "base_digest": learner.base,
        "method": learner.method_name,
        "lessons": lessons,
        "questions": len(probes),
        "questions_digest": asked,
        "now": _means(now),
        "baseline": _means(before),
        "right": {"now": _right(now), "baseline": _right(before)},
        "baseline_was": "measured" if stored is None else "stored",
        "baseline_file": str(path),
        "forgetting_ratio": {name: forgetting_ratio(_mean(before[name]), _mean(now[name])) for name in SCORES},
        "few": {name: math.fsum(before[name]) < FEW for name in SCORES},
        "intervals": {
            "now": {name: _interval(now[name]) for name in SCORES},
            "baseline": {name: _interval(before[name]) for name in SCORES},
            "forgetting_ratio": {name: _lost(before[name], now[name]) for name in SCORES},
        },
    }


def scores(reader: Reader, probes: Sequence[Probe]) -> dict[str, tuple[float, ...]]:
    """Every score of every question, read with its passage and scored against the best of its answers."""
    queries = [Query(probe.question, probe.context) for probe in probes]
    answers = reader.answer(queries, max_new_tokens=budget(reader.lm, probes))
    pairs = list(zip(answers, probes, strict=True))
    return {
        name: tuple(float(max(score(a.text, truth) for truth in p.answers)) for a, p in pairs)
        for name, score in SCORES.items()
    }


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _means(figures: Figures) -> dict[str, float]:
    return {name: _mean(values) for name, values in figures.items()}


def _right(figures: Figures) -> int:
    return round(math.fsum(figures["exact_match"]))


def _interval(values: Sequence[float], of: Sequence[float] | None = None) -> list[float] | None:
    """Of sum(values) / sum(of), or of the mean; None where all questions are alike, so that drawing says nothing."""
    if len(set(zip(values, of or values, strict=True))) < 2:
        return None
    return list(Figure(tuple(values), tuple(of or [1.0] * len(values)), len(values)).interval())


def _lost(before: Sequence[float], now: Sequence[float]) -> list[float] | None:
    """The interval of the forgetting ratio; of few right answers a draw may hold none, and there is no ratio to nothing."""
    if math.fsum(before) < FEW:
        return None
    return _interval([was - is_now for was, is_now in zip(before, now, strict=True)], before)


def _stored(path: Path, count: int) -> dict[str, tuple[float, ...]] | None:
    """The baseline of an earlier time; None where there is none, it is of an earlier form or damaged: then it is measured
    again."""
    try:
        found = json.loads(path.read_text("utf-8"))["scores"]
        figures = {name: tuple(float(value) for value in found[name]) for name in SCORES}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    whole = all(len(values) == count and all(0 <= value <= 1 for value in values) for values in figures.values())
    return figures if whole else None


def _store(path: Path, figures: Figures, about: Mapping[str, Any]) -> None:
    text = json.dumps({"schema": 2, **about, "scores": dict(figures)}, ensure_ascii=False, indent=1) + "\n"
    with plain_errors(path.parent.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
