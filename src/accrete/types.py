"""The nouns of accrete: what is read, learned, asked and reported. Frozen, plain data; ends where torch begins."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Fact:
    """`value` is the `relation` of `subject` in the half-open interval [valid_from, valid_until) of ISO dates."""

    subject: str
    relation: str
    value: str
    valid_from: str | None = None
    valid_until: str | None = None


@dataclass(frozen=True)
class Example:
    """A study item: a question and the answer the model should give; `context` is text shown before the question."""

    question: str
    answer: str
    context: str = ""


@dataclass(frozen=True)
class Probe:
    """A question asked to measure, never to teach. Any of `answers` is right; `fact` says what it asks about.

    `kind` tells apart what is counted apart (changed, reverse, rephrased, ...), `as_of` is the ISO date that is asked about.
    """

    question: str
    answers: tuple[str, ...]
    context: str = ""
    fact: Fact | None = None
    kind: str = ""
    as_of: str | None = None


@dataclass(frozen=True)
class Document:
    """A text and/or given study items, as read from `source`, last written on an ISO date."""

    name: str
    text: str = ""
    items: tuple[Example, ...] = ()
    source: str = ""
    written: str | None = field(default=None, compare=False)

    @property
    def sha256(self) -> str:
        """Identity of the content: the name and the place of the file do not count."""
        hasher = hashlib.sha256(self.text.encode())
        for item in self.items:
            for part in (item.question, item.answer, item.context):
                encoded = part.encode()
                hasher.update(len(encoded).to_bytes(8, "little") + encoded)
        return hasher.hexdigest()


@dataclass(frozen=True)
class Passage:
    """A piece of a document: characters [start, end) of its text. Without text the document as a whole."""

    text: str
    document: str
    start: int
    end: int


@dataclass(frozen=True)
class Lesson:
    """What a method learns from. Built by the Learner; never contains probes.

    `items` are given or self-made; `restatements` are sentences of the document in other words.
    """

    document: Document
    chunks: tuple[Passage, ...] = ()
    items: tuple[Example, ...] = ()
    restatements: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()
    dates: tuple[str, ...] = ()
    domain: str = "default"
    importance: float = 1.0

    @property
    def stated_on(self) -> str | None:
        """Which of two statements without a date is the later: the date of the content, else of the file."""
        return self.dates[0] if self.dates else self.document.written


@dataclass(frozen=True)
class Query:
    """A question put to the model, with what may decide where the answer is read.

    `continues` says that it is no question but plain text, which the model is to go on with.
    """

    question: str
    context: str = ""
    as_of: str | None = None
    domain: str | None = None
    continues: bool = False


@dataclass(frozen=True)
class Answer:
    """What came back: the text, how many tokens, and where it was read when a source is known."""

    text: str
    tokens: int = 0
    sources: tuple[Passage, ...] = ()


@dataclass(frozen=True)
class Report:
    """What one call of `fit` or `Method.learn` did. Losses are nats per target token."""

    steps: int = 0
    tokens: int = 0
    loss_before: float | None = None
    loss_after: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
