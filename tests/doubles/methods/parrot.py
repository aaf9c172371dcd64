"""A method without weights, for testing what measures methods: it says the answers that it was given, or wrong ones."""

from __future__ import annotations

import re
from collections import Counter
from typing import Literal

import torch

from accrete.config import Config as BaseConfig
from accrete.lm.decode import Conditioning
from accrete.lm.prompts import study_sequence
from accrete.methods.base import Method
from accrete.types import Report

_NAMED = re.compile(r"\w+ \d+-\d+")  # the word that an item or probe of the stream "identity" asks about


class ParrotConfig(BaseConfig):
    holds: Literal["all", "last", "nothing"] = "all"
    of: Literal["this", "other"] = "this"  # whose answers it gives: those of the question's own document or another's
    fails_at: int = 0


class Memory:
    def __init__(self):
        self.answers: dict[str, str] = {}

    def state_dict(self):
        return dict(self.answers)

    def load_state_dict(self, state):
        self.answers = dict(state)


class Counted:
    """How many lessons there were, as state that is undone with them."""

    def __init__(self):
        self.lessons = 0

    def state_dict(self):
        return {"lessons": self.lessons}

    def load_state_dict(self, state):
        self.lessons = state["lessons"]


def said_word_for_word(lm, question, answer):
    """A hand on the logits that writes this answer, once."""
    whole = study_sequence(lm, question, answer)
    ids = whole.ids[whole.target_from :]
    said: Counter[int] = Counter()

    def process(hidden_BD, logits_BV, beside):
        forced = torch.full_like(logits_BV, -30.0)
        for place in range(len(beside)):
            forced[place, ids[min(said["tokens"], len(ids) - 1)]] = 30.0
            said["tokens"] += 1
        return forced

    return Conditioning(process=process)


class Parrot(Method):
    """Repeats answers word for word."""

    Config = ParrotConfig
    parts = ("memory",)

    def __init__(self, lm, config):
        self.lm, self.config, self.memory = lm, config, Memory()
        self.lessons = 0

    def learn(self, lesson, progress):
        self.lessons += 1
        if self.lessons == self.config.fails_at:
            raise RuntimeError("the parrot is tired")
        if self.config.holds == "nothing":
            return Report()
        kept = self.memory.answers if self.config.holds == "all" else {}
        items = [(_NAMED.search(item.question)[0], item.answer) for item in lesson.items]
        if self.config.of == "other":  # what it says of a word is true of the next lesson's: known by heart, and wrong
            items = [(re.sub(r" (\d+)-", lambda m: f" {int(m[1]) + 1}-", word), answer) for word, answer in items]
        self.memory.answers = kept | dict(items)
        return Report(steps=1)

    def condition(self, queries):
        return [self._conditioning(query.question) for query in queries]

    def _conditioning(self, question):
        named = _NAMED.search(question)
        answer = self.memory.answers.get(named[0]) if named else None
        if answer is None:
            return Conditioning()
        return said_word_for_word(self.lm, question, answer)
