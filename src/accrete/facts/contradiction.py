"""What a new fact says against what is believed. Ends at sentences, and at what becomes of the two.

A fact contradicts a statement of the same subject and relation that holds when it begins and has another value (values.py:
"1.2 km" is "1,200 metres"), unless the relation has several values at once. Which relations those are is declared, or learned:
a document that gives a subject two values of one date means both.

    supersede   the new one holds from its date on, the old one until then (what the graph does by itself)
    branch      both are kept: the relation of this subject has several values from now on
    ask         somebody is asked, each time
    reject      the new one is not written
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from accrete.dates import spoken
from accrete.facts.graph import FactGraph, Statement
from accrete.facts.values import same_value, value_key
from accrete.scoring import normalise
from accrete.types import Fact

Several = tuple[str, str]
"""(subject, relation) that has several values at once; of every subject where it is empty."""
OnConflict = Literal["supersede", "branch", "ask", "reject"]


@dataclass(frozen=True)
class Contradiction:
    """A new fact, stated on a date, and the statement that holds at its date, from the document of this name."""

    new: Fact
    old: Statement
    document: str = ""
    stated_on: str | None = None

    @property
    def lost(self) -> bool:
        """Whether the new one is not believed: without a date, and older than what has one or was written later."""
        return not self.new.valid_from and (bool(self.old.valid_from) or earlier(self.stated_on, self.old.stated_on))

    def __str__(self) -> str:
        """'contradicts "Ada" (mayor of Tolvane; town.txt, 2018): superseded from 2020'"""
        stands = [part for part in (self.document, spoken(self.old.valid_from)) if part]
        where = "; ".join([f"{self.old.relation} of {self.old.subject}", *([", ".join(stands)] if stands else [])])
        return f'contradicts "{self.old.value}" ({where}): {self._outcome()}'

    def _outcome(self) -> str:
        if not self.new.valid_from:
            if self.old.valid_from:
                return "older than what has a date, and not believed any more"
            if earlier(self.stated_on, self.old.stated_on):
                return (f"neither says since when, and this was written earlier ({spoken(self.stated_on)}, that on"
                        f" {spoken(self.old.stated_on)}), so it is not believed any more")  # fmt: skip
            if earlier(self.old.stated_on, self.stated_on) and self.old.stated_on:
                return f"superseded: it was written on {spoken(self.old.stated_on)}, this on {spoken(self.stated_on)}"
            return "superseded"
        if self.old.valid_from == self.new.valid_from:
            return "of the same date, so what was stated later stands"
        return f"superseded from {spoken(self.new.valid_from)}"


def earlier(stated_on: str | None, other: str | None) -> bool:
    """Whether the one was stated before the other; as the graph puts them, what has no date comes first."""
    return bool(other) and (stated_on or "") < str(other)


def contradictions(
    graph: FactGraph, facts: Iterable[Fact], several: Iterable[Several] = (), stated_on: str | None = None
) -> list[Contradiction]:
    """Of each fact what it contradicts in the graph as it is: the statement that holds at its date, if it says otherwise.

    `several` are relations with several values beyond those that the graph knows.
    """
    found = []
    meant = {(normalise(subject), normalise(relation)) for subject, relation in several}
    for fact in facts:
        if {("", normalise(fact.relation)), _of(fact)} & meant or graph.has_several(fact.relation, fact.subject):
            continue
        for old in _holding(graph, fact):
            if not same_value(old.value, fact.value):
                known = graph.document(old.document)
                found.append(Contradiction(fact, old, known[0] if known else "", stated_on))
    return found


def _of(fact: Fact) -> Several:
    return normalise(fact.subject), normalise(fact.relation)


def _holding(graph: FactGraph, fact: Fact) -> list[Statement]:
    if fact.valid_from:
        return graph.at(fact.valid_from, fact.subject, fact.relation)
    return graph.active(fact.subject, fact.relation)


def settle(
    graph: FactGraph,
    facts: Sequence[Fact],
    on_conflict: OnConflict = "supersede",
    ask: Callable[[Contradiction], OnConflict] = lambda found: "supersede",
    several: Iterable[Several] = (),
    stated_on: str | None = None,
) -> tuple[list[Fact], list[Contradiction], list[Several]]:
    """The facts that are to be written, what they contradict, and the relations that have several values from now on.

    `several` are known to have them; `branch` makes the relation of this subject one of them. The graph is not changed.
    """
    kept: list[Fact] = []
    found: list[Contradiction] = []
    branched: dict[Several, None] = {}
    for fact in facts:
        against = contradictions(graph, [fact], (*several, *branched), stated_on)
        found += against
        decided = {ask(one) if on_conflict == "ask" else on_conflict for one in against}
        if "branch" in decided:
            branched[fact.subject, fact.relation] = None
        if "reject" not in decided:
            kept.append(fact)
    return kept, found, list(branched)


def with_several_values(facts: Iterable[Fact]) -> list[str]:
    """The relations of which one document gives most of its subjects several values at one time: they are meant together.

    Where few of its subjects have several, something was misread.
    """
    values = defaultdict(set)
    names: dict[str, str] = {}
    for fact in facts:
        relation = normalise(fact.relation)
        names.setdefault(relation, fact.relation)
        values[relation, normalise(fact.subject), fact.valid_from].add(value_key(fact.value))
    subjects: dict[str, dict[str, bool]] = defaultdict(dict)
    for (relation, subject, _), said in values.items():
        subjects[relation][subject] = subjects[relation].get(subject, False) or len(said) > 1
    return [name for relation, name in names.items() if 2 * sum(subjects[relation].values()) > len(subjects[relation])]
