"""What a new fact says against what is believed. Ends at sentences, and at what becomes of the two.

A fact contradicts a statement of the same subject and relation that holds when it begins and has another value (values.py:
"1.2 km" is "1,200 metres"), unless the relation has several values at once. Which relations those are is declared, or learned:
a document that gives a subject two values of one date means both. What a document says one after the other is its own history.

    supersede   the new one holds from its date on, the old one until then (what the graph does by itself)
    branch      both are kept: the new one stands beside what held at its date, until another ends both
    ask         somebody is asked, each time
    reject      the new one is not written
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from accrete.dates import neighbouring, spoken
from accrete.facts.graph import FactGraph
from accrete.facts.statements import Statement
from accrete.facts.values import same_value, value_key
from accrete.scoring import normalise
from accrete.types import Fact

Several = tuple[str, str]
"""(subject, relation) that has several values at once; of every subject where it is empty."""
OnConflict = Literal["supersede", "branch", "ask", "reject"]


@dataclass(frozen=True)
class Contradiction:
    """A new fact, stated on a date, and the statement that holds at its date, from the document of this name.

    `decided` is what becomes of them: "ask" until somebody has said it.
    """

    new: Fact
    old: Statement
    document: str = ""
    stated_on: str | None = None
    decided: OnConflict = "supersede"

    @property
    def lost(self) -> bool:
        """Whether the new one is not believed: without a date, and older than what has one or was written later."""
        if self.new.valid_from or self.new.valid_until:
            return False
        return bool(self.old.valid_from) or earlier(self.stated_on, self.old.stated_on)

    @property
    def said(self) -> str:
        """'contradicts "Ada" (mayor of Tolvane; town.txt, 2018)'"""
        stands = [part for part in (self.document, spoken(self.old.since)) if part]
        where = "; ".join([f"{self.old.relation} of {self.old.subject}", *([", ".join(stands)] if stands else [])])
        return f'contradicts "{self.old.value}" ({where})'

    def __str__(self) -> str:
        """With what becomes of them: '... : superseded from 2020'"""
        return self.said if self.decided == "ask" else f"{self.said}: {self._outcome()}"

    def _outcome(self) -> str:
        if self.decided == "reject":
            return f'not taken, so "{self.new.value}" is not believed'
        if self.decided == "branch":
            since = spoken(self.new.valid_from)
            return f'"{self.new.value}" is kept beside it' + (f" from {since} on" if since else "")
        if not self.new.valid_from and self.new.valid_until:
            return f'over before {spoken(self.new.valid_until)}, when "{self.new.value}" ended; nobody says when that began'
        if not self.new.valid_from:
            if self.old.valid_from:
                return "older than what has a date, and not believed any more"
            if earlier(self.stated_on, self.old.stated_on):
                return (f"neither says since when, and this was written earlier ({spoken(self.stated_on)}, that on"
                        f" {spoken(self.old.stated_on)}), so it is not believed any more")  # fmt: skip
            if earlier(self.old.stated_on, self.stated_on) and self.old.stated_on:
                return f"superseded: it was written on {spoken(self.old.stated_on)}, this on {spoken(self.stated_on)}"
            return "superseded"
        if self.old.since is None and self.old.stated_until:
            return f"over by {spoken(self.old.stated_until)}, and nobody says when it began: both are given until then"
        if self.old.valid_from == self.new.valid_from:
            return "of the same date, so what was stated later stands"
        return f"superseded from {spoken(self.new.valid_from)}"


def earlier(stated_on: str | None, other: str | None) -> bool:
    """Whether the one was stated before the other; as the graph puts them, what has no date comes first."""
    return bool(other) and (stated_on or "") < str(other)


def contradictions(graph: FactGraph, facts: Iterable[Fact], stated_on: str | None = None) -> list[Contradiction]:
    """Of each fact what it contradicts in the graph as it is: the statements that hold at its date, if they say otherwise."""
    found = []
    for fact in facts:
        if graph.has_several(fact.relation, fact.subject):
            continue
        for old in _holding(graph, fact):
            if not same_value(old.value, fact.value):
                known = graph.document(old.document)
                found.append(Contradiction(fact, old, known[0] if known else "", stated_on))
    return found


def _holding(graph: FactGraph, fact: Fact) -> list[Statement]:
    """Who held when it began; of an end alone who held the day before, unless that was known to be it."""
    if fact.valid_from:
        return graph.at(fact.valid_from, fact.subject, fact.relation)
    if not fact.valid_until:
        return graph.active(fact.subject, fact.relation)
    held = graph.at(neighbouring(fact.valid_until, -1), fact.subject, fact.relation)
    return [] if any(same_value(one.value, fact.value) for one in held) else held


def settle(
    graph: FactGraph,
    facts: Sequence[Fact],
    on_conflict: OnConflict = "supersede",
    ask: Callable[[Contradiction], OnConflict] = lambda found: "supersede",
    several: Iterable[Several] = (),
    stated_on: str | None = None,
) -> tuple[dict[Fact, str | None], list[Contradiction], list[Fact]]:
    """Of the facts of one document those that are to be written, what they contradict, and which stand beside what held.

    Of those that are to be written, a date at which each holds, if it has any.

    Each is held against what is believed with those before it; the graph is as it was afterwards. `several` are relations
    with several values beyond those that it knows.
    """
    kept: dict[Fact, int] = {}
    found: list[Contradiction] = []
    beside: list[Fact] = []
    with graph.tentative():
        for subject, relation in several:
            graph.declare_several(relation, subject=subject)
        for fact in facts:
            own, against = kept.values(), contradictions(graph, [fact], stated_on=stated_on)
            against = [one for one in against if one.old.id not in own]
            if on_conflict == "ask":
                against = [replace(one, decided=ask(replace(one, decided="ask"))) for one in against]
            else:
                against = [replace(one, decided=on_conflict) for one in against]
            found += against
            decided = {one.decided for one in against}
            if "reject" in decided:
                continue
            beside += [fact] * ("branch" in decided)
            kept[fact] = graph.add(fact, stated_on=stated_on, beside="branch" in decided).id
        return {fact: graph[number].asked_at for fact, number in kept.items()}, found, beside


def with_several_values(graph: FactGraph, facts: Iterable[Fact]) -> list[Several]:
    """The relations of which one document gives most of its subjects several values at one time: they are meant together.

    Of these subjects; and of every subject where there is more than one and the relation was never seen to change from one
    value to another. Where few of its subjects have several, something was misread.
    """
    values = defaultdict(set)
    names: dict[str, str] = {}
    for fact in facts:
        relation, subject = normalise(fact.relation), normalise(fact.subject)
        names.setdefault(relation, fact.relation)
        names.setdefault(f"{relation}\n{subject}", fact.subject)
        values[relation, subject, fact.valid_from].add(value_key(fact.value))
    subjects: dict[str, dict[str, bool]] = defaultdict(dict)
    for (relation, subject, _), said in values.items():
        subjects[relation][subject] = subjects[relation].get(subject, False) or len(said) > 1
    found: list[Several] = []
    for relation, has_several in subjects.items():
        those = [subject for subject, several in has_several.items() if several]
        if 2 * len(those) > len(has_several):
            found += [(names[f"{relation}\n{subject}"], names[relation]) for subject in those]
            found += [("", names[relation])] * (len(those) > 1 and not graph.has_changed(relation))
    return found
