"""Which statements a question is about, and as of when: by names and words, and by how alike questions are. No torch.

    date        said beside the question (`as_of`), or in it (dates.py: "As of 2018", "[2018]", "last year"); else now
    candidates  questions that statements answer: about what the question names, backwards ones of a value that it names, and
                where it names nothing that is known, those that share its words
    choice      the candidate that is asked most alike, or in the words of its relation, if it is alike enough; of its history
            what held at the date

What a statement says its value is plays no part in choosing it, but for being named in a question asked backwards. A question
that is like no other is routed nowhere: the base model answers. Ends at statements.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from accrete.dates import put_at, undated
from accrete.facts.graph import Asked, FactGraph, Statement
from accrete.retrieval.words import telling, words
from accrete.scoring import normalise

WORDS = 0.5  # what it counts beside likeness that a question has the words of a relation
NAMED, SHARED = (
    3,
    0.75,
)  # what the word of a name counts, and the share of the words that two such questions have in common
Alike = Callable[[Sequence[tuple[str, str]]], Sequence[float]]
"""How alike two questions are asked, from -1 to 1, of many pairs: what they ask, not of whom."""


@dataclass(frozen=True)
class Route:
    """The statements that answer a question, the known question that it is like, how much, and the date (None: now)."""

    statements: tuple[Statement, ...]
    question: str
    alike: float
    date: str | None
    backwards: bool  # it asks for the subject, and names the value


class Router:
    """`certain` is how alike a question must be to one about the same name, `very` to one that shares words alone."""

    def __init__(self, graph: FactGraph, alike: Alike, certain: float = 0.3, very: float = 0.9):
        self.graph, self.alike, self.certain, self.very = graph, alike, certain, very

    def routes(
        self, questions: Sequence[tuple[str, str | None]], today: datetime.date | None = None
    ) -> list[Route | None]:
        """Of each (question, as_of) the route; None where nothing is known about it."""
        dates = [as_of or put_at(question, today) for question, as_of in questions]
        plain = [undated(question, date) for (question, _), date in zip(questions, dates, strict=True)]
        candidates = [self._candidates(question) for question in plain]
        pairs = [(q, asked.question) for q, (found, _) in zip(plain, candidates, strict=True) for _, asked in found]
        alike = iter(self.alike(pairs))
        routes: list[Route | None] = []
        for question, (found, least), date in zip(plain, candidates, dates, strict=True):
            said = set(words(question))
            scored = [(next(alike) + WORDS * _named(one, said), one, asked) for one, asked in found]
            best = max(scored, default=None, key=lambda row: row[0])
            routes.append(self._route(*best, date) if best and best[0] >= least else None)
        return routes

    def _candidates(self, question: str) -> tuple[list[tuple[Statement, Asked]], float]:
        """Known questions that it may be, with what answers them, and how alike it must be to one."""
        about, valued = self.graph.named_in(question)
        forwards = [pair for pair in self._asked(about) if not is_backwards(*pair)]
        backwards = [pair for pair in self._asked(valued) if is_backwards(*pair)]
        if forwards or backwards:
            return forwards + backwards, self.certain
        asked = telling(question)
        like = [one for one in self.graph.asked_like(list(asked)) if _shared(telling(one.question), asked)]
        return [(self.graph[one.fact], one) for one in like], self.very

    def _asked(self, statements: Iterable[Statement]) -> list[tuple[Statement, Asked]]:
        known = {one.id: one for one in statements}
        return [(known[asked.fact], asked) for asked in self.graph.questions_of(known)]

    def _route(self, alike: float, one: Statement, asked: Asked, date: str | None) -> Route | None:
        backwards = is_backwards(one, asked)
        if backwards:
            held = [one]
        elif date:
            held = self.graph.at(date, one.subject, one.relation)
        else:
            held = self.graph.active(one.subject, one.relation)
        return Route(tuple(held), asked.question, alike, date, backwards) if held else None


def _named(statement: Statement, said: set[str]) -> float:
    """The share of the words of its relation that a question has: "captain" of "who captains it"."""
    relation = words(statement.relation)
    return sum(word in said for word in relation) / max(1, len(relation))


def is_backwards(statement: Statement, asked: Asked) -> bool:
    """Whether a question asks for the subject of a statement."""
    return normalise(asked.answer) == normalise(statement.subject)


def _shared(known: Mapping[str, int], asked: Mapping[str, int]) -> bool:
    """Whether a question has most of the words of a known one, of which names count most: else it asks of another."""
    weights = {word: NAMED if name else 1 for word, name in known.items()}
    return sum(weight for word, weight in weights.items() if word in asked) >= SHARED * sum(weights.values())
