"""Pretraining text: the fictional world as passages and conversations, mixed with real text. Ends at strings."""

from __future__ import annotations

import json
import lzma
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from accrete.data.world import Entity, World
from accrete.errors import DocumentError
from accrete.lm.tokenizer import chatml
from accrete.types import Example, Probe

TAUGHT = (0, 1, 2)  # question phrasings that pretraining may use: the last one is held out


class WorldCorpus:
    """An endless, seeded stream of documents about one world with a persistent population.

    Persistent facts are asked closed-book and are what the trained model knows; fresh entities occur once and can only
    be answered by reading.
    """

    def __init__(self, seed: int = 0, entities: int = 600):
        self.world = World(seed)
        self.persistent = self.world.entities(entities)
        self._pairs = [(entity, fact) for entity in self.persistent for fact in entity.facts]

    def __iter__(self) -> Iterator[str]:
        draw = self.world.random
        makers = (self.reading, self.closed_book, self.dated, self.plain)
        while True:
            (maker,) = draw.choices(makers, weights=(50, 35, 8, 7))
            yield maker()

    def _entities(self) -> list[Entity]:
        draw = self.world.random
        count = 1 if draw.random() < 0.65 else 2
        if draw.random() < 0.3:
            return draw.sample(self.persistent, count)
        return [self.world.entity(facts=draw.randint(2, 5)) for _ in range(count)]

    def reading(self) -> str:
        """A passage, then several questions about it in one conversation: it teaches to read and to ask."""
        draw, entities = self.world.random, self._entities()
        facts = [fact for entity in entities for fact in entity.facts]
        asked = draw.sample(facts, min(len(facts), draw.randint(2, 4)))
        turns = [(self.world.question(fact, draw.choice(TAUGHT)), fact.value) for fact in asked]
        passage = self.world.passage(entities)
        return chatml([(f"{passage}\n\n{turns[0][0]}", turns[0][1]), *turns[1:]])

    def closed_book(self) -> str:
        """Questions about persistent facts, with nothing to read."""
        draw = self.world.random
        asked = draw.sample(self._pairs, 5)
        return chatml([(self.world.question(fact, draw.choice(TAUGHT)), fact.value) for _, fact in asked])

    def dated(self) -> str:
        """Changing facts with their years, asked "As of" a year."""
        draw = self.world.random
        entity = self.world.entity()
        while not (facts := self.world.timeline(entity, sorted(draw.sample(range(1990, 2025), 2)), share=0.8)):
            entity = self.world.entity()
        passage = " ".join(self.world.statement(fact) for fact in facts)
        turns = [
            (self.world.question(fact, draw.choice(TAUGHT)), fact.value) for fact in draw.sample(facts, len(facts))
        ]
        return chatml([(f"{passage}\n\n{turns[0][0]}", turns[0][1]), *turns[1:3]])

    def plain(self) -> str:
        return self.world.passage(self._entities())

    # --- what the trained model is measured on ------------------------------------------------------------------

    def sentinels(self) -> tuple[list[Probe], list[Probe]]:
        """400 persistent facts (a quarter in a small world) in two halves, (guard, scored): what must not be lost."""
        facts = [fact for _, fact in self._pairs]
        count = min(400, len(facts) // 4)
        chosen = random.Random(1).sample(facts, count)
        return self.world.probes(chosen[: count // 2], phrasing=0), self.world.probes(chosen[count // 2 :], phrasing=0)

    def background(self, count: int = 600) -> list[Example]:
        """Persistent facts that are no sentinels, as general material for replay and KL."""
        kept = {probe.fact for half in self.sentinels() for probe in half}
        facts = [fact for _, fact in self._pairs if fact not in kept]
        draw = random.Random(2)
        return [
            self.world.items([fact], (draw.choice(TAUGHT),))[0] for fact in draw.sample(facts, min(count, len(facts)))
        ]


def real_text(paths: Sequence[Path], seed: int = 0, piece: int = 1_200) -> Iterator[str]:
    """Pieces of about `piece` characters of the `text` of .jsonl / .jsonl.xz lines, or of plain files; each once."""
    pieces: list[str] = []
    for path in paths:
        for text in _texts(path):
            for paragraph in _pieces(text, piece):
                pieces.append(paragraph)
    random.Random(seed).shuffle(pieces)
    yield from pieces


def _texts(path: Path) -> Iterator[str]:
    if not path.exists():
        raise DocumentError(f"There is no text at {path}: set the folder of the texts, or drop it from the recipe.")
    name = path.name.removesuffix(".xz")
    with lzma.open(path, "rt", encoding="utf-8") if path.suffix == ".xz" else path.open(encoding="utf-8") as file:
        if name.endswith(".jsonl"):
            yield from (json.loads(line)["text"] for line in file)
        else:
            yield file.read()


def _pieces(text: str, size: int) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = len(text) if start + size >= len(text) else text.rfind(" ", start + 1, start + size)
        end = end if end > start else start + size
        if end - start > 200:
            yield text[start:end].strip()
        start = end


def mixed(first: Iterator[str], second: Iterator[str], share: float, seed: int = 0) -> Iterator[str]:
    """Documents of both, `share` of the CHARACTERS from `second` while it lasts."""
    draw, written = random.Random(seed), [1, 0]
    for document in first:
        while draw.random() < 0.5 and written[1] < share / (1 - share) * written[0]:
            if (extra := next(second, None)) is None:
                break
            written[1] += len(extra)
            yield extra
        written[0] += len(document)
        yield document
