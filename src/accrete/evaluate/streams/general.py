"""What must not be lost while a few lessons are learned: arithmetic, code, further sets of your own, and held-out text.

The tasks are those of `world`, four of them, so that there is something to lose it to. Kept beside them:
  arithmetic   sums and products, drawn
  code         the next word of a few lines of Python, drawn
  lm_eval's    every task in a folder that `data` names (`_lm_eval.py`; extra `eval`), as a set under its name
  texts        pieces of books and articles that training left out, in the data folder (`data`, or ACCRETE_DATA) that holds
               text/openstax.jsonl.xz and text/wikipedia.jsonl.xz; without one there are none, and `about` says so
`limit` cuts every set. Nothing of this is taught, so what the base model cannot do counts for nothing.
"""

from __future__ import annotations

import itertools
import lzma
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from accrete.errors import DocumentError
from accrete.evaluate import real
from accrete.evaluate.streams import Options, Stream, _lm_eval, world
from accrete.evaluate.streams._files import shown
from accrete.evaluate.streams._limits import drawn
from accrete.types import Probe

LESSONS = 4
OPTIONS = {
    "lessons": "documents of `world` that are learned meanwhile [4]",
    "facts": "facts a document [20]",
    "limit": "questions about them in all, and at most so many of every set that is kept [50]",
    "data": "a folder of lm_eval's YAML tasks with their JSON (extra eval), or one with text/openstax.jsonl.xz and so on",
}
KEPT = 50  # questions of a set
TEXTS = 6  # pieces from each source: with the sentinels, about what drift is measured on (ask.DRIFT_ENTRIES)
THINGS = "apple basket candle door engine flower garden hammer island kettle lemon mirror needle orange pencil".split()


def make(options: Options) -> Stream:
    """`lessons` tasks of `facts` facts, as `world` has them. DocumentError for data that holds nothing of use."""
    taught = world.make(options.model_copy(update={"lessons": options.lessons or LESSONS}))
    count = min(KEPT, options.limit or KEPT)
    keep = {
        "arithmetic": _distinct(sums_and_products, f"{options.seed}:arithmetic", count),
        "code": _distinct(next_words, f"{options.seed}:code", count),
    }
    source = next((folder for folder in _folders(options.data) if has_texts(folder)), None)
    if options.data and not options.data.exists():
        raise DocumentError(f"There is no data at {shown(options.data)}.")
    if options.data and _lm_eval.is_folder_of_them(options.data):
        for name, probes in _lm_eval.read(options.data).items():
            if name in keep:
                raise DocumentError(f'{shown(options.data)}: a task cannot be named "{name}", which is a set already.')
            keep[name] = tuple(drawn(probes, count, f"{options.seed}:{name}"))
    elif options.data and source != options.data:
        raise DocumentError(f"{shown(options.data)} holds neither texts ({_wanted()}) nor tasks of lm_eval (.yaml).")
    texts = held_out(source, min(TEXTS, options.limit or TEXTS)) if source else ()
    about = dict(taught.about) | {
        "sets": {name: len(probes) for name, probes in keep.items()},
        "texts": f"{len(texts)} pieces of {', '.join(real.TEXTS)}, held out from training"
        if texts
        else f"none: no folder with {_wanted()} in --data or ACCRETE_DATA",
    }
    return Stream("general", taught.tasks, keep, taught.score, about, texts)


# --- held-out text --------------------------------------------------------------------------------------------------


def _folders(data: Path | None) -> list[Path]:
    named = os.environ.get("ACCRETE_DATA")
    return [folder for folder in (data, Path(named) if named else None) if folder]


def has_texts(folder: Path) -> bool:
    return all((folder / name).exists() for name in real.TEXTS.values())


def held_out(folder: Path, count: int) -> tuple[str, ...]:
    """`count` pieces of every source, the sources in turn."""
    try:
        piles = [real.pieces(folder, name, count) for name in real.TEXTS]
    except (ValueError, KeyError, TypeError, EOFError, lzma.LZMAError) as error:
        raise DocumentError(f"The texts in {shown(folder)} ({_wanted()}) are damaged: {error}.") from None
    return tuple(text for pieces in itertools.zip_longest(*piles) for text in pieces if text is not None)


def _wanted() -> str:
    return " and ".join(real.TEXTS.values())


# --- what is drawn --------------------------------------------------------------------------------------------------


def _distinct(draw: Callable[[random.Random], Iterator[Probe]], seed: str, count: int) -> tuple[Probe, ...]:
    """The first `count` that differ."""
    probes: dict[str, Probe] = {}
    for probe in draw(random.Random(seed)):
        probes.setdefault(probe.question, probe)
        if len(probes) == count:
            break
    return tuple(probes.values())


def sums_and_products(draw: random.Random) -> Iterator[Probe]:
    """Without end: sums of two numbers below 100 and products within the table of twelve, by turns."""
    while True:
        first, second = draw.randint(11, 99), draw.randint(2, 99)
        yield Probe(f"What is {first} plus {second}?", (str(first + second),), kind="sum")
        first, second = draw.randint(2, 12), draw.randint(2, 12)
        yield Probe(f"What is {first} times {second}?", (str(first * second),), kind="product")


def next_words(draw: random.Random) -> Iterator[Probe]:
    """Without end: lines of Python that only one word goes on from, with names that change.

    No answer is an operator or an article: scoring leaves those out.
    """
    while True:
        one, other, third = draw.sample(THINGS, 3)
        lines = _lines(one, other, third, draw.randint(2, 99))
        for code, *words in draw.sample(lines, len(lines)):
            yield Probe(f"Which word comes next in this Python code?\n\n{code}", tuple(words), kind="code")


def _lines(one: str, other: str, third: str, number: int) -> list[tuple[str, ...]]:
    """(code, the word after it, another that will do)."""
    return [
        (f"for {one}", "in"),
        (f"{one}s = [{number}, {number + 1}]\nfor {one} in", f"{one}s"),
        (f"total = 0\nfor {one} in {one}s:\n    total +=", one),
        (f"def twice({one}):\n    return {one} * 2\n\ndef next_{other}({other}):\n   ", "return"),
        (f"class {one.title()}:\n    def {other}(", "self"),
        (f'with open("{one}.txt")', "as"),
        (f"from {one}", "import"),
        (f"try:\n    {one} = {other}[{number}]\n", "except", "finally"),
        (f"{other} = {one} if {one} > {number}", "else"),
        (f"{one} = {number}\n{other} = {one} + 1\nprint({other})\n{third} = {other} + {one}\nprint(", third),
    ]
