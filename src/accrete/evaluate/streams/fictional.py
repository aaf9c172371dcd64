"""Invented encyclopaedia passages and gaps to fill: word for word, in other words, and by putting two sentences together.

A lesson is `facts` passages (1) of about 350 words; `lessons` of them (10). The probes are beginnings of sentences, and the
answer is how they end. Kind "memorised": a sentence of the passage itself; "generalised": the same in other words; "hard":
what follows from the passage. The set has no further wordings, so the documents have no given study items.
"""

from __future__ import annotations

from pathlib import Path

from accrete.errors import DocumentError
from accrete.evaluate.streams import Options, Stream, Task
from accrete.evaluate.streams import _files as files
from accrete.evaluate.streams._limits import counted, evenly, shuffled
from accrete.types import Document, Probe

FILES = ("eval/fictional_knowledge.jsonl.xz",)
LESSONS, PASSAGES = 10, 1
OPTIONS = {
    "lessons": "lessons [10]",
    "facts": "passages a lesson [1]",
    "limit": "questions in all",
    "data": "fictional_knowledge.jsonl(.xz): train_context, and mem, gen and hard_gen lists of _input and _target",
}
KINDS = {"memorised": "mem", "generalised": "gen", "hard": "hard_gen"}  # and what their fields begin with
_FIELDS = {"train_context": str} | {f"{field}_{part}": list for field in KINDS.values() for part in ("input", "target")}


def make(options: Options) -> Stream:
    """Passages in an order of the seed's. A limit leaves about as many probes of every kind."""
    path = files.located(options.data, *FILES)
    passages = [
        (text, probes[place % len(KINDS) :] + probes[: place % len(KINDS)])  # so that few probes are of every kind too
        for place, (text, probes) in enumerate(shuffled(read(path), f"{options.seed}"))
    ]
    lessons = counted(options.lessons, LESSONS, len(passages), f"passages in {path.name}")
    size = counted(options.facts, PASSAGES, len(passages) // lessons, f"passages a lesson in {path.name}")
    groups = [passages[start : start + size] for start in range(0, lessons * size, size)]
    asked = [_in_turn([probes for _, probes in group]) for group in groups]
    shares = evenly(options.limit, [len(probes) for probes in asked])
    tasks = []
    for number, (group, probes, share) in enumerate(zip(groups, asked, shares, strict=True), 1):
        name = f"passage {number}" if size == 1 else f"passages {(number - 1) * size + 1} to {number * size}"
        document = Document(name, "\n\n".join(text for text, _ in group), source=str(path))
        if share:
            tasks.append(Task(name, document, tuple(probes[:share])))
    about = {
        "file": path.name,
        "passages": len(passages),
        "probes": "beginnings of sentences, to be ended",
        "items": "none: the set has no further wordings",
    }
    return Stream("fictional", tuple(tasks), score="contains", about=about)


def read(path: Path) -> list[tuple[str, list[Probe]]]:
    """Every passage with its probes, the kinds in turn."""
    found = []
    for where, row in files.placed_rows(path, _FIELDS):
        kinds = []
        for kind, name in KINDS.items():
            begun, ended = row[f"{name}_input"], row[f"{name}_target"]
            if len(begun) != len(ended) or not all(isinstance(text, str) and text.strip() for text in begun + ended):
                raise DocumentError(f'{where}: "{name}_input" and "{name}_target" are no lists of as many texts.')
            probes = zip(begun, ended, strict=True)
            kinds.append([Probe(text, (end,), row["train_context"], kind=kind) for text, end in probes])
        found.append((row["train_context"], _in_turn(kinds)))
    return found


def _in_turn(piles: list[list[Probe]]) -> list[Probe]:
    """The first of every pile, then the second of every pile, and so on."""
    longest = max(map(len, piles), default=0)
    return [pile[place] for place in range(longest) for pile in piles if place < len(pile)]
