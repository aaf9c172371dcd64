"""Looking up the memory graph as it grows to a million facts: `python benchmarks/fact_graph.py [--facts 1000000] [--json]`.

A graph in a file, 250,000 subjects of one relation in 40, each with four statements of four years, asked 200 times in the ways
that answers need. Every figure is the median in milliseconds at the full size (`_ms`) and how much slower that is than at a
hundredth of it (`_growth`). The limit is 5 ms.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from accrete.facts.graph import FactGraph
from accrete.types import Fact

YEARS, RELATIONS, ASKED = ("2018", "2020", "2022", "2024"), 40, 200


def filled(path: Path, facts: int) -> FactGraph:
    graph = FactGraph(path)
    with graph.transaction():
        for number in range(facts // len(YEARS)):
            for year in YEARS:
                value = f"value {number % 997} {year}"
                graph.add(
                    Fact(f"subject {number}", f"relation {number % RELATIONS}", value, year),
                    lesson=f"lesson {number // 50}",
                )
    return graph


def measured(graph: FactGraph, facts: int) -> dict[str, float]:
    """Milliseconds, medians."""
    draw = random.Random(0)
    ways: dict[str, Callable[[int], object]] = {
        "at": lambda n: graph.at("2021", f"subject {n}", f"relation {n % RELATIONS}"),
        "history": lambda n: graph.history(f"subject {n}", f"relation {n % RELATIONS}"),
        "subject": lambda n: graph.active(f"subject {n}"),
        "neighbours": lambda n: graph.neighbours(4 * n + 1, limit=20),
        "add": lambda n: graph.add(Fact(f"subject {n}", f"relation {n % RELATIONS}", "a new value", "2025")),
    }
    found = {}
    for name, way in ways.items():
        seconds = []
        for _ in range(ASKED):
            number = draw.randrange(facts // len(YEARS))
            start = time.perf_counter()
            way(number)
            seconds.append(time.perf_counter() - start)
        found[name] = 1_000 * statistics.median(seconds)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--facts", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    sizes = (options.facts // 100, options.facts)
    with tempfile.TemporaryDirectory() as folder:
        small, large = (measured(filled(Path(folder) / f"{size}.sqlite", size), size) for size in sizes)
    result: dict[str, float] = {"facts": options.facts}
    for name, value in large.items():
        result |= {f"{name}_ms": round(value, 3), f"{name}_growth": round(value / small[name], 2)}
    print(json.dumps(result) if options.json else "\n".join(f"{name:20} {value:,}" for name, value in result.items()))


if __name__ == "__main__":
    main()
