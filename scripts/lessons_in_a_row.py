"""Lesson after lesson: what is learned, what is kept of all of them and of the base. A first look, until the harness stands.

    python scripts/lessons_in_a_row.py [--lessons 12] [--facts 20] [--method full_finetune]

Each lesson is new entities of the fictional world, studied in two phrasings and asked in a third.
"""

from __future__ import annotations

import argparse
import tempfile

from accrete.data.world import World, kinds
from accrete.learner import Learner


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lessons", type=int, default=12)
    parser.add_argument("--facts", type=int, default=20)
    parser.add_argument("--method", default="full_finetune")
    options = parser.parse_args()
    world = World(31)
    with tempfile.TemporaryDirectory() as home:
        learner = Learner("embedded", method=options.method, home=home, offline=True)
        asked, learned = [], []
        for lesson in range(options.lessons):
            entities = [world.entity(kinds()[(lesson * 4 + i) % len(kinds())]) for i in range(options.facts // 5)]
            probes = world.probes([fact for entity in entities for fact in entity.facts])
            m = learner.learn(world.document(f"lesson {lesson + 1}", entities), probes=probes).metrics
            asked += probes
            learned.append(m["probes_after"])
            print(
                f"lesson {lesson + 1:>3}: floor {m['probes_before']:.2f}  learned {m['probes_after']:.2f}"
                f"  all lessons {learner.grade(asked):.2f}  base kept {m['kept_after']:.2f}"
                f"  {m['steps']} steps  {m['learning_seconds']:.0f} s",
                flush=True,
            )
        print(f"mean learned {sum(learned) / len(learned):.3f}, kept at the end {learner.grade(asked):.3f}")


if __name__ == "__main__":
    main()
