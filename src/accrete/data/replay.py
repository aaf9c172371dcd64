"""What was studied before, kept to be studied again, a reservoir per domain. Ends at samples of it.

Kept: weighted reservoir sampling (Efraimidis and Spirakis 2006): each item draws the key u^(1/importance), the largest keys
stay, so that after any number of items each is there with a chance that grows with its importance.
Drawn: P_i ~ (importance_i * 0.5^(age_i / half_life) + eps)^0.6, age counted in lessons of the domain.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, replace
from typing import Any

import torch
from datasketch import MinHash, MinHashLSH
from torch import Tensor

from accrete.lm.batch import Sequence

EPSILON, EXPONENT = 0.01, 0.6
GRAM = 5  # tokens
LEAST_QUESTION = 8  # tokens before the first target that make a question of them
PERMUTATIONS, BANDS = 64, (4, 16)  # of MinHash: items meet when they share about 0.92 = (1/4)^(1/16) of their 5-grams


@dataclass(frozen=True)
class Item:
    """A sequence with what decides whether it stays and how often it comes up."""

    sequence: Sequence
    importance: float
    lesson: int
    key: float


class Replay:
    """A reservoir of at most `capacity` token sequences for every domain.

    An item that was there already, or nearly so, or answers the same question otherwise, takes the place of the earlier one
    (with a key of its own): what was said last stands. Draws on the generator it is given, so that one random state decides a
    whole lesson.
    """

    def __init__(self, capacity: int, generator: torch.Generator, half_life: float = float("inf")):
        self.capacity, self.generator, self.half_life = capacity, generator, half_life
        self.kept: dict[str, list[Item]] = {}
        self.lessons: dict[str, int] = {}
        self.version = 0  # another one whenever what is kept changes

    def __len__(self) -> int:
        return sum(len(items) for items in self.kept.values())

    def size(self, domain: str) -> int:
        return len(self.kept.get(domain, ()))

    def add(self, sequences: SequenceOf[Sequence], domain: str = "default", importance: float = 1.0) -> None:
        """Offer the sequences of one lesson."""
        self.version += 1
        lesson = self.lessons[domain] = self.lessons.get(domain, 0) + 1
        draws = torch.rand(len(sequences), generator=self.generator, dtype=torch.float64).tolist()
        offered = [Item(s, importance, lesson, u ** (1 / importance)) for s, u in zip(sequences, draws, strict=True)]
        items = _without_doubles(self.kept.get(domain, []) + offered)
        # Which of them stay is decided by their keys; in which order they stand, by when they came.
        threshold = sorted((item.key for item in items), reverse=True)[: self.capacity][-1:] or [2.0]
        self.kept[domain] = [item for item in items if item.key >= threshold[0]][: self.capacity]

    def supersede(self, sequences: SequenceOf[Sequence], domain: str) -> None:
        """Drop what these are about to say anew: an old answer must not be studied against the new one."""
        anew = {question_of(sequence) for sequence in sequences}
        if domain in self.kept:
            self.version += 1
            self.kept[domain] = [item for item in self.kept[domain] if question_of(item.sequence) not in anew]

    def sample(self, count: int, domain: str | None = None) -> list[Sequence]:
        """`count` different sequences of a domain, or of all; fewer when there are fewer."""
        items = [
            (item, self.lessons[name] - item.lesson)
            for name, items in self.kept.items()
            if domain in (None, name)
            for item in items
        ]
        count = min(count, len(items))
        if not count:
            return []
        weights = [item.importance * 0.5 ** (age / self.half_life) + EPSILON for item, age in items]
        priority = torch.tensor(weights, dtype=torch.float64)
        chosen = torch.multinomial(priority**EXPONENT, count, generator=self.generator)
        return [items[i][0].sequence for i in chosen.tolist()]

    def all(self, domain: str) -> list[Sequence]:
        """Everything that is kept of a domain."""
        return [item.sequence for item in self.kept.get(domain, ())]

    def of_lesson(self, domain: str, lesson: int) -> list[Sequence]:
        """What is kept of what the n-th lesson of a domain brought."""
        return [item.sequence for item in self.kept.get(domain, ()) if item.lesson == lesson]

    def drop_lesson(self, domain: str, lesson: int) -> None:
        """Let go of what the n-th lesson of a domain brought; later ones move up."""
        self.version += 1
        kept = [item for item in self.kept.get(domain, ()) if item.lesson != lesson]
        self.kept[domain] = [replace(i, lesson=i.lesson - 1) if i.lesson > lesson else i for i in kept]
        self.lessons[domain] = max(0, self.lessons.get(domain, 0) - 1)

    def forget(self, domain: str) -> None:
        """Let go of all of a domain."""
        self.version += 1
        self.kept.pop(domain, None)
        self.lessons.pop(domain, None)

    def diversity(self) -> float | None:
        """Distinct 5-grams over all 5-grams of what is kept (distinct-5): 1 means that nothing is said twice."""
        grams = [gram for items in self.kept.values() for item in items for gram in _grams(item.sequence.ids)]
        return len(set(grams)) / len(grams) if grams else None

    def state_dict(self) -> dict[str, Any]:
        """Per domain its tokens, end to end, and a row (length, target_from, lesson, importance, key) for each item."""
        state: dict[str, Any] = {}
        for domain, items in self.kept.items():
            rows = [(len(i.sequence.ids), i.sequence.target_from, i.lesson, i.importance, i.key) for i in items]
            state[f"{domain}/tokens"] = torch.tensor([t for i in items for t in i.sequence.ids], dtype=torch.int32)
            state[f"{domain}/rows"] = torch.tensor(rows, dtype=torch.float64).reshape(-1, 5)
            state[f"{domain}/lessons"] = self.lessons[domain]
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.version += 1
        self.lessons = {key.removesuffix("/lessons"): n for key, n in state.items() if key.endswith("/lessons")}
        self.kept = {d: _items(state[f"{d}/tokens"], state[f"{d}/rows"]) for d in self.lessons}


def _items(tokens: Tensor, rows: Tensor) -> list[Item]:
    ids, items, start = tokens.tolist(), [], 0
    for length, target_from, lesson, importance, key in rows.tolist():
        sequence = Sequence(tuple(ids[start : start + int(length)]), int(target_from))
        items.append(Item(sequence, importance, int(lesson), key))
        start += int(length)
    return items


def _grams(ids: SequenceOf[int]) -> list[tuple[int, ...]]:
    return [tuple(ids[i : i + GRAM]) for i in range(max(1, len(ids) - GRAM + 1))]


def question_of(sequence: Sequence) -> tuple[int, ...]:
    """What comes before the first target, or the whole of a sequence that asks nothing."""
    asked = sequence.target_from
    return sequence.ids[:asked] if asked >= LEAST_QUESTION else sequence.ids


@functools.lru_cache(maxsize=20_000)
def _signature(ids: tuple[int, ...]) -> MinHash:
    signature = MinHash(num_perm=PERMUTATIONS)
    signature.update_batch([repr(gram).encode() for gram in _grams(ids)])
    return signature


def _without_doubles(items: SequenceOf[Item]) -> list[Item]:
    """The items less those that a later one repeats, word for word or nearly, or whose question it answers anew."""
    index = MinHashLSH(params=BANDS, num_perm=PERMUTATIONS)
    standing: dict[int, Item] = {}
    exact: dict[tuple[int, ...], int] = {}
    for place, item in enumerate(items):
        ids = item.sequence.ids
        question = question_of(item.sequence)
        signature = _signature(ids)
        for earlier in {exact[question]} if question in exact else index.query(signature):
            standing.pop(earlier, None)
            if earlier in index:
                index.remove(earlier)
        standing[place], exact[question] = item, place
        index.insert(place, signature)
    return list(standing.values())
