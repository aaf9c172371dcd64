"""Lesson after lesson: what is learned, what is kept of all of them and of the base. A first look, until the harness stands.

    python scripts/lessons_in_a_row.py [METHOD ...] [--lessons 12] [--facts 20] [--write]

Each lesson is new entities of the fictional world, studied in two phrasings and asked in a third. `--write` puts the rows into
the table of README.md; those of other methods stay.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from accrete.data.world import World, kinds
from accrete.learner import Learner
from accrete.methods import base

README = Path(__file__).parents[1] / "README.md"
MARKED = re.compile(r"(<!-- twelve:begin.*?-->\n)(.*?)(<!-- twelve:end -->)", re.DOTALL)
HEAD = "| method | floor | learned | kept | ceiling | guard | scored | seconds a lesson |\n|---|---|---|---|---|---|---|---|\n"


def row(method: str, lessons: int = 12, facts: int = 20) -> str:
    """One line of the table, measured now; lesson by lesson on stderr."""
    world = World(31)
    with tempfile.TemporaryDirectory() as home:
        learner = Learner("embedded", method=method, home=home, offline=True, max_forgetting=1.0)
        scored = learner.kept(split="scored")
        asked, learned, floors, seconds = [], [], [], 0.0
        for lesson in range(lessons):
            entities = [world.entity(kinds()[(lesson * 4 + i) % len(kinds())]) for i in range(facts // 5)]
            probes = [p for e in entities for p in world.probes(e.facts, context=world.passage([e]))]
            started = time.monotonic()
            m = learner.learn(world.document(f"lesson {lesson + 1}", entities), probes=probes).metrics
            seconds += time.monotonic() - started
            asked += probes
            learned.append(m["probes_after"])
            floors.append(m["probes_before"])
            guard = learner.log()[0].metrics["kept_before"], m["kept_after"]
            print(
                f"lesson {lesson + 1:>3}: floor {m['probes_before']:.2f}  learned {m['probes_after']:.2f}"
                f"  all lessons {learner.grade(asked):.2f}  guard {m['kept_after']:.3f}"
                f"  {m['steps']} steps  {m['learning_seconds']:.0f} s",
                file=sys.stderr,
                flush=True,
            )
        kept, after = learner.grade(asked), learner.kept(split="scored")
        for _ in range(lessons):
            learner.undo()
        ceiling = learner.grade(asked, with_context=True)
    return (
        f"| {method} | {sum(floors) / lessons:.2f} | {sum(learned) / lessons:.2f} | {kept:.2f} | {ceiling:.2f}"
        f" | {guard[0]:.2f} to {guard[1]:.2f} | {scored:.2f} to {after:.2f} | {seconds / lessons:.0f} |\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("methods", nargs="*", help="all of them without this")
    parser.add_argument("--lessons", type=int, default=12)
    parser.add_argument("--facts", type=int, default=20)
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    options = parser.parse_args()
    rows = {m: row(m, options.lessons, options.facts) for m in options.methods or base.names()}
    print(HEAD + "".join(rows.values()), end="")
    if options.write:
        README.write_text(MARKED.sub(lambda found: found[1] + merged(found[2], rows) + found[3], README.read_text("utf-8")),
                          "utf-8")  # fmt: skip


def merged(table: str, rows: Mapping[str, str]) -> str:
    """The table with these rows, by method, in the place of those that it has of them; in the order of the names."""
    old = {line.split("|")[1].strip(): line for line in table.removeprefix(HEAD).splitlines(keepends=True)}
    return HEAD + "".join(line for _, line in sorted((old | dict(rows)).items()))


if __name__ == "__main__":
    main()
