"""Options of test-time training side by side, on lessons of the fictional world: the trials that LOG.md keeps.

    python scripts/ttt_trials.py [--lessons 4] [--facts 20] [--study off|gold|self] ["key=value key=value" ...]

A row for every set of options (one argument each; none: the defaults): what was learned after the first lesson and on
average, what is kept of all lessons at the end, and the scored sentinels after the first and the last. `--study off`: the
text alone is read.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace

from accrete.data.world import World, kinds
from accrete.learner import Learner
from accrete.settings import parse_value

HEAD = "| options | floor | ceiling | learned first | mean | kept | sentinels first | end | text loss | s a lesson |\n"


def row(given: str, lessons: int, facts: int, study: str) -> str:
    """One line of the table; a lesson that is refused ends it."""
    config = {key: parse_value(value, key) for key, _, value in (part.partition("=") for part in given.split())}
    world, asked, learned, seconds = World(31), [], [], 0.0
    with tempfile.TemporaryDirectory() as home:
        learner = Learner(
            "embedded", method="ttt", home=home, offline=True, max_forgetting=1.0, config=config, study=study
        )
        for lesson in range(lessons):
            entities = [world.entity(kinds()[(lesson * 4 + i) % len(kinds())]) for i in range(facts // 5)]
            passages = [world.passage([entity]) for entity in entities]
            probes = [
                p for e, text in zip(entities, passages, strict=True) for p in world.probes(e.facts, context=text)
            ]
            document = replace(world.document(f"lesson {lesson + 1}", entities), text="\n\n".join(passages))
            if study != "gold":
                document = replace(document, items=())
            asked += probes
            if lesson == 0:
                floor, ceiling = learner.grade(probes), learner.grade(probes, with_context=True)
            metrics = learner.learn(document, probes=probes).metrics
            seconds += metrics["learning_seconds"]
            learned.append(metrics["probes_after"])
            if lesson == 0:
                first, text_loss = learner.kept(split="scored"), metrics.get("text_loss")
        kept, last = learner.grade(asked), learner.kept(split="scored")
    shown = "-" if text_loss is None else f"{text_loss:.2f}"
    return (
        f"| {given or 'defaults'} | {floor:.2f} | {ceiling:.2f} | {learned[0]:.2f} | {sum(learned) / lessons:.2f} | {kept:.2f}"
        f" | {first:.3f} | {last:.3f} | {shown} | {seconds / lessons:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("options", nargs="*", default=[""])
    parser.add_argument("--lessons", type=int, default=4)
    parser.add_argument("--facts", type=int, default=20)
    parser.add_argument("--study", choices=["off", "gold", "self"], default="off")
    options = parser.parse_args()
    print(HEAD + "|" + "---|" * (HEAD.count("|") - 1), flush=True)
    for given in options.options:
        print(row(given, options.lessons, options.facts, options.study), flush=True)


if __name__ == "__main__":
    main()
