"""A document against what is believed: its facts, what they contradict, and what asks for them. No torch.

    facts and spans (extract.py) -> several values? -> settled with the graph (contradiction.py) -> with questions

Study items belong to the fact that they ask for; one that asks for none is a fact of its own, the question its subject.
Ends at what a lesson states.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from accrete.facts.contradiction import Contradiction, OnConflict, settle, with_several_values
from accrete.facts.extract import Found
from accrete.facts.graph import FactGraph
from accrete.facts.questions import AS_ASKED, answered, plain_questions
from accrete.types import Example, Fact

Ask = Callable[[Contradiction], OnConflict]


@dataclass(frozen=True)
class Stated:
    """A fact as a document says it: in the characters [start, end), and the questions that it answers."""

    fact: Fact
    span: tuple[int, int] | None = None
    questions: tuple[Example, ...] = ()


@dataclass(frozen=True)
class Read:
    """What a lesson states, what of it contradicts what is believed, and which relations have several values."""

    stated: tuple[Stated, ...] = ()
    contradictions: tuple[Contradiction, ...] = ()
    several: tuple[str, ...] = ()


def settled(
    graph: FactGraph,
    found: Sequence[Found],
    items: Sequence[Example] = (),
    *,
    date: str | None = None,
    on_conflict: OnConflict = "supersede",
    ask: Ask = lambda found: "supersede",
) -> Read:
    """What a lesson states of these facts and items, after what it contradicts was settled; `date` is that of the document.

    The graph is not changed: what is to be added is returned.
    """
    facts = [one.fact for one in found]
    several = tuple(with_several_values(facts))
    kept, against, branched = settle(graph, facts, on_conflict, ask, several)
    found = [one for one in found if one.fact in kept]
    of_fact, rest = answered([one.fact for one in found], items)
    stated = [_stated(one, asked) for one, asked in zip(found, of_fact, strict=True)]
    stated += [_as_asked(item, date) for item in rest]
    return Read(tuple(stated), tuple(against), (*several, *branched))


def _stated(one: Found, items: Sequence[Example]) -> Stated:
    questions = {(item.question, item.answer): item for item in [*plain_questions(one.fact), *items]}
    return Stated(one.fact, (one.start, one.end), tuple(questions.values()))


def _as_asked(item: Example, date: str | None) -> Stated:
    return Stated(Fact(item.question, AS_ASKED, item.answer, date), None, (item,))
