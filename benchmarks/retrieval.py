"""The two methods that look things up, against a pass of the model, against a bare answer, and against the published package.

    python benchmarks/retrieval.py [--model embedded|DIRECTORY] [--tokens 4000] [--chunks 1000000] [--peer DIRECTORY] [--json]

One document of the fictional world with its study items is learned again and again by a fresh method. What is told:

    learn_ms_retrieve, learn_ms_logits      to learn it; nothing is measured before or after
    learn_vs_forward_logits                 against one pass of the model over the same text and items, in the same batches
    token_overhead_retrieve, _logits        what a generated token costs more than without the method, after the same prompt
    query_ms_million                        of the index with --chunks passages (passage_index.py has more); null with --quick
    right_floor, _retrieve, _logits, _ceiling   share of held-out questions; the bare model, and with the passage in front
    peer                                    the same of PyPI's continual-learning-slm 0.2.0, whose folder --peer names

    python -m pip install --target DIRECTORY --no-deps continual-learning-slm==0.2.0
    python -m pip install --target DIRECTORY scikit-learn

Times are medians of rounds that take turns. The first lesson of `retrieve_logits` also fits its space; that is told apart
(fit_ms_logits).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from passage_index import measure

from accrete.data.study import text_sequences
from accrete.data.world import HELD_OUT, World
from accrete.lm import batch, decode
from accrete.lm.load import load
from accrete.lm.model import LM
from accrete.lm.prompts import prompt_ids, study_sequence
from accrete.methods import base
from accrete.methods.base import Method
from accrete.scoring import grade
from accrete.types import Document, Lesson, Probe, Query

QUESTIONS, WRITTEN = 40, 24  # asked, and tokens of an answer where tokens are timed


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds and result."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = time.perf_counter()
    result = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - started) * 1e3, result


def medians(rounds: int, works: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Milliseconds of each, in turns, the first turn not counted."""
    spent: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            took, _ = timed(work)
            if number:
                spent[name].append(took)
    return {name: statistics.median(times) for name, times in spent.items()}


# --- what is learned and asked -----------------------------------------------------------------------------------------


