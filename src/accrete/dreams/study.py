"""What a lesson studies: the given items, self-made ones, or the text alone. Ends at a `Studied`: items and figures.

passages -> write (greedy, then drawn) -> keep (sound, novel, diverse) -> reread (answered alike) -> settle -> items
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import Field

from accrete.config import Config
from accrete.dates import asked_as_of
from accrete.dreams import keep
from accrete.dreams.reread import reread
from accrete.dreams.teacher import Teacher
from accrete.dreams.write import ModelWriter, Writer, can_write, restate, write_questions
from accrete.errors import DocumentError, UsageError, did_you_mean
from accrete.lm.model import LM
from accrete.types import Document, Example, Passage

if TYPE_CHECKING:
    from accrete.dreams.written import Written

SETTINGS = ("auto", "gold", "self", "off")
TRIED = 2  # passages, spread over a document, that show whether the model can write at all
Progress = Callable[[str, int, float], None]
"""(stage, passages done, nothing)."""


class Options(Config):
    passage_tokens: int = Field(128, ge=1)  # of a passage to write about: with what is written it fits 512
    questions_tokens: float = Field(1.5, gt=0)  # of a text of questions, for each token of the passage
    together: int = Field(8, ge=1)  # passages written about at once
    rounds: int = Field(1, ge=0)  # of drawing more where there was news
    samples: int = Field(3, ge=1)  # texts of questions a passage and round; half as many of reverse questions
    temperature: float = Field(0.8, gt=0)
    per_fact: int = Field(3, ge=1)  # questions kept
    per_passage: int = Field(48, ge=1)
    restate: bool = True


@dataclass(frozen=True)
class Studied:
    """Items for a lesson and how they came about. `by` is empty where nothing was written.

    written: distinct pairs, kept: those that became items, left_out: the others by reason.
    """

    items: tuple[Example, ...] = ()
    restatements: tuple[str, ...] = ()
    source: str = "text"  # given, self, teacher, or text: nothing but the text
    by: str = ""
    written: int = 0
    kept: int = 0
    seconds: float = 0.0
    left_out: tuple[tuple[str, int], ...] = ()

    def at(self, date: str | None) -> Studied:
        """The same with self-made questions asked as of the date of the document, too: people will ask so.

        A later document may change an answer; as of its date it stays.
        """
        if date is None or not self.by:
            return self
        dated = (replace(one, question=asked_as_of(one.question, date)) for one in self.items)
        return replace(self, items=tuple(dict.fromkeys([*self.items, *dated])))

    def figures(self) -> dict[str, Any]:
        """JSON's terms."""
        return {
            "source": self.source,
            "by": self.by or None,
            "items": len(self.items),
            "written": self.written,
            "kept": self.kept,
            "share": round(self.kept / self.written, 4) if self.written else None,
            "restatements": len(self.restatements),
            "left_out": dict(self.left_out),
            "seconds": round(self.seconds, 3),
        }


