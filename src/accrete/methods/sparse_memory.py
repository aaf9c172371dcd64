"""Sparse memory finetuning (2510.15103), slots chosen by TF-IDF or KL (2604.05248); METHODS 2, 3. One lesson:

look      which slots the study items read, beside those that general questions, strangers and earlier lessons read
open      the t most surprising of them, once for the lesson, or anew for every batch
write     their rows of V, nothing else: new items, earlier ones, and general questions on which the base is kept
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from accrete.adapters.memory_layer import Choose, MemoryAdapter
from accrete.adapters.product_keys import Depths, Shape
from accrete.config import Config
from accrete.data.rehearsal import Rehearsal
from accrete.data.replay import Replay
from accrete.data.strangers import strangers
from accrete.data.studied import Studied
from accrete.data.study import study_sequences
from accrete.fit import fit
from accrete.gates.slots import Selection, SlotGate
from accrete.lm import batch
from accrete.lm.load import start_of
from accrete.lm.model import LM
from accrete.lm.prompts import study_sequence
from accrete.losses.distill import KLOnGeneral
from accrete.losses.next_token import next_token
from accrete.memory_retrofit import options as retrofit_options
from accrete.memory_retrofit import run
from accrete.methods.base import Method, Progress, RandomState, silent
from accrete.optim.rows import RowAdam
from accrete.types import Lesson, Report

ADAM_RATE, SGD_RATE = 0.1, 2_000.0
ALL = "all"  # lessons are one domain of the replay: a slot does not know domains


class Options(Config):
    # the memory
    layers: Depths = (0.375, 0.5)  # where tables stand: shares of the depth
    slots: int = Field(1_048_576, ge=4)  # of a table: a square number
    heads: int = Field(4, ge=1)  # that look apart, in one table
    top_k: int = Field(8, ge=1)  # slots that a head reads
    key_width: int = Field(64, ge=2)  # numbers in a head's query and in a key
    shared: bool = False  # one table for all layers
    start: str = "auto"  # where it looks: as the model brings it, else at random; none: at random; or a file
    # which rows a lesson may write
    selection: Selection = "kl"  # by how surprising a read is, two ways; or of what is read at random, or all
    rows: int = Field(9_000, ge=1)  # t: so many of each layer at most
    per: Literal["lesson", "batch"] = "lesson"  # they are chosen once for a lesson, or anew for every step
    background: int = Field(1_000, ge=0)  # at most so many of the model's general questions say what is no surprise
    strangers: int = Field(4, ge=0)  # so many copies of the lesson with other names say so too
    remember: bool = True  # and what every earlier lesson reads
    # writing
    optimizer: Literal["adam", "sgd"] = "adam"  # row by row
    rate: float | None = Field(None, gt=0)  # of adam 0.1, of sgd 2,000
    floor: float = Field(0.15, ge=0)  # of adam: a row with less than this share of the usual gradient hardly moves
    batch_size: int = Field(16, ge=1)  # new items a step
    replay: int = Field(16, ge=0)  # earlier ones beside them
    replay_capacity: int = Field(2_000, ge=0)  # earlier ones that are kept
    general: int = Field(8, ge=0)  # general questions beside those
    kl_weight: float = Field(10.0, ge=0)  # of being held to the base on them
    enough: float = Field(0.02, ge=0)  # nats per target of the items at which the lesson ends
    min_epochs: int = Field(15, ge=1)  # over the items, however soon they are learned
    max_epochs: int = Field(80, ge=1)  # over the items
    max_steps: int = Field(2_000, ge=1)  # of any lesson
    text_epochs: int = Field(8, ge=1)  # over a text without items,
    text_steps: int = Field(60, ge=1)  # for about so many steps at least
    window: int = Field(256, ge=2)  # tokens of text read at once
    seed: int = 0  # of keys without a start, and of what is drawn


class SparseMemory(Method):
    """Sparse memory: tables of slots beside the MLPs of the middle blocks; a lesson writes the most surprising rows alone."""

    Config = Options
    parts = ("adapter", "gate", "replay", "studied", "random")
    RetrofitConfig = retrofit_options.Options

    def __init__(self, lm: LM, config: Options):
        self.lm, self.config = lm, config
        self.random = RandomState(config.seed)
        shape = Shape(config.slots, config.heads, config.top_k, config.key_width)
        self.start = start_of(lm, "memory_layer", config.start)
        self.adapter = MemoryAdapter(lm, shape, config.layers, shared=config.shared, seed=config.seed, start=self.start)
        self.gate = SlotGate(config.slots, config.selection, config.rows, self.random.generator)
        self.replay = Replay(config.replay_capacity, self.random.generator)
        self.studied = Studied()

    def learn(self, lesson: Lesson, progress: Progress) -> Report:
        new = study_sequences(self.lm, lesson, self.config.window)
        self.replay.supersede(new, ALL)
        self.gate.drop(lesson.document.sha256)
        if not self.gate.batches:
            self.calibrate([])
        rehearsal = self._rehearsal(new, text=not lesson.items)
        with self.gate.beside(list(self._read(self._strangers(lesson)))):
            report = self._write(rehearsal, self._chosen(new), progress)
        self.replay.add(new, ALL, lesson.importance)
        self.studied.add(lesson.document.sha256, new)
        if self.config.remember:
            self.gate.remember(lesson.document.sha256, list(self._read(new)))
        written = {i: table.note(lesson.document.sha256) for i, table in self.adapter.tables.items()}
        details = {
            "rows_written": sum(written.values()),
            "stopped_at_limit": report.steps == self.config.max_steps or bool(lesson.items and not rehearsal.learned),
        }
        return replace(report, details=details)

    # --- which rows ---------------------------------------------------------------------------------------------

    def calibrate(self, texts: Sequence[str]) -> None:
        """Count anew which slots are read by these texts and by the model's own general questions, a batch each."""
        ids = self.lm.tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
        sequences = [batch.Sequence(tuple(one[: self.lm.context_length])) for one in ids if one]
        told = set(texts)
        own = [row for row in self.lm.background[: self.config.background] if " ".join(row) not in told]
        sequences += [study_sequence(self.lm, *row) for row in own]
        self.gate.reset()
        with self.adapter.off():
            for text in self._read(sequences):
                self.gate.note(text)

    def _read(self, sequences: Sequence[batch.Sequence]) -> Iterator[dict[int, Tensor]]:
        """Text by text the slots [T, S] that it reads, by layer."""
        for part in self.adapter.looks(sequences):
            for text in zip(*part.values(), strict=True):
                yield dict(zip(part, text, strict=True))

    def _strangers(self, lesson: Lesson) -> list[batch.Sequence]:
        if self.config.selection in ("random", "all"):
            return []
        draw = random.Random(int(torch.randint(1 << 31, (), generator=self.random.generator)))
        others = strangers(lesson, self.lm.background, self.config.strangers, draw)
        return [sequence for other in others for sequence in study_sequences(self.lm, other, self.config.window)]

    def _chosen(self, new: Sequence[batch.Sequence]) -> Choose:
        """For the whole lesson what its items read; or for every batch what its new and earlier rows read."""
        if self.config.per == "batch":
            return lambda layer, slots_TS: self.gate.open(layer, slots_TS[self._of_lessons_T])
        texts = list(self._read(new))
        opened = {i: self.gate.open(i, torch.cat([text[i] for text in texts])) for i in self.adapter.memories}
        return lambda layer, slots_TS: opened[layer]

    # --- writing ------------------------------------------------------------------------------------------------

    def _write(self, batches: Iterable[batch.Batch], choose: Choose, progress: Progress) -> Report:
        with self.adapter.writing(choose), self.lm.in_bfloat16(frozen=True):
            return fit(
                self.lm,
                self._noting(batches),
                losses=[next_token, KLOnGeneral(self.config.kl_weight, self.adapter.off, self.adapter.first_layer)],
                optimizer=self._optimizer(),
                first_layer=self.adapter.first_layer,
                clip=0.0,
                progress=progress,
            )

    def _optimizer(self) -> torch.optim.Optimizer:
        """A fresh one for every lesson."""
        if self.config.optimizer == "adam":
            return RowAdam(self.adapter.parameters(), lr=self.config.rate or ADAM_RATE, floor=self.config.floor)
        return torch.optim.SGD(self.adapter.parameters(), lr=self.config.rate or SGD_RATE)

    def _noting(self, batches: Iterable[batch.Batch]) -> Iterator[batch.Batch]:
        """The batches as they come; which of their tokens are of lessons is known while each is learned."""
        for one in batches:
            of_lessons_BT = one.mask_BT.clone()
            of_lessons_BT[len(of_lessons_BT) - one.general :] = False
            self._of_lessons_T = of_lessons_BT.flatten()
            yield one

    def _rehearsal(self, new: Sequence[batch.Sequence], text: bool = False, old: int | None = None) -> Rehearsal:
        c = self.config
        least, most = c.min_epochs, c.max_epochs
        if text:
            least, most = 1, max(c.text_epochs, c.text_steps * min(c.batch_size, len(new)) // len(new))
        return Rehearsal(
            lm=self.lm,
            new=new,
            replay=self.replay,
            domain=ALL,
            generator=self.random.generator,
            size=c.batch_size,
            old=c.replay if old is None else old,
            general=c.general,
            enough=c.enough,
            least_epochs=least,
            least_steps=c.max_steps,
            most_epochs=most,
            most_steps=c.max_steps,
        )

    # --- around lessons -----------------------------------------------------------------------------------------

    def forget(self, sha256: str, progress: Progress = silent) -> Mapping[str, Any]:
        """Give the rows of a lesson what they held before it; later lessons that miss those they share write them again.

        Rows that no later lesson touched are restored bit for bit. A later lesson misses rows where its questions cost more
        without them than they did, and more than `enough`; such are studied in their order: the journal has all that they
        studied. Returns how many rows there were of each kind.
        """
        tables = self.adapter.tables
        lessons = list(next(iter(tables.values())).writes)
        later = lessons[lessons.index(sha256) + 1 :]
        self.replay.drop_lesson(ALL, lessons.index(sha256) + 1)
        self.gate.drop(sha256)
        self.studied.drop(sha256)
        studied = {name: self.studied.of(name) for name in later}
        nats = {name: self.lm.mean_loss(of_it) for name, of_it in studied.items() if of_it}
        counts = {i: table.forget(sha256) for i, table in tables.items()}
        shared = {i: rows_R for i, (_, rows_R) in counts.items()}
        restored, again = sum(count for count, _ in counts.values()), sum(map(len, shared.values()))
        steps, enough = 0, True
        none = {i: torch.zeros_like(rows_R, dtype=torch.bool) for i, rows_R in shared.items()}
        learned, lost = none, none
        for name in later:
            of_it = {i: torch.isin(rows_R, tables[i].writes[name][0]) for i, rows_R in shared.items()}
            if name not in self.studied.lessons:  # of a home that was written before lessons were recorded
                lost = {i: lost[i] | of_it[i] for i in shared}
            elif any(map(torch.any, of_it.values())) and self._misses(studied[name], nats.get(name, 0.0)):
                rehearsal = self._rehearsal(studied[name])
                choose = self._these({i: shared[i][of_it[i]] for i in shared})
                steps += self._write(rehearsal, choose, progress).steps
                enough = enough and rehearsal.learned
                learned = {i: learned[i] | of_it[i] for i in shared}
            for table in tables.values():
                table.rewrite(name)
        count_lost = sum(int(lost_R.sum()) for lost_R in lost.values())
        count_learned = sum(int((learned[i] & ~lost[i]).sum()) for i in shared)
        return _forgotten(restored - again, again, count_learned, count_lost, steps, enough)

    def _misses(self, studied: Sequence[batch.Sequence], nats: float) -> bool:
        """Whether what was studied costs more now than the `nats` it did, and more than `enough`."""
        return bool(studied) and self.lm.mean_loss(studied) > max(nats, self.config.enough)

    def _these(self, rows: Mapping[int, Tensor]) -> Choose:
        """These rows of each table, whatever is read."""
        return lambda layer, slots_TS: rows[self.adapter.table_of[layer]]

    def about(self) -> dict[str, Any]:
        """Where it looks, what is general, and how many rows were written by how many lessons."""
        writes = {str(i): table.writes for i, table in self.adapter.tables.items()}
        rows = {i: len({row for rows_R, _ in w.values() for row in rows_R.tolist()}) for i, w in writes.items()}
        looks = "as the model's start has learned" if self.adapter.started else "at random"
        gate = (
            f"{self.config.selection} against {self.gate.batches:,} general texts"
            if self.gate.batches
            else "not calibrated"
        )
        return {"looks": looks, "gate": gate, "documents": max(map(len, writes.values())), "rows_written": rows}

    @staticmethod
    def retrofit(
        lm: LM, folder: Path, config: retrofit_options.Options, progress: Progress
    ) -> tuple[Path, dict[str, Any]]:
        """Train where the memories look."""
        return run.retrofit(lm, folder, config, progress)


def _forgotten(restored: int, shared: int, learned: int, lost: int, steps: int, enough: bool) -> dict[str, Any]:
    """What there is to say of rows: restored ones, and those that later lessons share."""
    how = f"{restored:,} rows that are as they were before it"
    how += "" if shared else "; no later lesson shares any"
    how += f", and {learned:,} that later lessons share: these wrote them again" if learned else ""
    how += "" if enough else ", not all of them as well as before"
    spared = shared - learned - lost
    how += (
        f", and {spared:,} that later lessons share: as before it too, for they answer as well without"
        if spared
        else ""
    )
    how += f", and {lost:,} of later lessons of which there is no record: they lost these" if lost else ""
    return {
        "forgot": how,
        "rows_restored": restored,
        "rows_learned_again": learned,
        "rows_not_missed": spared,
        "rows_lost": lost,
        "steps": steps,
        "stopped_at_limit": not enough,
    }
