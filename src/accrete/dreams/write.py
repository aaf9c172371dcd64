"""What a model writes about passages: questions and answers, and sentences said otherwise. Ends at what it wrote, unjudged.

A writer is anything that takes prompts to texts: the model itself (below), or a teacher (teacher.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from accrete.errors import UsageError
from accrete.lm import decode
from accrete.lm.model import LM
from accrete.lm.prompts import prompt_ids
from accrete.lm.tasks import RESTATE, REVERSE, WRITE_QUESTIONS, prompt, read_pairs
from accrete.scoring import contains, normalise
from accrete.types import Example

ROWS = 64  # of one batch
POSITIONS = 24_000  # of the keys and values of one batch
TRIAL_TOKENS = 24  # within which a model that writes questions has begun with one
_BEGINS = re.compile(r"^\W*q(uestion)?\W*:", re.IGNORECASE | re.MULTILINE)
SHARP = 1e6  # a difference of a thousandth between two logits decides
NEWS = 0.2  # share of new answers up to which a round was the last


class Writer(Protocol):
    """Writes a text after every prompt: greedily where its temperature is 0 (or none is given), else drawn by `seed`."""

    name: str

    def __call__(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperatures: Sequence[float] = (), seed: int = 0
    ) -> list[str]: ...


class ModelWriter:
    """The model as it is now, in batches of prompts of similar length. One too long for it gets an empty text."""

    def __init__(self, lm: LM):
        self.lm, self.name = lm, lm.name

    def __call__(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperatures: Sequence[float] = (), seed: int = 0
    ) -> list[str]:
        with self.lm.in_bfloat16():
            return self._write(prompts, max_new_tokens, temperatures, seed)

    def _write(
        self, prompts: Sequence[str], max_new_tokens: int, temperatures: Sequence[float], seed: int
    ) -> list[str]:
        ids = [self._ids(text) for text in prompts]
        left = sorted((i for i in range(len(ids)) if ids[i]), key=lambda i: len(ids[i]))
        written = [""] * len(prompts)
        generator = torch.Generator().manual_seed(seed)
        tempered = {temperature: _tempered(temperature) for temperature in sorted(set(temperatures))}
        while left:
            room = POSITIONS // (len(ids[left[-1]]) + max_new_tokens)
            rows = left[-max(1, min(ROWS, room)) :]
            del left[-len(rows) :]
            texts = decode.generate(
                self.lm,
                [ids[i] for i in rows],
                min(max_new_tokens, self.lm.context_length - len(ids[rows[-1]])),
                temperature=1.0 if tempered else 0.0,
                generator=generator,
                conditionings=[tempered[temperatures[i]] for i in rows] if tempered else (),
            )
            for i, tokens in zip(rows, texts, strict=True):
                written[i] = str(self.lm.tokenizer.decode(tokens, skip_special_tokens=True)).strip()
        return written

    def _ids(self, text: str) -> list[int]:
        try:
            return prompt_ids(self.lm, text, reserve=1)
        except UsageError:
            return []


def _tempered(temperature: float) -> decode.Conditioning:
    """Rows of one batch may be drawn at temperatures of their own; at 0 one token has all the weight."""
    scale = 1 / temperature if temperature > 0 else SHARP
    return decode.Conditioning(process=lambda hidden_BD, logits_BV, beside: logits_BV * scale)


def can_write(passages: Sequence[str], writer: Writer) -> bool:
    """Whether the writer begins with a question about any of these passages: a model that was never taught to babbles."""
    texts = writer([prompt(WRITE_QUESTIONS, passage) for passage in passages], max_new_tokens=TRIAL_TOKENS)
    return any(_BEGINS.search(text) for text in texts)


def write_questions(
    passages: Sequence[str],
    writer: Writer,
    *,
    max_new_tokens: int,
    rounds: int,
    samples: int,
    temperature: float,
    seed: int,
) -> list[list[Example]]:
    """The question/answer pairs written about each passage, the greedy ones first.

    Of each passage a text of questions and one of reverse questions are written greedily, and `samples` and half as many
    drawn, all in one batch; then as many are drawn again, at most `rounds` times, for passages that still give something new.
    """
    written: list[list[Example]] = [[] for _ in passages]
    drawn = [(WRITE_QUESTIONS, temperature)] * samples + [(REVERSE, temperature)] * (samples // 2)
    greedy = [(WRITE_QUESTIONS, 0.0), (REVERSE, 0.0)]
    asked = list(range(len(passages)))
    for number in range(rounds + 1):
        tasks = drawn if number else greedy + drawn
        rows = [(i, *task) for task in tasks for i in asked]
        texts = writer(
            [prompt(task, passages[i]) for i, task, _ in rows],
            max_new_tokens=max_new_tokens,
            temperatures=[warmth for *_, warmth in rows],
            seed=seed + number,
        )
        known = {i: _answers(written[i], passages[i]) for i in asked}
        for (i, *_, warmth), text in zip(rows, texts, strict=True):
            written[i] += read_pairs(text)
            if not warmth:
                known[i] = _answers(written[i], passages[i])
        news = {i: len(_answers(written[i], passages[i]) - known[i]) for i in asked}
        asked = [i for i in asked if news[i] > NEWS * len(known[i])]
        if not asked:
            break
    return written


def _answers(pairs: Sequence[Example], passage: str) -> set[str]:
    """The answers that stand in the passage: of making others up there is no end."""
    return {normalise(pair.answer) for pair in pairs if contains(passage, pair.answer)}


def restate(sentences: Sequence[str], writer: Writer, longest: Callable[[str], int]) -> list[str]:
    """Each sentence in other words; `longest` is how many tokens a sentence has."""
    if not sentences:
        return []
    most = 16 + 2 * max(longest(sentence) for sentence in sentences)
    return writer([prompt(RESTATE, sentence) for sentence in sentences], max_new_tokens=most)
