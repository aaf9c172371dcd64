"""What the memory graph gives back: statements, the questions that they answer, and what a text names. Plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from accrete.dates import begun, neighbouring, spoken
from accrete.facts.questions import AS_ASKED
from accrete.scoring import normalise
from accrete.types import Fact


@dataclass(frozen=True)
class Statement:
    """A row of the graph. `start` and `end` are the characters of `document` (its SHA-256) that say it.

    [valid_from, valid_until) is the term in which it holds beside what else is known (terms.py), the dates `stated_from` and
    `stated_until` are its own, and `begun_by` is the statement that says when it began where it does not.
    `parent` is the statement of the same history before it; `contradicts` is the same where the value is another one.
    """

    id: int
    subject: str
    relation: str
    value: str
    valid_from: str | None
    valid_until: str | None
    stated_from: str | None
    stated_until: str | None
    begun_by: int | None
    stated_on: str | None
    document: str
    start: int | None
    end: int | None
    lesson: str
    slot: int | None
    parent: int | None
    contradicts: int | None
    usage: int
    beside: int

    def holds(self, date: str) -> bool:
        """Whether it held at a date, as `FactGraph.at` has it."""
        over = self.valid_until is not None and self.valid_until[: len(date)] <= date
        return begun([self.valid_from or ""], date) and not over

    @property
    def since(self) -> str | None:
        """When it began, as far as anybody said so."""
        return self.valid_from if self.stated_from or self.begun_by else None

    @property
    def asked_at(self) -> str | None:
        """A date at which it held, if it has any: its beginning, or the last day, month or year before its end."""
        return self.since or (neighbouring(self.stated_until, -1) if self.stated_until else None)

    @property
    def sentence(self) -> str:
        """It as a sentence: "In 2018, the mayor of Tolvane is Ada." """
        if normalise(self.relation) == AS_ASKED:
            return f"{self.subject} {self.value}."
        said = f"the {self.relation} of {self.subject} is {self.value}."
        return f"In {spoken(self.since)}, {said}" if self.since else f"T{said[1:]}"

    @property
    def fact(self) -> Fact:
        return Fact(self.subject, self.relation, self.value, self.since, self.valid_until)

    @property
    def own(self) -> Fact:
        """What its document says, whatever is known beside it."""
        return Fact(self.subject, self.relation, self.value, self.stated_from, self.stated_until)


@dataclass(frozen=True)
class Asked:
    """A question that a statement answers: with its value, or asked backwards, with its subject."""

    fact: int
    question: str
    answer: str


class Named(NamedTuple):
    """A statement whose subject or value a text names; `nested` where a longer name that is known has it within."""

    statement: Statement
    nested: bool


def in_words(fact: Fact) -> str:
    """ "mayor of Tolvane: Ada Bree (from 2018 until 2020)"; of a given answer its question and that."""
    of = fact.subject if normalise(fact.relation) == AS_ASKED else f"{fact.relation} of {fact.subject}"
    dates = (("from", fact.valid_from), ("until", fact.valid_until))
    when = " ".join(f"{word} {spoken(date)}" for word, date in dates if date)
    return f"{of}: {fact.value}" + (f" ({when})" if when else "")