def lesson_of(lm: LM, world: World, tokens: int) -> tuple[Lesson, list[Probe]]:
    """A document of about so many tokens, and held-out questions about it with its paragraphs as passages."""
    entities, texts = [], []
    while sum(map(lm.count_tokens, texts)) < tokens:
        entities += world.entities(1)
        texts.append(world.passage(entities[-1:]))
    facts = [fact for entity in entities for fact in entity.facts]
    items = tuple(world.items(facts))
    document = Document("measured", "\n\n".join(texts), items)
    probes = [
        Probe(world.question(fact, HELD_OUT), (fact.value,), text, fact)
        for entity, text in zip(entities, texts, strict=True)
        for fact in entity.facts
    ]
    return Lesson(document, items=items), probes[:: max(1, len(probes) // QUESTIONS)][:QUESTIONS]


def learned(name: str, lm: LM, *lessons: Lesson) -> Method:
    kind = base.find(name)
    method = kind(lm, kind.Config())
    for lesson in lessons:
        method.learn(lesson, lambda step, loss: None)
    return method


def forward(lm: LM, lesson: Lesson, window: int) -> None:
    """One pass over study items and text, batched as the datastore does it, and nothing kept of it."""
    sequences = [study_sequence(lm, item.question, item.answer, item.context) for item in lesson.items]
    sequences += text_sequences(lm, lesson.document, window)
    sequences.sort(key=lambda sequence: len(sequence.ids))
    body = lm.anatomy.body if lm.anatomy else lm.model
    with torch.no_grad():
        for start in range(0, len(sequences), 16):
            rows = batch.collate(sequences[start : start + 16], lm.device, lm.pad)
            mask = None if bool(rows.mask_BT.all()) else rows.mask_BT.long()
            body(input_ids=rows.ids_BT, attention_mask=mask, use_cache=False)


def right(lm: LM, probes: Sequence[Probe], method: Method | None, with_context: bool = False) -> float:
    """The mean grade of greedy answers."""
    queries = [Query(probe.question, probe.context if with_context else "") for probe in probes]
    beside = method.condition(queries) if method else [decode.NOTHING] * len(queries)  # type: ignore[attr-defined]
    answers = decode.answer(lm, queries, conditionings=beside)
    return sum(grade(a.text, probe.answers) for a, probe in zip(answers, probes, strict=True)) / len(probes)


def token_overhead(lm: LM, method: Method, probes: Sequence[Probe], rounds: int) -> float:
    """Seconds a token with the method over seconds without, less one; WRITTEN tokens each after the same prompts."""
    queries = [Query(probe.question) for probe in probes[:8]]
    beside = method.condition(queries)  # type: ignore[attr-defined]
    prompts = [
        prompt_ids(lm, query.question, decode.context_of(query, one))
        for query, one in zip(queries, beside, strict=True)
    ]

    def write(conditionings: Sequence[decode.Conditioning]) -> None:
        for prompt, one in zip(prompts, conditionings, strict=True):
            found = decode.generate(lm, [prompt], WRITTEN, conditionings=[one])
            assert len(found[0]) == WRITTEN

    ends, decode.stop_tokens = decode.stop_tokens, lambda lm: set()  # answers of one length
    try:
        spent = medians(
            rounds, {"with": lambda: write(beside), "without": lambda: write([decode.NOTHING] * len(beside))}
        )
    finally:
        decode.stop_tokens = ends
    return spent["with"] / spent["without"] - 1


# --- the published package ---------------------------------------------------------------------------------------------


def peer(directory: str, lm: LM, lesson: Lesson, probes: Sequence[Probe], rounds: int) -> dict[str, float]:
    """Its two engines on the same model, text and questions."""
    sys.path.append(directory)
    from continual_learning.jitrl.full.engine import JitRLFullEngine
    from continual_learning.jitrl.mvp.engine import JitRLMVPEngine

    engines = {"retrieve": JitRLMVPEngine, "logits": JitRLFullEngine}
    text, found = lesson.document.text, {}
    took = medians(
        rounds, {name: lambda kind=kind: kind(lm.model, lm.tokenizer).learn(text) for name, kind in engines.items()}
    )
    config = lm.model.generation_config
    for name, kind in engines.items():
        taught, bare = kind(lm.model, lm.tokenizer), kind(lm.model, lm.tokenizer)
        taught.learn(text)
        answers = [taught.generate(probe.question, 32) for probe in probes]
        scores = [grade(answer.strip().split("\n")[0], p.answers) for answer, p in zip(answers, probes, strict=True)]
        asked, ends, config.eos_token_id = [p.question for p in probes[:8]], config.eos_token_id, None
        try:
            spent = medians(rounds, {
                "with": lambda one=taught, asked=asked: [one.generate(q, WRITTEN) for q in asked],
                "without": lambda one=bare, asked=asked: [one.generate(q, WRITTEN) for q in asked],
            })  # fmt: skip
        finally:
            config.eos_token_id = ends
        found |= {
            f"learn_ms_{name}": round(took[name], 2),
            f"token_overhead_{name}": round(spent["with"] / spent["without"] - 1, 3),
            f"right_{name}": round(sum(scores) / len(scores), 3),
        }
    return found


# --- telling -----------------------------------------------------------------------------------------------------------


def figures(options: argparse.Namespace) -> dict[str, Any]:
    lm, world = load(options.model, device=options.device, offline=True), World(4000)
    earlier, _ = lesson_of(lm, world, 50)
    lesson, probes = lesson_of(lm, world, options.tokens)
    fit, datastore = timed(lambda: learned("retrieve_logits", lm, earlier))
    window = datastore.config.window

    def again() -> None:
        datastore.forget(lesson.document.sha256)
        datastore.learn(lesson, lambda step, loss: None)

    took = medians(options.rounds, {
        "retrieve": lambda: learned("retrieve", lm, lesson),
        "logits": again,
        "forward": lambda: forward(lm, lesson, window),
    })  # fmt: skip
    index = learned("retrieve", lm, lesson)
    found: dict[str, Any] = {
        "model": lm.name,
        "tokens": lm.count_tokens(lesson.document.text),
        "items": len(lesson.items),
        "learn_ms_retrieve": round(took["retrieve"], 2),
        "learn_ms_logits": round(took["logits"], 1),
        "forward_ms": round(took["forward"], 1),
        "learn_vs_forward_logits": round(took["logits"] / took["forward"], 3),
        "fit_ms_logits": round(fit, 1),
        "token_overhead_retrieve": round(token_overhead(lm, index, probes, options.rounds), 3),
        "token_overhead_logits": round(token_overhead(lm, datastore, probes, options.rounds), 3),
        "right_floor": round(right(lm, probes, None), 3),
        "right_retrieve": round(right(lm, probes, index), 3),
        "right_logits": round(right(lm, probes, datastore), 3),
        "right_ceiling": round(right(lm, probes, None, with_context=True), 3),
        "query_ms_million": None,
        "peer": peer(options.peer, lm, lesson, probes, options.rounds) if options.peer else None,
    }
    if options.chunks:
        with tempfile.TemporaryDirectory() as folder:
            found["query_ms_million"] = measure(options.chunks, "bm25", Path(folder) / "index.sqlite")[
                "query_ms_median"
            ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--tokens", type=int, default=4_000)
    parser.add_argument("--chunks", type=int, default=1_000_000, help="0: no index of many passages")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", metavar="DIRECTORY", help="where the published package is installed")
    parser.add_argument(
        "--quick", action="store_true", help="a short text, one round, no large index: does it run at all?"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.tokens, options.chunks, options.rounds = 200, 0, 1
    found = figures(options)
    if options.json:
        print(json.dumps(found))
        return
    theirs = found.pop("peer") or {}
    for name, value in found.items():
        beside = f"   (the published package {theirs[name]})" if name in theirs else ""
        print(f"{name:>24} {value}{beside}")


if __name__ == "__main__":
    main()
