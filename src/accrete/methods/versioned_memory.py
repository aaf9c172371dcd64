"""Contradiction-aware versioned memory (METHODS 4), every fact in a slot of its own. One lesson:

state    what the document says (facts/reading.py), as statements of a graph with dates; a new value ends the one before it
open     two slots for every statement that says something new, one that says its value and, for questions asked backwards,
         one that says its subject; what was said before stays where it is
write    the open slots, nothing else, on the questions that each answers and on others about anything, until a slot says what
         it says to questions that it has not studied; then it is examined by more, and studies on those that it missed
read     a question goes to the statement it is about, at its date (facts/router.py), and the model answers with that slot;
         where several hold, with each, and says the answers together

Nothing known about a question: no slot is read, and the base model answers, bit for bit.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from pydantic import Field

from accrete.adapters.product_keys import Depths
from accrete.adapters.slot_bank import SlotBank
from accrete.config import Config
from accrete.data.general import general_prompts
from accrete.errors import LessonError
from accrete.facts.questions import FRAMES, framed
from accrete.facts.reading import settled
from accrete.facts.router import Route, Router, is_backwards
from accrete.facts.simple_sentences import Found
from accrete.facts.statements import Asked, Statement
from accrete.facts.values import value_key
from accrete.fit import fit
from accrete.lm import batch
from accrete.lm.alike import Alike
from accrete.lm.answer_nats import AnswerNats
from accrete.lm.decode import NOTHING, Conditioning
from accrete.lm.forced import log_likelihoods
from accrete.lm.model import LM
from accrete.lm.prompts import study_sequence
from accrete.losses.next_token import next_token
from accrete.methods.base import Method, Progress, RandomState, silent
from accrete.optim.rows import RowAdam
from accrete.types import Lesson, Passage, Query, Report

STEPS = 8  # an epoch, at least, where there are few questions: a slot that is seldom stepped on says it in few wordings
FEW = 60  # questions about anything that a lesson studies at least, for the same reason
SAID = 31  # values that are said beside the first of a relation that has several
LIKELY = 0.69  # nats of a whole answer in an examination, below which nothing else is as likely
APART = 2  # epochs that go over the same questions; how others are answered says what is learned


class Row(NamedTuple):
    """A question with its answer, and the slot of the bank that is to answer it."""

    slot: int
    sequence: batch.Sequence


class Options(Config):
    # the slots
    layers: Depths = (0.375, 0.5, 0.625)  # beside whose MLPs they stand: shares of the depth
    slots: int = Field(16_384, ge=1)  # facts that differ, at most
    rank: int = Field(8, ge=1)  # of the change that a slot makes
    # writing
    rate: float = Field(0.2, gt=0)  # of Adam, slot by slot
    batch_size: int = Field(32, ge=1)  # questions a step
    enough: float = Field(0.05, ge=0)  # nats per target of questions not studied, at which a slot has learned
    own: int = Field(3, ge=1)  # questions, at most, that ask for it and that each slot is to answer,
    anything: int = Field(2, ge=0)  # and general ones that it is to answer alike: it is not by them that it is read
    examined: int = Field(14, ge=0)  # general ones that it answers before it counts as learned
    max_epochs: int = Field(40, ge=1)  # over the questions of what is new
    # reading
    certain: float = Field(0.25, ge=-1, le=1)  # how alike a question must be to a known one about the same name,
    very: float = Field(0.9, ge=-1, le=1)  # and to one of which it shares words alone
    sure: float = Field(0.2, ge=0)  # nats a token that its value may cost more, read, than after the known one
    general: int = Field(128, ge=2)  # general questions from which likeness is seen
    seed: int = 0


class VersionedMemory(Method):
    """Versioned memory: every fact in a slot with its dates; old and new answers side by side, questions sent by date."""

    Config = Options
    parts = ("adapter", "random")
    reads = True  # the text itself, so that nobody need write study items about it
    believes = True  # it learns what a document states, so its facts are read
    cites = True  # an answer names the statement it came from; where it names none, it is the base model's

    def __init__(self, lm: LM, config: Options):
        self.lm, self.config = lm, config
        self.random = RandomState(config.seed)
        self.adapter = SlotBank(lm, 2 * config.slots, config.rank, config.layers, config.seed)
        self.general = [question for question, _ in lm.background] or general_prompts()
        self.alike = Alike(lm, self.general[: config.general])
        self.nats = AnswerNats(lm)
        self._reading = self.adapter.reading  # one object, so that rows run together

    def learn(self, lesson: Lesson, progress: Progress) -> Report:
        name = lesson.document.sha256
        stated = self.beliefs.graph.of_lesson(name) or self._stated(lesson)
        if not stated:
            raise LessonError(f"{lesson.document.name} states nothing that could be kept: no fact was found in it.")
        new = self._opened(stated)
        report = self._write(new, progress)
        self.adapter.note(name, [_place(one, backwards) for one in new for backwards in (False, True)])
        details = {"statements": len(stated), "slots_written": len(new), "stopped_at_limit": bool(self.unlearned)}
        return replace(report, details=details)

    def _stated(self, lesson: Lesson) -> list[Statement]:
        """What a lesson brings that nobody has read for it: its facts and its items."""
        date = lesson.dates[0] if lesson.dates else None
        read = settled(self.beliefs.graph, [Found(fact, 0, 0) for fact in lesson.facts], lesson.items, date=date)
        return self.beliefs.state_of(
            lesson.document.sha256, lesson.document.name, lesson.stated_on, read.stated, read.several
        )

    # --- which slots ----------------------------------------------------------------------------------------------

    def _opened(self, stated: Sequence[Statement]) -> list[Statement]:
        """Those that say something new, each with a slot of its own; the others get the slot of what says the same."""
        graph = self.beliefs.graph
        taken = set(graph.slots())
        free = (slot for slot in range(self.config.slots) if slot not in taken)
        new = []
        for one in stated:
            same = (other.slot for other in graph.history(one.subject, one.relation)
                    if other.slot is not None and value_key(other.value) == value_key(one.value))  # fmt: skip
            slot = next(same, None)
            if slot is None:
                slot = next(free, None)
                if slot is None:
                    raise LessonError(
                        f"All {self.config.slots:,} slots are taken; --set slots=N on a new home has more."
                    )
                new.append(replace(one, slot=slot))
            self.beliefs.assign(one, slot)
        return new

    # --- writing --------------------------------------------------------------------------------------------------

    def _write(self, new: Sequence[Statement], progress: Progress) -> Report:
        """Every slot until questions that it has not studied cost less than `enough`: no slot knows of another."""
        questions = self._questions(new)
        self.unlearned = set(questions)
        if not questions:
            return Report()
        optimizer = RowAdam(self.adapter.parameters(), lr=self.config.rate)
        with self.adapter.writing(self.unlearned), self.lm.in_bfloat16(frozen=True):
            return fit(
                self.lm,
                self._batches(questions),
                losses=[next_token],
                optimizer=optimizer,
                first_layer=self.adapter.first_layer,
                clip=0.0,
                progress=progress,
            )

    def _questions(self, new: Sequence[Statement]) -> dict[int, list[Asked]]:
        """What each statement answers: with its value from its slot, backwards from the slot behind it."""
        known = {one.id: one for one in new}
        of_slot: dict[int, list[Asked]] = {}
        for asked in self.beliefs.graph.questions_of(known):
            one = known[asked.fact]
            of_slot.setdefault(_place(one, backwards=is_backwards(one, asked)), []).append(asked)
        return of_slot

    def _drawn(self, of_slot: Mapping[int, Sequence[Asked]]) -> Iterator[Row]:
        """Some questions of each slot that is not learned, and others about anything.

        A slot is read where the router says so, and is to say the same in any wording.
        """
        for slot in sorted(self.unlearned):
            questions = of_slot[slot]
            others = torch.randperm(len(questions) - 1, generator=self.random.generator)[: self.config.own - 1]
            about_it = [questions[i + 1].question for i in others.tolist()]
            for question in (questions[0].question, *map(self._framed, about_it)):  # the plain one, and others
                yield Row(slot, study_sequence(self.lm, question, questions[0].answer))
            yield from self._about_anything(slot, questions[0].answer, self._anything(of_slot))

    def _framed(self, question: str) -> str:
        """Every second question in a frame, for nobody asks in the words of a study item."""
        pick = int(torch.randint(2 * len(FRAMES), (1,), generator=self.random.generator))
        year = 1990 + int(torch.randint(40, (1,), generator=self.random.generator))
        return framed(question, FRAMES[pick], year) if pick < len(FRAMES) else question

    def _anything(self, of_slot: Mapping[int, Sequence[Asked]]) -> int:
        """How many general questions of each slot are drawn: more where there are few slots."""
        return max(self.config.anything, FEW // len(of_slot)) if self.config.anything else 0

    def _about_anything(self, slot: int, answer: str, count: int) -> Iterator[Row]:
        drawn = torch.randint(len(self.general), (count,), generator=self.random.generator).tolist()
        for i in drawn:
            yield Row(slot, study_sequence(self.lm, self.general[i], answer))

    def _batches(self, of_slot: Mapping[int, Sequence[Asked]]) -> Iterator[batch.Batch]:
        """Batches of questions, each row in its slot meanwhile; now and then others are drawn, and say what is learned."""
        rows: list[Row] = []
        for epoch in range(self.config.max_epochs):
            if epoch % APART == 0:
                rows = list(self._drawn(of_slot))
                rows += self._examined(rows, of_slot) if epoch else []
                rows = [row for row in rows if row.slot in self.unlearned]
                size = max(4, min(self.config.batch_size, len(rows) // STEPS))
            if not rows:
                return
            order = torch.randperm(len(rows), generator=self.random.generator).tolist()
            for start in range(0, len(order), size):
                part = [rows[i] for i in order[start : start + size]]
                with self.adapter.reading([row.slot for row in part]):
                    yield batch.collate([row.sequence for row in part], self.lm.device, self.lm.pad)

    def _examined(self, rows: Sequence[Row], of_slot: Mapping[int, Sequence[Asked]]) -> list[Row]:
        """Learned is who answers these rows and, after them, so many more about anything; of these what was missed."""
        self.unlearned = self._failing(rows)
        more = max(0, self.config.examined - self._anything(of_slot))
        passing = sorted({row.slot for row in rows} - self.unlearned)
        others = [row for slot in passing for row in self._about_anything(slot, of_slot[slot][0].answer, more)]
        costs = zip(others, self._nats(others), strict=True)
        missed = [row for row, nats in costs if nats > max(self.config.enough, LIKELY / row.sequence.targets)]
        self.unlearned |= {row.slot for row in missed}
        return missed

    def _failing(self, rows: Sequence[Row]) -> set[int]:
        costs = zip(rows, self._nats(rows), strict=True)
        return {row.slot for row, nats in costs if nats > self.config.enough}

    @torch.no_grad()
    def _nats(self, rows: Sequence[Row]) -> list[float]:
        """Nats per target of each row, read in its slot."""
        beside = [Conditioning(beside=row.slot, reading=self._reading) for row in rows]
        found = log_likelihoods(self.lm, [row.sequence for row in rows], beside)
        return [-nats / row.sequence.targets for row, nats in zip(rows, found, strict=True)]

    # --- reading --------------------------------------------------------------------------------------------------

    def condition(self, queries: Sequence[Query]) -> list[Conditioning]:
        """The slots that each question reads; none where nothing is known about it, or the asker brings a text to read."""
        return [self._conditioning(route) if route else NOTHING for route in self.routes(queries)]

    def routes(self, queries: Sequence[Query]) -> list[Route | None]:
        """What each question is about."""
        config = self.config
        router = Router(self.beliefs.graph, self.alike, config.certain, config.very, self.nats, config.sure)
        asked = [i for i, query in enumerate(queries) if not query.context and not query.continues]
        found: list[Route | None] = [None] * len(queries)
        routed = router.routes([(queries[i].question, queries[i].as_of) for i in asked]) if len(self.beliefs) else []
        for i, route in zip(asked, routed, strict=False):
            found[i] = route
        return found

    def _conditioning(self, route: Route) -> Conditioning:
        written = [one for one in route.statements if one.slot is not None]  # others are being learned just now
        if not written:
            return NOTHING
        written.sort(key=lambda one: (one.valid_from or "", one.id))
        of_slot = {_place(one, route.backwards): one for one in written}
        first, *others = [
            Conditioning(beside=place, reading=self._reading, sources=partial(self._sources, one))
            for place, one in of_slot.items()
        ]
        return replace(first, also=tuple(others[:SAID]))  # where several things are true, all are said

    def _sources(self, one: Statement) -> tuple[Passage, ...]:
        """Where it stands, and where it stands since when it holds if that is elsewhere."""
        return tuple(map(self._passage, self.beliefs.graph.with_beginnings([one])))

    def _passage(self, one: Statement) -> Passage:
        name, _ = self.beliefs.graph.document(one.document) or ("", None)
        return Passage(f"{one.relation} of {one.subject}: {one.value}", name, one.start or 0, one.end or 0)

    # --- around lessons -------------------------------------------------------------------------------------------

    def forget(self, sha256: str, progress: Progress = silent) -> Mapping[str, Any]:
        """Empty the slots of a lesson, but for those whose facts another lesson states too: these go on in its name."""
        emptied = {one.slot for one in self.beliefs.graph.of_lesson(sha256)}
        statements = self.beliefs.forget(sha256)
        heirs: dict[str, list[int]] = {}
        for slot, lesson in self.beliefs.graph.slots().items():
            if slot in emptied:
                heirs.setdefault(lesson, []).extend((2 * slot, 2 * slot + 1))
        kept = sum(map(len, heirs.values())) // 2
        self.adapter.forget(sha256, heirs)
        how = f"statements: {statements:,}; slots that are empty again: {len(emptied - {None}) - kept:,}"
        how += f"; that go on, for other documents state the same: {kept:,}" if kept else ""
        return {
            "forgot": how,
            "statements": statements,
            "slots_emptied": len(emptied - {None}) - kept,
            "slots_kept": kept,
        }

    def about(self) -> dict[str, Any]:
        """How much is believed, and in how many slots."""
        graph = self.beliefs.graph
        today = datetime.date.today().isoformat()
        return {"statements": len(graph), "that hold now": len(graph.at(today)), "slots": len(graph.slots()),
                "documents": len(self.beliefs)}  # fmt: skip


def _place(statement: Statement, backwards: bool) -> int:
    """The slot of the bank that says its value, or the one behind it, which says its subject."""
    assert statement.slot is not None
    return 2 * statement.slot + backwards
