"""A trivial stream for tests: every task is one line that maps a word to another. Anything that learns, learns it."""

from __future__ import annotations

import itertools
import random

from accrete.evaluate.streams import Options, Stream, Task
from accrete.types import Document, Example, Probe

OPTIONS = {"lessons": "tasks [3]", "facts": "words a task [2]", "limit": "questions in all"}
WORDS = "amber basil cedar delta ember fjord grove heron inlet jetty kiosk linen maple nacre ochre pearl".split()
# None of the words themselves, so that nobody is right who repeats the question.
OTHERS = """anchor bottle candle drawer engine feather glacier hammer island jacket kettle ladder mirror needle orchard
    pocket quarry ribbon saddle tunnel umbrella violin window yoghurt""".split()


def make(options: Options) -> Stream:
    """`lessons` tasks (3) of `facts` words (2): "The word for amber 0-0 is candle." No answer twice while there are others."""
    draw, tasks = random.Random(options.seed), []
    count, left = options.facts or 2, options.limit
    answers = itertools.cycle(draw.sample(OTHERS, len(OTHERS)))
    for number in range(options.lessons or 3):
        pairs = [(f"{draw.choice(WORDS)} {number}-{i}", next(answers)) for i in range(count)]
        said = {word: f"The word for {word} is {other}." for word, other in pairs}
        items = tuple(Example(f"What is the word for {word}?", other) for word, other in pairs)
        probes = tuple(Probe(f"Which word stands for {word}?", (other,), said[word]) for word, other in pairs)[:left]
        left = None if left is None else left - len(probes)
        name = f"words {number + 1}"
        tasks.append(Task(name, Document(name, " ".join(said.values()), items), probes))
    return Stream("identity", tuple(tasks), about={"words": len(WORDS)})
