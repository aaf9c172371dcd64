"""A document against what is believed: its facts, what they contradict, and what asks for them. No torch.

    facts and spans (extract.py) -> several values? -> settled with the graph (contradiction.py) -> with questions

Study items belong to the fact that they ask for. One that asks for none of these is a fact of its own: of what it plainly
asks ("What is Tolvane's river?" for its river), else the question is its subject.
Ends at what a lesson states.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from accrete.dates import asked_at
from accrete.facts.contradiction import Contradiction, OnConflict, Several, settle, with_several_values
from accrete.facts.entailment import Remark
from accrete.facts.graph import FactGraph
from accrete.facts.questions import AS_ASKED, answered, plain_questions
from accrete.facts.router import Alike
from accrete.facts.simple_sentences import Found, of_sentence
from accrete.facts.statements import Statement
from accrete.facts.values import is_of_kind, value_key
from accrete.scoring import normalise
from accrete.types import Example, Fact, Passage

SAME = 0.4  # how alike two relations of a subject are asked that are one, having the same value (LOG.md, 2026-11-29)
_PLAIN = re.compile(r"(?:Who|What) (?P<verb>is|was|are|were) (?P<what>[^?]+)\?$")
_SENTENCE = re.compile(r"\b(?:is|was|are|were|has|have|had|be|been)\b")
Ask = Callable[[Contradiction], OnConflict]


@dataclass(frozen=True)
class Stated:
    """A fact as a document says it: in the characters [start, end), and the questions that it answers.

    It is asked for as of `asked_at`, a date at which it holds. One that stands `beside` what held at its date does not end it.
    """

    fact: Fact
    span: tuple[int, int] | None = None
    questions: tuple[Example, ...] = ()
    asked_at: str | None = None
    beside: bool = False


@dataclass(frozen=True)
class Read:
    """What a lesson states, what of it contradicts what is believed, and which relations have several values."""

    stated: tuple[Stated, ...] = ()
    contradictions: tuple[Contradiction | Remark, ...] = ()
    several: tuple[Several, ...] = ()
    since_file: str | None = None  # from when on its facts hold, where the text has no date and nobody gave one
    unread: tuple[str, ...] = ()  # sentences of which nothing was found


def settled(
    graph: FactGraph,
    found: Sequence[Found],
    items: Sequence[Example] = (),
    *,
    date: str | None = None,
    stated_on: str | None = None,
    on_conflict: OnConflict = "supersede",
    ask: Ask = lambda found: "supersede",
    alike: Alike | None = None,
) -> Read:
    """What a lesson states of these facts and items, after what it contradicts was settled; `date` is that of the document.

    `stated_on` tells which of two facts without a date is the later: that date, or when the document was written.
    With `alike` a relation that goes by another name has the name that is known. The graph is not changed: what is to be
    added is returned.
    """
    written, found = found, _by_known_names(graph, found, alike) if alike else found
    name = {id(one): other.fact for one, other in zip(found, written, strict=True)}
    facts = [one.fact for one in found]
    meant = [
        *with_several_values(graph, facts),
        *((one.fact.subject, one.fact.relation) for one in found if one.several),
    ]
    several = tuple(dict.fromkeys(meant))
    of_fact, rest = answered(facts, items)
    asked: dict[Fact, list[Example]] = {}
    for item in rest:
        asked.setdefault(_of_item(item, date), []).append(item)
    kept, against, beside = settle(graph, [*facts, *asked], on_conflict, ask, several, stated_on or date)
    stated = [
        _stated(one, name[id(one)], items_of) for one, items_of in zip(found, of_fact, strict=True) if one.fact in kept
    ]
    stated += [Stated(fact, None, _questions(fact, items_of)) for fact, items_of in asked.items() if fact in kept]
    stated = [replace(one, asked_at=kept[one.fact], beside=one.fact in beside) for one in stated]
    return Read(tuple(stated), tuple(against), several)


def fitting(graph: FactGraph, found: Sequence[Found]) -> list[Found]:
    """Without what is no value of the kind that its history has: "The mayor of Tolvane is angry"."""
    histories = ((one, graph.history(one.fact.subject, one.fact.relation)) for one in found)
    return [one for one, known in histories if is_of_kind(one.fact.value, [other.value for other in known])]


def _by_known_names(graph: FactGraph, found: Sequence[Found], alike: Alike) -> list[Found]:
    """With the name that a relation of the subject is known by, where it has the same value and is asked alike.

    Not where the document has both names itself, for one subject: then they are two relations. Being alike is not enough:
    a captain and a mayor are asked alike.
    """
    own = {(normalise(one.fact.subject), normalise(one.fact.relation)) for one in found}
    pairs: list[tuple[int, Statement]] = []
    for place, one in enumerate(found):
        known = {normalise(other.relation): other for other in graph.history(one.fact.subject)}
        if normalise(one.fact.relation) not in known:
            subject = normalise(one.fact.subject)
            key = value_key(one.fact.value)
            held = {normalise(other.relation) for other in graph.history(subject) if value_key(other.value) == key}
            pairs += [
                (place, known[relation]) for relation in known if relation in held and (subject, relation) not in own
            ]
    asked = [
        (plain_questions(found[place].fact)[0].question, plain_questions(other.fact)[0].question)
        for place, other in pairs
    ]
    best: dict[int, tuple[float, str]] = {}
    for (place, other), score in zip(pairs, alike(asked), strict=True):
        if score >= SAME and other.relation != AS_ASKED:
            best[place] = max(best.get(place, (0.0, "")), (score, other.relation))
    return [
        replace(one, fact=replace(one.fact, relation=best[place][1])) if place in best else one
        for place, one in enumerate(found)
    ]


def _of_item(item: Example, date: str | None) -> Fact:
    """What an item says that none of the facts does."""
    if (said := _PLAIN.match(item.question)) and not asked_at(item.question) and not _SENTENCE.search(item.answer):
        whole = f"{said['what']} {said['verb']} {item.answer.rstrip('.')}"
        found = list(of_sentence(Passage(whole, "", 0, len(whole))))
        if len(found) == 1 and value_key(found[0].fact.value) == value_key(item.answer):
            return replace(found[0].fact, value=item.answer, valid_from=date)
    return Fact(item.question, AS_ASKED, item.answer, date)


def _questions(fact: Fact, items: Iterable[Example]) -> tuple[Example, ...]:
    """The plain questions that a fact answers, and others."""
    return tuple({(item.question, item.answer): item for item in [*plain_questions(fact), *items]}.values())


def _stated(one: Found, as_written: Fact, items: Sequence[Example]) -> Stated:
    written = plain_questions(as_written) if as_written != one.fact else []
    return Stated(one.fact, (one.start, one.end), _questions(one.fact, [*written, *items]))
