"""A trivial stream for tests: every task is one line that maps a word to another. Anything that learns, learns it."""

from __future__ import annotations

import random

from accrete.evaluate.streams import Options, Stream, Task
from accrete.types import Document, Example, Probe

OPTIONS = {"lessons": "tasks [3]", "facts": "words a task [2]", "limit": "questions a task"}
WORDS = "amber basil cedar delta ember fjord grove heron inlet jetty kiosk linen maple nacre ochre pearl".split()


def make(options: Options) -> Stream:
    """`lessons` tasks (3) of `facts` words (2): "The word for amber is cedar."."""
    draw, tasks = random.Random(options.seed), []
    count = options.facts or 2
    for number in range(options.lessons or 3):
        pairs = [(f"{draw.choice(WORDS)} {number}-{i}", draw.choice(WORDS)) for i in range(count)]
        said = {word: f"The word for {word} is {other}." for word, other in pairs}
        items = tuple(Example(f"What is the word for {word}?", other) for word, other in pairs)
        probes = tuple(Probe(f"Which word stands for {word}?", (other,), said[word]) for word, other in pairs)
        name = f"words {number + 1}"
        tasks.append(Task(name, Document(name, " ".join(said.values()), items), probes[: options.limit]))
    return Stream("identity", tuple(tasks), about={"words": len(WORDS)})
