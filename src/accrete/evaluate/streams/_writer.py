"""Richer passages for a stream, written by a teacher; every one still says every fact, or the plain one stays.

No stream by itself. `plan` says what would be asked and what it might cost, and asks nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from accrete.dates import spoken
from accrete.evaluate.streams import Stream, Task
from accrete.scoring import normalise
from accrete.types import Probe

INSTRUCTION = (
    "Rewrite these sentences as one paragraph of an encyclopedia, in flowing prose. State each of the facts exactly once, "
    "with every name, value and date spelled as it is here, and add no other fact. Write nothing but the paragraph."
)
CHARACTERS_A_TOKEN = 4  # about, in English
LONGER = 2.0  # times the plain passage that an answer may take

Writer = Callable[..., list[str]]
"""(prompts, max_new_tokens=...) -> a text each, as `accrete.dreams.teacher.Teacher` does."""


@dataclass(frozen=True)
class _Passage:
    text: str
    names: tuple[str, ...]  # subjects and dates
    values: tuple[str, ...]

    @property
    def prompt(self) -> str:
        return f"{INSTRUCTION}\n\n{self.text}"


def plan(stream: Stream, price_in: float | None = None, price_out: float | None = None) -> dict[str, Any]:
    """The prompts, about how many tokens they and their answers have, and the cost at prices a million tokens."""
    passages = [passage for task in stream.tasks for passage in _passages(task)]
    read = sum(_tokens(passage.prompt) for passage in passages)
    written = sum(_tokens(passage.text) for passage in passages)
    priced = price_in is not None and price_out is not None
    cost = (read * (price_in or 0) + written * (price_out or 0)) / 1e6 if priced else None
    return {
        "prompts": [passage.prompt for passage in passages],
        "requests": len(passages),
        "tokens": read + written,
        "prompt_tokens": read,
        "answer_tokens": written,
        "cost": cost,
    }


def richer(stream: Stream, teacher: Writer) -> Stream:
    """The stream with the teacher's passages where they say what the plain ones say; `about` counts them."""
    passages = list(dict.fromkeys(passage for task in stream.tasks for passage in _passages(task)))
    longest = max((_tokens(passage.text) for passage in passages), default=0)
    texts = teacher([passage.prompt for passage in passages], max_new_tokens=int(LONGER * longest) + 32)
    written = {
        passage.text: text
        for passage, given in zip(passages, texts, strict=True)
        if _says_it_all(text := " ".join(given.split()), passage)
    }
    about = {**stream.about, "passages": len(passages), "passages by a teacher": len(written)}
    return replace(stream, tasks=tuple(_with(task, written) for task in stream.tasks), about=about)


def _passages(task: Task) -> Iterator[_Passage]:
    """The paragraphs that are asked about, with what each has to say."""
    asked: dict[str, list[Probe]] = {}
    for probe in task.probes:
        asked.setdefault(probe.context, []).append(probe)
    for text in task.document.text.split("\n\n"):
        facts = [(probe.fact, probe.as_of) for probe in asked.get(text, ()) if probe.fact]
        if facts:
            subjects = {fact.subject: None for fact, _ in facts}
            values = [fact.value for fact, _ in facts]
            # A fact that is studied and not asked about must not get lost either.
            values += [item.answer for item in task.document.items if any(name in item.question for name in subjects)]
            names = (*subjects, *dict.fromkeys(spoken(date) for _, date in facts if date))
            yield _Passage(text, names, tuple(value for value in dict.fromkeys(values) if value not in subjects))


def _says_it_all(text: str, passage: _Passage) -> bool:
    """Every name, and every value as often as the plain passage says it."""
    said, plain = f" {normalise(text)} ", f" {normalise(passage.text)} "
    return all(f" {normalise(name)} " in said for name in passage.names) and all(
        said.count(span) == plain.count(span) for span in (f" {normalise(value)} " for value in passage.values)
    )


def _with(task: Task, written: dict[str, str]) -> Task:
    text = "\n\n".join(written.get(paragraph, paragraph) for paragraph in task.document.text.split("\n\n"))
    probes = tuple(replace(probe, context=written.get(probe.context, probe.context)) for probe in task.probes)
    return replace(task, document=replace(task.document, text=text), probes=probes)


def _tokens(text: str) -> int:
    return -(-len(text) // CHARACTERS_A_TOKEN)
