"""Synthetic TemporalWiki: fictional facts that change from 2018 to 2024, asked as of each period; or such data from files.

The protocol is that of METHODS 4. Of `facts` (subject, relation) pairs a quarter, drawn anew, gets another value at each later
period. The document of a period states every fact once as it then is, those that did not change as well (as the paper's
does): a paragraph a subject. After each, every fact is asked as of that period, half by the paper's sentence to finish
("[2020] The mayor of S is"), half by a question in held-out wordings; the study items are in two other, taught wordings.
Probes are "changed" or "unchanged" since the period before, and "new" in the first, which counts as neither.
What was forgotten shows in the probes of earlier periods: "As of 2018" after 2024 was learned.

`limit` asks about so many facts in all, and draws no more where `facts` does not say how many. `data` is a folder of one of:
  one's own      facts, passages and probes, each .jsonl or .json, as `accrete stream temporal --out` writes them. Study items
                 are those of an items file, else two plain questions about each fact that holds, in no probe's wording
  TemporalWiki   twiki_probes/0801-0901_changed.csv and .._unchanged.csv and so on: subject, relation, object; and if there are
                 any TWiki_Diffsets/wikipedia_0809_gpt2.csv: text. Probes are "subject relation"; two plain questions about
                 each changed triple are studied, unchanged ones are asked alone
  StreamingQA    streaminqa_eval.jsonl(.gz): question, answers, question_ts, evidence_ts (seconds), evidence_id,
                 recent_or_past; and if there is one wmt_docs.jsonl(.gz): sorting_key, text. The study item is the question
                 after the date of its evidence, since the set words each once
A file that does not fit is named with its line. `_temporal_files.py` and `_published.py` say more.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from accrete.data.world import STUDY, World, relations
from accrete.errors import UsageError
from accrete.evaluate.streams import Options, Stream, Task, _published
from accrete.evaluate.streams._temporal_files import is_folder_of_them, kind_of, read, stream_of, write
from accrete.evaluate.streams.world import strangers
from accrete.scoring import contains
from accrete.types import Document, Example, Fact, Probe

__all__ = ["make", "read", "write"]

OPTIONS = {
    "lessons": "periods, the oldest first [4]",
    "facts": "facts in all [600]; not with facts, passages and probes of your own",
    "limit": "facts asked about in all",
    "data": "a folder of facts, passages and probes files, or TemporalWiki or StreamingQA as published (above)",
}
FACTS, PERIODS, FIRST, APART = 600, 4, 2018, 2  # years
SHARE = 0.25  # of the facts changes at a period
SEED = 18_000  # another world than those of training (0), `evaluate-base` (4,711) and the stream "world" (9,000)


def make(options: Options) -> Stream:
    """Four periods of 600 facts (`lessons`, `facts`), or what lies in `data`."""
    if options.data and not is_folder_of_them(options.data):
        return _published.read(options.data, options)
    if options.data and options.facts:
        raise UsageError("The files in --data say how many facts there are; --limit asks about fewer, not --facts.")
    whole = read(options.data) if options.data else stream_of(_drawn(options))
    return stream_of(_asked_of(whole.tasks[: options.lessons], options.limit), whole.about["items"])


def _drawn(options: Options) -> list[Task]:
    world = World(SEED + options.seed)
    periods = [str(FIRST + APART * number) for number in range(options.lessons or PERIODS)]
    facts = _changing(world, options.facts or min(FACTS, options.limit or FACTS))
    histories = timelines(world, facts, periods)
    return [_task(world, periods, number, [history[number] for history in histories]) for number in range(len(periods))]


def _changing(world: World, count: int) -> list[Fact]:
    """The first value of `count` pairs of a subject and a relation that can change, by subject."""
    facts = (fact for entity in strangers(world) for fact in entity.facts if relations()[fact.relation].changes)
    return list(itertools.islice(facts, count))


def timelines(world: World, facts: Sequence[Fact], periods: Sequence[str]) -> list[list[Fact]]:
    """Of every fact what holds in each period, with its half-open interval."""
    values = [[fact.value] for fact in facts]
    for _ in periods[1:]:
        changing = set(world.random.sample(range(len(facts)), round(SHARE * len(facts))))
        for number, (fact, said) in enumerate(zip(facts, values, strict=True)):
            said.append(_another(world, fact.relation, said) if number in changing else said[-1])
    return [_dated(fact, said, periods) for fact, said in zip(facts, values, strict=True)]


def _another(world: World, relation: str, before: Sequence[str]) -> str:
    """A value that was not there before, and that no answer with an earlier one could be taken for, while there are some."""
    for _ in range(100):
        value = world.value(relation, other_than=before[-1])
        if not any(contains(value, earlier) or contains(earlier, value) for earlier in before):
            break
    return value


def _dated(fact: Fact, values: Sequence[str], periods: Sequence[str]) -> list[Fact]:
    changes = [0, *(number for number in range(1, len(values)) if values[number] != values[number - 1]), len(values)]
    return [
        replace(
            fact,
            value=values[start],
            valid_from=periods[start],
            valid_until=periods[end] if end < len(values) else None,
        )
        for start, end in itertools.pairwise(changes)
        for _ in range(start, end)
    ]


def _task(world: World, periods: Sequence[str], number: int, facts: Sequence[Fact]) -> Task:
    period = periods[number]
    paragraphs: list[str] = []
    probes: list[Probe] = []
    for _, group in itertools.groupby(facts, key=lambda fact: fact.subject):
        of_subject = list(group)
        paragraphs.append(" ".join(world.moment(replace(fact, valid_from=period)) for fact in of_subject))
        for fact in of_subject:
            to_finish = len(probes) % 2 == 0
            asked = world.complete(fact, period) if to_finish else world.ask_as_of(fact, period, held_out=True)
            kind = kind_of(fact.valid_from == period, first=number == 0)
            probes.append(Probe(asked, (fact.value,), paragraphs[-1], fact, kind, period))
    taken = {probe.question for probe in probes}
    items = [item for fact in facts for item in _items(world, fact, period, taken)]
    return Task(period, Document(f"temporal {period}", "\n\n".join(paragraphs), tuple(items)), tuple(probes), (period,))


def _items(world: World, fact: Fact, period: str, taken: set[str]) -> list[Example]:
    """The fact asked as of the period in two wordings that no probe has."""
    first = second = world.question(replace(fact, valid_from=period), STUDY[0])
    while second == first or second in taken:
        second = world.ask_as_of(fact, period)
    return [Example(first, fact.value), Example(second, fact.value)]


def _asked_of(tasks: Sequence[Task], limit: int | None) -> list[Task]:
    """The tasks with probes about the first `limit` pairs of subject and relation alone; documents stay whole."""
    pairs = dict.fromkeys((p.fact.subject, p.fact.relation) for task in tasks for p in task.probes if p.fact)
    kept = set(itertools.islice(pairs, limit))
    return [
        replace(task, probes=tuple(p for p in task.probes if p.fact and (p.fact.subject, p.fact.relation) in kept))
        for task in tasks
    ]
