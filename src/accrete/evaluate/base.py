"""What a base model can do: every measure of `accrete evaluate-base`, in the order of its table. Ends at figures.

A measure puts prompts to the model, all greedy, and gives back figures (`figures.py`). Held-out worlds are `worlds.py`, real
sets `real.py`, and what is right says `judge.py`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accrete.errors import UsageError, did_you_mean
from accrete.evaluate import judge, real, worlds
from accrete.evaluate.figures import Figure, Figures, agreement, share, summed
from accrete.lm import decode
from accrete.lm.batch import Sequence as Tokens
from accrete.lm.model import LM
from accrete.lm.tasks import (
    ANSWER,
    LIST_FACTS,
    NOT_STATED,
    RESTATE,
    REVERSE,
    WRITE_QUESTIONS,
    prompt,
    read_facts,
    read_pairs,
)
from accrete.scoring import exact_match, token_f1
from accrete.types import Fact, Probe, Query

SHORT, LONG = 32, 400  # tokens of an answer, and of a list of questions or facts
# What is to be reached: by a model trained on CPUs alone, and by one trained in full.
BARS = {
    "in_context": (0.88, 0.95),
    "not_stated_f1": (0.85, 0.90),
    "questions_right": (0.88, 0.95),
    "questions_covered": (0.72, 0.85),
    "restating": (0.80, 0.90),
    "extraction_f1": (0.78, 0.90),
    "closed_book": (0.90, 0.90),
    "time_scoped": (0.82, 0.90),
}


@dataclass(frozen=True)
class Measure:
    """`run(lm, size, data)` yields the figures `keys`; `size` questions, passages or pieces unless a limit is lower."""

    keys: tuple[str, ...]
    size: int
    run: Callable[[LM, int, Path], Figures]
    real: bool = False


def evaluate(
    lm: LM,
    data: Path | None = None,
    limit: int | None = None,
    only: Sequence[str] = (),
    announce: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """{key: share from 0 to 1 (bits per byte: bits), "n": {key: how many}, "interval": {key: [low, high]}, "seconds": ...}.

    `only` names figures: the measures they belong to are taken. Without `data` those on real sets are left out. Raises
    UsageError for an unknown figure and DocumentError for a data folder that lacks a set.
    """
    chosen = measures(only)
    if data is not None and any(measure.real for measure in chosen):
        real.check_folder(data)
    elif any(measure.real for measure in chosen):
        announce("the real sets are left out: name their folder with --data or ACCRETE_DATA")
        chosen = [measure for measure in chosen if not measure.real]
    found: Figures = {}
    started = time.monotonic()
    for measure in chosen:
        begun = time.monotonic()
        figures = measure.run(lm, min(measure.size, limit or measure.size), data or Path())
        found |= figures
        said = ", ".join(f"{key} {figure.value:.3f}" for key, figure in figures.items())
        announce(f"{said}  ({time.monotonic() - begun:.0f} s)")
    result: dict[str, Any] = {key: round(figure.value, 3) for key, figure in found.items()}
    intervals = {key: [round(end, 3) for end in found[key].interval()] for key in found if key in MAIN}
    return result | {
        "n": {key: figure.n for key, figure in found.items()},
        "interval": intervals,
        "seconds": round(time.monotonic() - started, 1),
    }


def measures(only: Sequence[str] = ()) -> list[Measure]:
    """The measures that give the figures named, or all; UsageError for a name that there is not."""
    known = [key for measure in MEASURES for key in measure.keys]
    for key in only:
        if key not in known:
            raise UsageError(f'There is no figure "{key}".{did_you_mean(key, known)}')
    return [measure for measure in MEASURES if not only or set(only) & set(measure.keys)]


# --- asking ---------------------------------------------------------------------------------------------------------


def _answers(lm: LM, probes: Iterable[Probe], before: str = "") -> list[str]:
    """Answers to questions after their passages, with `before` said first."""
    queries = [Query(probe.question, f"{before}{probe.context}") for probe in probes]
    return [answer.text for answer in decode.answer(lm, queries, max_new_tokens=SHORT)]


def _written(lm: LM, task: str, texts: Sequence[str]) -> list[str]:
    """What the model writes when it is given a task on each of the texts."""
    prompts = [prompt(task, text) for text in texts]
    room = lm.context_length - max(map(lm.count_tokens, prompts)) - 32  # 32: the marks of the turns
    answers = decode.answer(lm, [Query(text) for text in prompts], max_new_tokens=max(1, min(LONG, room)))
    return [answer.text for answer in answers]


# --- held-out worlds ------------------------------------------------------------------------------------------------


def _asked(
    key: str, probes_of: Callable[[int, bool], list[Probe]], held_out: bool
) -> Callable[[LM, int, Path], Figures]:
    """Exact match of the answers to questions about a passage, or about the persistent world."""

    def run(lm: LM, size: int, _: Path) -> Figures:
        probes = probes_of(size, held_out)
        right = [exact_match(a, probe.answers[0]) for a, probe in zip(_answers(lm, probes), probes, strict=True)]
        groups = [probe.context or (probe.fact.subject if probe.fact else "") for probe in probes]
        return {key: share(groups, right)}

    return run


def _without_passage(size: int, held_out: bool) -> list[Probe]:
    """What guessing scores: the same questions with nothing to read."""
    return [Probe(probe.question, probe.answers, "", probe.fact) for probe in worlds.questions(size, held_out)]


def _not_stated(lm: LM, size: int, _: Path) -> Figures:
    probes = worlds.half_unanswerable(size)
    said = [decode.abstains(a) for a in _answers(lm, probes, f"{ANSWER}\n\n")]
    true = [probe.answers[0] == NOT_STATED for probe in probes]
    both = [float(a and b) for a, b in zip(said, true, strict=True)]
    return agreement(
        "not_stated", [p.context for p in probes], both, list(map(float, said)), list(map(float, true)), len(probes)
    )


def _pairs(task: str, name: str, reverse: bool) -> Callable[[LM, int, Path], Figures]:
    """The share of different pairs that are right by the passage, and of its facts that a right one asks."""

    def run(lm: LM, size: int, _: Path) -> Figures:
        readings = worlds.passages(size)
        right, written, covered = [], [], []
        for reading, text in zip(readings, _written(lm, task, [reading.text for reading in readings]), strict=True):
            pairs = set(read_pairs(text))
            found = [judge.fact_asked(pair, reading.facts, reverse_only=reverse) for pair in pairs]
            right.append(float(sum(fact is not None for fact in found)))
            written.append(float(len(pairs)))
            covered.append(float(len({fact for fact in found if fact})))
        facts = [float(len(reading.facts)) for reading in readings]
        groups = range(len(readings))
        return {
            f"{name}_right": summed(groups, right, written, int(sum(written))),
            f"{name}_covered": summed(groups, covered, facts, int(sum(facts))),
        }

    return run


def _restating(lm: LM, size: int, _: Path) -> Figures:
    readings = worlds.sentences(size)
    written = _written(lm, RESTATE, [reading.text for reading in readings])
    right = [float(judge.restates(w, r.text, r.facts)) for w, r in zip(written, readings, strict=True)]
    return {"restating": share(range(len(right)), right)}


def _extraction(lm: LM, size: int, _: Path) -> Figures:
    """Half of the passages undated, half dated."""
    undated, dated = worlds.listings(math.ceil(size / 2)), worlds.dated_listings(max(1, size // 2))
    readings = [*undated, *dated]
    written = [read_facts(text) for text in _written(lm, LIST_FACTS, [reading.text for reading in readings])]
    cut = len(undated)
    figures = _lines("extraction", written, [reading.facts for reading in readings])
    parts = {
        "extraction_undated_f1": (written[:cut], undated),
        "extraction_dated_f1": (written[cut:], dated),
    }
    for key, (lines, of) in parts.items():
        figures[key] = _lines("extraction", lines, [reading.facts for reading in of])["extraction_f1"]
    return figures


def _lines(name: str, written: Sequence[Sequence[Fact]], true: Sequence[Sequence[Fact]]) -> Figures:
    both = [float(judge.lines_in_common(w, t)) for w, t in zip(written, true, strict=True)]
    given, wanted = ([float(len(lines)) for lines in side] for side in (written, true))
    return agreement(name, range(len(both)), both, given, wanted, int(sum(wanted)))


# --- real sets ------------------------------------------------------------------------------------------------------


def _bits_per_byte(lm: LM, size: int, data: Path) -> Figures:
    """Pieces of held-out text, each scored alone from its first byte."""
    figures = {f"bits_per_byte_{name}": _bits(lm, real.pieces(data, name, size)) for name in real.TEXTS}
    values = [figure.value for figure in figures.values()]
    mean = Figure((sum(values),), (float(len(values)),), sum(figure.n for figure in figures.values()))
    return {"bits_per_byte": mean} | figures


def _bits(lm: LM, pieces: Sequence[str]) -> Figure:
    start = lm.tokenizer.bos_token_id  # what stands before a text: nothing of it is given away
    start = lm.pad if start is None else start
    encoded = [list(lm.tokenizer(piece, add_special_tokens=False)["input_ids"]) for piece in pieces]
    kept = [ids[: lm.context_length - 1] for ids in encoded]
    scored = lm.score([Tokens((start, *ids), target_from=1) for ids in kept])
    sizes = [
        float(len((piece if len(ids) == len(whole) else lm.tokenizer.decode(ids)).encode()))
        for piece, ids, whole in zip(pieces, kept, encoded, strict=True)
    ]
    return Figure(tuple(nats / math.log(2) for nats, _ in scored), tuple(sizes), len(pieces))


def _reading(name: str) -> Callable[[LM, int, Path], Figures]:
    """Exact match and token F1, the best over the accepted answers, beside those of two readers that do not understand."""

    def run(lm: LM, size: int, data: Path) -> Figures:
        probes = real.questions(data, name, size)
        readers = {
            name: _answers(lm, probes),
            f"{name}_first_sentence": real.first_sentences(probes),
            f"{name}_random_span": real.random_spans(probes),
        }
        groups, figures = [probe.context for probe in probes], {}
        for reader, answers in readers.items():
            for mark, score in (("em", exact_match), ("f1", token_f1)):
                scores = [max(score(a, t) for t in p.answers) for a, p in zip(answers, probes, strict=True)]
                figures[f"{reader}_{mark}"] = share(groups, scores)
        return figures

    return run


def _reading_keys(name: str) -> tuple[str, ...]:
    return tuple(
        f"{name}{reader}_{mark}" for reader in ("", "_first_sentence", "_random_span") for mark in ("em", "f1")
    )


MEASURES = (
    Measure(("in_context",), 400, _asked("in_context", worlds.questions, True)),
    Measure(("in_context_taught",), 400, _asked("in_context_taught", worlds.questions, False)),
    Measure(("in_context_without_passage",), 400, _asked("in_context_without_passage", _without_passage, True)),
    Measure(("not_stated_f1", "not_stated_precision", "not_stated_recall"), 400, _not_stated),
    Measure(("questions_right", "questions_covered"), 150, _pairs(WRITE_QUESTIONS, "questions", False)),
    Measure(("reverse_right", "reverse_covered"), 100, _pairs(REVERSE, "reverse", True)),
    Measure(("restating",), 200, _restating),
    Measure(
        ("extraction_f1", "extraction_precision", "extraction_recall", "extraction_undated_f1", "extraction_dated_f1"),
        200,
        _extraction,
    ),
    Measure(("closed_book",), 300, _asked("closed_book", worlds.by_heart, True)),
    Measure(("closed_book_taught",), 300, _asked("closed_book_taught", worlds.by_heart, False)),
    Measure(("time_scoped",), 400, _asked("time_scoped", worlds.histories, True)),
    Measure(("time_scoped_taught",), 400, _asked("time_scoped_taught", worlds.histories, False)),
    Measure(("bits_per_byte", "bits_per_byte_openstax", "bits_per_byte_wikipedia"), 150, _bits_per_byte, real=True),
    Measure(_reading_keys("fairytale"), 400, _reading("fairytale"), real=True),
    Measure(_reading_keys("squad"), 400, _reading("squad"), real=True),
)
MAIN = (*BARS, "bits_per_byte_openstax", "bits_per_byte_wikipedia", "fairytale_f1", "squad_em", "squad_f1")
