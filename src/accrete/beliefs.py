"""What lessons stated, as a part of a method's state, and the graph that is made from it. Ends at statements.

Of every lesson one entry: its document, its facts with their spans and slots, and the questions they answer, as JSON in bytes.
An entry that did not change is stored once, and undo brings the graph back by bringing the entries back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any

import torch
from torch import Tensor

from accrete.errors import HistoryError
from accrete.facts.contradiction import Several
from accrete.facts.graph import FactGraph
from accrete.facts.reading import Stated
from accrete.facts.statements import Statement
from accrete.types import Fact


class Beliefs:
    """The facts of every lesson, by the sha256 of its document, and their graph."""

    def __init__(self) -> None:
        self.graph = FactGraph()
        self._lessons: dict[str, Tensor | None] = {}  # None: to be written anew
        self._several: dict[str, list[Several]] = {}  # by the lesson that has them so

    def __len__(self) -> int:
        """How many lessons."""
        return len(self._lessons)

    def state_of(
        self, lesson: str, document: str, date: str | None, stated: Sequence[Stated], several: Sequence[Several] = ()
    ) -> list[Statement]:
        """Take in what a lesson states; `several` are relations that have several values from now on."""
        with self.graph.transaction():
            self.graph.add_document(lesson, document, date, lesson)
            self._several[lesson] = list(several)
            for subject, relation in several:
                self.graph.declare_several(relation, subject=subject)
            for one in stated:
                added = self.graph.add(
                    one.fact, stated_on=date, document=lesson, span=one.span, lesson=lesson, beside=one.beside
                )
                for item in one.questions:
                    self.graph.add_question(added.id, item.question, item.answer)
        self._lessons[lesson] = None
        return self.graph.of_lesson(lesson)

    def assign(self, statement: Statement, slot: int) -> None:
        """Say in which slot a statement is written."""
        self.graph.assign(statement.id, slot)
        self._lessons[statement.lesson] = None

    def forget(self, lesson: str) -> int:
        """Take back what a lesson stated; the number of statements."""
        self._lessons.pop(lesson, None)
        theirs = self._several.pop(lesson, [])
        for subject, relation in set(theirs) - {one for others in self._several.values() for one in others}:
            self.graph.declare_several(relation, False, subject)
        return self.graph.remove_lesson(lesson)

    # --- state ------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The lessons in their order, and an entry of each."""
        for lesson, entry in self._lessons.items():
            if entry is None:
                self._lessons[lesson] = _bytes(self._entry(lesson))
        return {"lessons": list(self._lessons)} | dict(self._lessons)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Hold exactly these lessons; HistoryError for what is no such state, and then nothing changes."""
        names = list(state.get("lessons", []))
        if not names and not self._lessons:
            return
        entries = {name: _read(state.get(name)) for name in names}
        graph = FactGraph()
        with graph.transaction():
            for name, entry in entries.items():
                _restore(graph, name, entry)
        self.graph.close()
        self.graph, self._lessons = graph, {name: state[name].clone() for name in names}
        self._several = {name: [(one[0], one[1]) for one in entry["several"]] for name, entry in entries.items()}

    def _entry(self, lesson: str) -> dict[str, Any]:
        name, date = self.graph.document(lesson) or ("", None)
        facts = []
        for one in self.graph.of_lesson(lesson):
            questions = [[asked.question, asked.answer] for asked in self.graph.questions_of([one.id])]
            facts.append([*astuple(one.own), one.start, one.end, one.slot, questions])
        beside = [place for place, one in enumerate(self.graph.of_lesson(lesson)) if one.beside]
        entry = {"document": name, "date": date, "facts": facts, "several": self._several.get(lesson, [])}
        return entry | ({"beside": beside} if beside else {})


def _restore(graph: FactGraph, lesson: str, entry: Mapping[str, Any]) -> None:
    graph.add_document(lesson, entry["document"], entry["date"], lesson)
    for subject, relation in entry["several"]:
        graph.declare_several(relation, subject=subject)
    for place, (*fact, start, end, slot, questions) in enumerate(entry["facts"]):
        added = graph.add(
            Fact(*fact),
            stated_on=entry["date"],
            document=lesson,
            span=None if start is None else (start, end),
            lesson=lesson,
            slot=slot,
            beside=place in entry.get("beside", ()),
        )
        for question, answer in questions:
            graph.add_question(added.id, question, answer)


def _bytes(entry: Mapping[str, Any]) -> Tensor:
    return torch.frombuffer(bytearray(json.dumps(entry, ensure_ascii=False).encode()), dtype=torch.uint8)


def _read(entry: Any) -> dict[str, Any]:
    try:
        found = json.loads(bytes(entry.cpu().numpy()).decode())
        assert isinstance(found["facts"], list)
    except (AttributeError, ValueError, KeyError, TypeError, AssertionError):
        raise HistoryError("The saved facts cannot be read.") from None
    return dict(found)