class Study:
    """Decides by a setting where the items of a document come from, and has them written where they are to be.

    auto: the given ones where there are some, else self-made; gold: only the given; self: only self-made; off: none.
    `teacher` is the address of a model that writes in the model's place; what it wrote is read again by the model itself.
    What is written is looked for in `written` first, and kept there.
    """

    def __init__(self, lm: LM, setting: str = "auto", teacher: str | None = None, *, offline: bool = False):
        if setting not in SETTINGS:
            raise UsageError(f'There is no way to study called "{setting}".{did_you_mean(setting, SETTINGS)}')
        self.lm, self.setting, self.teacher, self.offline = lm, setting, teacher, offline
        self.options = Options()
        self.written: Written | None = None

    @property
    def passage_tokens(self) -> int:
        """How large the passages are that `write` is to be given."""
        return min(self.options.passage_tokens, max(1, self.lm.context_length * 2 // 5))

    def writes(self, document: Document) -> bool:
        """Whether items are to be written about this document. DocumentError where there is nothing to write about."""
        if self.setting == "self" and not document.text.strip():
            raise DocumentError(f"{document.name} holds no text to write questions about (--study self).")
        return self.setting == "self" or (self.setting == "auto" and not document.items and bool(document.text.strip()))

    def given(self, document: Document) -> Studied:
        """The items that the document brings, unless they are set aside."""
        items = document.items if self.setting in ("auto", "gold") else ()
        return Studied(items, source="given" if items else "text")

    def write(
        self,
        document: Document,
        passages: Sequence[Passage],
        sentences: Callable[[Passage], Sequence[str]],
        progress: Progress,
    ) -> Studied:
        """Have items written about the passages of a document; none survive where the writer cannot."""

        def anew() -> Studied:
            writer: Writer = Teacher(self.teacher, offline=self.offline) if self.teacher else ModelWriter(self.lm)
            seed = int(document.sha256[:12], 16)
            if not self.teacher:
                progress("writing questions", 0, 0.0)
                started = time.monotonic()
                step = max(1, len(passages) // TRIED)
                if not can_write([passage.text for passage in passages[::step][:TRIED]], writer):
                    return Studied(by=writer.name, seconds=time.monotonic() - started)
            reader: Writer = ModelWriter(self.lm)
            if self.teacher and not can_write([passages[0].text], reader):
                reader = writer  # this model cannot read; a teacher has to believe itself
            studied = study(passages, sentences, writer, reader, self.options, self.lm.count_tokens, seed, progress)
            return replace(studied, source="teacher") if self.teacher and studied.items else studied

        return self.written.get(document, self.options, anew) if self.written else anew()


def study(
    passages: Sequence[Passage],
    sentences: Callable[[Passage], Sequence[str]],
    writer: Writer,
    reader: Writer,
    options: Options,
    measure: Callable[[str], int],
    seed: int,
    progress: Progress,
) -> Studied:
    """Write about passages, some at a time, keep what is worth it, and have the reader read again.

    `measure` counts the tokens of a text. The same seed gives the same items where writer and reader keep to it.
    """
    started = time.monotonic()
    found: list[list[Example]] = []
    restated: dict[str, str] = {}
    left_out: Counter[str] = Counter()
    for start in range(0, len(passages), options.together):
        group = passages[start : start + options.together]
        progress(f"writing questions, passage {start + 1} of {len(passages)}", start, 0.0)
        written = write_questions(
            [passage.text for passage in group],
            writer,
            max_new_tokens=16 + round(options.questions_tokens * max(measure(passage.text) for passage in group)),
            rounds=options.rounds,
            samples=options.samples,
            temperature=options.temperature,
            seed=seed + start,
        )
        progress(f"reading again, passage {start + 1} of {len(passages)}", start, 0.0)
        for passage, pairs in zip(group, written, strict=True):
            chosen = keep.choose(passage.text, pairs, per_fact=options.per_fact, most=options.per_passage)
            longest = max((measure(pair.answer) for pair in chosen.pairs), default=0)
            sound = reread(passage.text, chosen.pairs, reader, longest)
            left_out += chosen.left_out + Counter({"answered otherwise": len(chosen.pairs) - len(sound)})
            found.append(sound)
        if options.restate:
            said = [sentence for passage in group for sentence in sentences(passage)]
            others = restate(said, writer, measure)
            restated |= {one: other for one, other in zip(said, others, strict=True) if keep.restates(one, other)}
    settled = keep.settle(found)
    left_out += settled.left_out
    kept = len(settled.pairs)
    return Studied(
        tuple(settled.pairs),
        tuple(restated.values()),
        source="self" if kept else "text",
        by=writer.name,
        written=kept + sum(left_out.values()),
        kept=kept,
        seconds=time.monotonic() - started,
        left_out=tuple(sorted((reason, count) for reason, count in left_out.items() if count)),
    )
