"""Fictitious authors, and what must not be lost while they are learned: TOFU.

A lesson is one author: the answers as a text, a paragraph each, and the twenty question/answer pairs as study items. TOFU
asks what was studied, so the probes ARE the study questions: this stream measures memorising, `world` measures other
wordings. A probe's passage is its answer among the two before it and the two after it. Kept: real authors and facts of the
world, which TOFU puts as multiple choice, asked as plain questions here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accrete.evaluate.streams import Options, Stream, Task
from accrete.evaluate.streams import _files as files
from accrete.evaluate.streams._limits import counted, drawn, evenly
from accrete.types import Document, Example, Probe

FILES = ("eval/tofu_full.jsonl.xz", "full.json")
KEEP = {
    "real_authors": ("tofu_real_authors.jsonl.xz", "real_authors.json"),
    "world_facts": ("tofu_world_facts.jsonl.xz", "world_facts.json"),
}
LESSONS, PAIRS, AROUND = 10, 20, 2
OPTIONS = {
    "lessons": "authors [10]",
    "limit": "questions in all, and as many of each set that is kept [20 an author]",
    "data": "TOFU's full.json with real_authors.json and world_facts.json beside it, or tofu_full.jsonl(.xz) and so on",
}
_FIELDS = {"question": str, "answer": str}


def make(options: Options) -> Stream:
    """`lessons` authors (10), drawn by the seed. The files of what is kept lie beside that of the authors."""
    path = files.located(options.data, *FILES)
    authors = read(path)
    count = counted(options.lessons, LESSONS, len(authors), f"authors in {path.name}")
    chosen = drawn(sorted(authors), count, f"{options.seed}")
    shares = evenly(options.limit, [len(authors[author]) for author in chosen])
    tasks = []
    for author, share in zip(chosen, shares, strict=True):
        pairs = authors[author]
        text = "\n\n".join(pair.answer for pair in pairs)  # each says by itself what it says
        document = Document(f"author {author}", text, tuple(pairs), source=str(path))
        asked = drawn(range(len(pairs)), share, f"{options.seed}:{author}")
        if asked:
            tasks.append(Task(document.name, document, tuple(_probe(pairs, place) for place in asked)))
    keep = {name: _kept(path, options, name, names) for name, names in KEEP.items()}
    about = {
        "file": path.name,
        "authors": len(authors),
        "probes": "the study questions themselves: TOFU asks what was studied",
        "kept": "multiple choice in TOFU, asked as plain questions here",
    }
    return Stream("tofu", tuple(tasks), keep, "grade", about)


def read(path: Path) -> dict[int, list[Example]]:
    """The pairs of every author; where the rows do not say whose they are, every twenty are one author's."""
    authors: dict[int, list[Example]] = {}
    for number, (where, row) in enumerate(files.placed_rows(path, _FIELDS)):
        author = files.field(row, "author_id", int, where) if "author_id" in row else number // PAIRS
        authors.setdefault(author, []).append(Example(row["question"], row["answer"]))
    return authors


def _probe(pairs: list[Example], place: int) -> Probe:
    passage = "\n\n".join(pair.answer for pair in pairs[max(0, place - AROUND) : place + AROUND + 1])
    return Probe(pairs[place].question, (pairs[place].answer,), passage, kind="studied")


def _kept(path: Path, options: Options, name: str, names: tuple[str, ...]) -> tuple[Probe, ...]:
    found: list[dict[str, Any]] = files.rows(files.located(path.parent, *names), _FIELDS)
    rows = drawn(found, min(options.limit or len(found), len(found)), f"{options.seed}:{name}")
    return tuple(Probe(row["question"], (row["answer"],)) for row in rows)
