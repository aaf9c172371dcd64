"""Hundreds of lessons by a method that is taught directly: kept, sentinels, seconds. Ends at a table on standard output.

    python scripts/many_lessons.py [--method retrieve_logits] [--lessons 500] [--facts 20] [--questions 1000] [--json]

The lessons are those of `accrete compare --stream world --study gold`, which asks 200 guard questions after every one of
them: half an hour for five hundred. Here nothing is asked until all are learned, and then as many questions as named, drawn
evenly over the lessons; the ceiling is of the same questions. Strangers are entities that no lesson speaks of: how many
questions about them are answered otherwise than by the base model, and how many of these with what a lesson says of another.
"""

from __future__ import annotations

import argparse
import json
import random
import time

from accrete.data.world import World
from accrete.evaluate import streams
from accrete.lm.load import load
from accrete.methods import base
from accrete.reader import Reader
from accrete.scoring import normalise
from accrete.types import Lesson, Probe, Query

STRANGERS = 150  # questions about them


def strangers_questions() -> list[str]:
    """Questions in three wordings about entities of a world that nothing else draws from."""
    world = World(987_654)
    facts = [fact for entity in world.entities(STRANGERS // 4) for fact in entity.facts][:STRANGERS]
    return [world.question(fact, number % 3) for number, fact in enumerate(facts)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--method", default="retrieve_logits", choices=base.names())
    parser.add_argument("--lessons", type=int, default=500)
    parser.add_argument("--facts", type=int, default=20)
    parser.add_argument("--questions", type=int, default=1_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    lm = load("embedded", device="cpu", offline=True)
    stream = streams.make("world", streams.Options(lessons=options.lessons, facts=options.facts))
    kind = base.find(options.method)
    method = kind(lm, kind.Config())
    started = time.monotonic()
    for task in stream.tasks:
        method.learn(Lesson(task.document, items=task.document.items), lambda step, loss: None)
    learning = time.monotonic() - started
    every = [probe for task in stream.tasks for probe in task.probes]
    asked = random.Random(0).sample(every, min(options.questions, len(every)))
    backwards = [probe for probe in asked if probe.kind == "reverse"]
    scored = [Probe(question, answers) for question, answers, split in lm.sentinels if split == "scored"]
    bare, taught = Reader(lm, None), Reader(lm, method)
    known, ceiling = bare.grade(scored), bare.grade(asked, with_context=True)
    started = time.monotonic()
    kept = taught.grade(asked)
    answering = time.monotonic() - started
    asked_of_strangers = strangers_questions()
    before, after = (reader.answer([Query(q) for q in asked_of_strangers], 24) for reader in (bare, taught))
    moved = [new.text for old, new in zip(before, after, strict=True) if new.text != old.text]
    said = {normalise(item.answer) for task in stream.tasks for item in task.document.items}
    found = {
        "method": options.method,
        "lessons": options.lessons,
        "facts": options.lessons * options.facts,
        "questions": len(asked),
        "floor": bare.grade(asked),
        "kept": kept,
        "kept_backwards": taught.grade(backwards),
        "ceiling": ceiling,
        "of_the_ceiling": kept / ceiling if kept is not None and ceiling else None,
        "sentinels": (taught.grade(scored) or 0.0) / known if known else None,
        "strangers": len(asked_of_strangers),
        "strangers_moved": len(moved),
        "strangers_told_of_others": sum(normalise(text) in said for text in moved),
        "learn_seconds": learning / options.lessons,
        "answer_seconds": answering / len(asked),
    }
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:>16} {round(value, 3) if isinstance(value, float) else value}")


if __name__ == "__main__":
    main()
