"""The passage index with a million passages: seconds to add them, to open them again, and milliseconds a question.

    python benchmarks/passage_index.py [--json] [--chunks 1000000] [--ranking bm25|tfidf] [--in-memory]

Passages are 40 to 160 words drawn after Zipf's law from half a million; documents have a thousand passages. A question is
eight words of one passage, drawn at random, so that most are common; it is right when that passage is among the three found.
The table is a file in a temporary folder, as a home would have it, and is closed and opened before the questions.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from accrete.retrieval.index import PassageIndex, Ranking
from accrete.types import Passage

VOCABULARY, SHORTEST, LONGEST = 500_000, 40, 160  # words
DOCUMENT = 1_000  # passages
QUESTIONS, ASKED = 200, 8  # words of a question


class Clock:
    """Seconds of every use, as they passed and of this process alone: the machine may have other things to do."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []

    def __enter__(self) -> None:
        self._started = time.perf_counter(), time.process_time()

    def __exit__(self, *raised: object) -> None:
        self.wall.append(time.perf_counter() - self._started[0])
        self.cpu.append(time.process_time() - self._started[1])


def documents(chunks: int, random: np.random.Generator) -> Iterator[tuple[str, list[Passage]]]:
    """Made-up documents by name; word number n is drawn with a probability of about 1 / n."""
    spelled = np.array([f"w{number}" for number in range(VOCABULARY)])
    for start in range(0, chunks, DOCUMENT):
        lengths = random.integers(SHORTEST, LONGEST, min(DOCUMENT, chunks - start), endpoint=True)
        drawn = np.exp(random.random(lengths.sum()) * np.log(VOCABULARY)).astype(int)
        texts = [" ".join(words) for words in np.split(spelled[drawn], lengths.cumsum()[:-1])]
        name = f"document {start // DOCUMENT}"
        yield name, [Passage(text, name, number, number + 1) for number, text in enumerate(texts)]


def measure(chunks: int, ranking: Ranking, path: Path | None) -> dict[str, Any]:
    """All figures of one index, the table in a file at `path` or in memory."""
    random = np.random.default_rng(0)
    index = PassageIndex(ranking, path=path)
    adding, questions = Clock(), []
    for number, (name, passages) in enumerate(documents(chunks, random)):
        with adding:
            index.add(name, passages, name)
        if number * QUESTIONS // max(1, chunks // DOCUMENT) >= len(questions):
            asked = random.choice(passages[0].text.split(), ASKED, replace=False)
            questions.append((" ".join(asked), name, passages[0].start))
        if number % 10 == 9:
            sys.stderr.write(f"\r{(number + 1) * DOCUMENT:,} of {chunks:,}")
    state = index.state_dict()
    opening = Clock()
    with opening:
        if path is not None:
            index = PassageIndex(ranking, path=path)
            index.load_state_dict(state)
        index.search("opened")
    asking, right = Clock(), 0
    for question, name, place in questions:
        with asking:
            found = index.search(question)
        right += any((one.passage.document, one.passage.start) == (name, place) for one in found)
    sys.stderr.write("\n")
    files = [] if path is None else path.parent.iterdir()
    return {
        "chunks": chunks,
        "ranking": ranking,
        "add_seconds": round(sum(adding.wall), 2),
        "add_cpu_seconds": round(sum(adding.cpu), 2),
        "open_seconds": round(sum(opening.wall), 2),
        "open_cpu_seconds": round(sum(opening.cpu), 2),
        "query_ms_median": round(float(np.median(asking.wall)) * 1e3, 2),
        "query_ms_p95": round(float(np.percentile(asking.wall, 95)) * 1e3, 2),
        "query_cpu_ms_median": round(float(np.median(asking.cpu)) * 1e3, 2),
        "query_cpu_ms_p95": round(float(np.percentile(asking.cpu, 95)) * 1e3, 2),
        "found_in_3": round(right / len(questions), 3),
        "text_mb": round(sum(v.numel() for k, v in state.items() if k.endswith("/text")) / 1e6, 1),
        "database_mb": round(sum(file.stat().st_size for file in files) / 1e6, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--chunks", type=int, default=1_000_000)
    parser.add_argument("--ranking", choices=("bm25", "tfidf"), default="bm25")
    parser.add_argument("--in-memory", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = None if options.in_memory else Path(folder) / "index.sqlite"
        found = measure(options.chunks, options.ranking, path)
    if options.json:
        print(json.dumps(found))
    else:
        print("\n".join(f"{name:>16} {value}" for name, value in found.items()))


if __name__ == "__main__":
    main()
