"""What a question has to do with a document, and with time: the wrong-document control, and which facts were superseded.

    related      a document learned before its own already speaks of what the question is about
    superseded   its answer no longer holds when the last lesson is over

"Learn B, ask A" wants a B that says nothing of A. In most streams the lessons before a question's own are that. Where they are
not (one lesson; periods of the same entities) a document of another seed is learned first, asked, and taken back, or else one
of the stream `world`, which knows of nothing but itself. Plain data; ends at a Task.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from accrete.errors import AccreteError
from accrete.evaluate import streams
from accrete.evaluate.streams import Options, Stream, Task
from accrete.scoring import normalise
from accrete.types import Document, Probe

SEEDS = 3  # other seeds of the stream that are tried
FACTS = 10  # of a document of `world`
BEFORE = "the lessons before its own"
OTHER = "world"


@dataclass(frozen=True)
class Control:
    """`task`: the document to learn, with those probes of the first lesson that have nothing to do with it.

    Without one either the lessons themselves will do, or `reason` says why there is none. `of` says in words what is learned.
    """

    task: Task | None = None
    of: str = ""
    reason: str = ""


def control(stream: Stream, options: Options) -> Control:
    """What is learned where nothing of this stream may be known."""
    known = [mark for marks in related(stream.tasks)[1:] for mark in marks]
    if known and 2 * sum(known) <= len(known):
        return Control(of=BEFORE)
    asked = stream.tasks[0].probes
    found = Control(reason="no document was found that says nothing of what the first lesson is asked")
    best = 0
    for name, other in _others(stream.name, options):
        said = _said(other.document)
        fair = tuple(probe for probe in asked if not _speaks_of(said, probe))
        if len(fair) > best:
            found, best = Control(Task(other.name, other.document, fair, other.dates), name), len(fair)
        if best and 2 * best >= len(asked):
            break
    return found


def related(tasks: Sequence[Task]) -> list[list[bool]]:
    """By task and probe: whether a document before its own speaks of it. In the first task none could be asked before."""
    found = [[True] * len(task.probes) for task in tasks[:1]]
    said = " "
    for before, task in itertools.pairwise(tasks):
        said += _said(before.document)
        found.append([_speaks_of(said, probe) for probe in task.probes])
    return found


def superseded(tasks: Sequence[Task]) -> list[list[bool]]:
    """By task and probe: whether what it asks about, as of its date, has another value at the last date that is asked about.

    Another spelling is no other value: some later probe of the same subject and relation must be "changed", and the last of
    them must accept none of its answers. Where no later one asks, the end of the fact's own interval decides.
    """
    histories: dict[tuple[str, str], list[Probe]] = {}
    for probe in (probe for task in tasks for probe in task.probes):
        if probe.fact and probe.as_of:
            histories.setdefault((probe.fact.subject, probe.fact.relation), []).append(probe)
    newest = max((probe.as_of or "" for history in histories.values() for probe in history), default="")

    def is_superseded(probe: Probe) -> bool:
        if not probe.fact or not probe.as_of:
            return False
        later = [p for p in histories[probe.fact.subject, probe.fact.relation] if (p.as_of or "") > probe.as_of]
        if not later:
            return probe.fact.valid_until is not None and probe.fact.valid_until <= newest
        last = max(later, key=lambda p: p.as_of or "")
        return any(p.kind == "changed" for p in later) and not _accepted(probe) & _accepted(last)

    return [[is_superseded(probe) for probe in task.probes] for task in tasks]


def _accepted(probe: Probe) -> set[str]:
    return set(map(normalise, probe.answers))


def _others(name: str, options: Options) -> Iterable[tuple[str, Task]]:
    """First lessons of the stream with other seeds, where it can be drawn anew; at last one of `world`."""
    for seed in range(options.seed + 1, options.seed + 1 + SEEDS):
        try:
            drawn = streams.make(name, options.model_copy(update={"seed": seed, "lessons": 1}))
        except AccreteError:  # data of which a lesson alone is nothing
            break
        if drawn.tasks:
            yield f"{name} with seed {seed}: {drawn.tasks[0].name}", drawn.tasks[0]
    (task, *_) = streams.make(OTHER, Options(seed=options.seed + SEEDS + 1, lessons=1, facts=FACTS)).tasks
    yield f"the stream {OTHER}: {task.name}", task


def _said(document: Document) -> str:
    """Everything that a document says, so that a name can be looked for on word boundaries."""
    return " ".join(["", *map(normalise, [document.text, *_studied(document)]), ""])


def _studied(document: Document) -> Iterable[str]:
    return (text for item in document.items for text in (item.question, item.answer, item.context))


def _speaks_of(said: str, probe: Probe) -> bool:
    """Whether the subject is named there; without a subject, any accepted answer. A question with neither is left out."""
    names = [probe.fact.subject] if probe.fact else probe.answers
    wanted = [name for name in map(normalise, names) if name]
    return not wanted or any(f" {name} " in said for name in wanted)
