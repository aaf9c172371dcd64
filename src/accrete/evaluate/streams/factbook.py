"""Real dated facts of countries, some of which change from snapshot to snapshot: The World Factbook.

A lesson is a snapshot, the oldest first (`lessons`: the first so many). It states the same `facts` pairs of country and
relation (200 in all), half of them such as change, where there are so many. A statement is what the country document's own
line says up to the end of the value, after the relation, the country and the day, because the documents themselves are tens
of thousands of characters each and their headings ("Executive branch - chief of state") are no language; a pair whose value
does not stand in its line in every snapshot used is left out, and so is one without a tidy answer. Probes ask by year,
study items by day and in other words. Kind: "new" in the first snapshot, then "changed" or "unchanged" since the one
before; another spelling is no change. The limit counts probes, and what it leaves out is not taught either, nor is a snapshot
for which it has no probe.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path

from accrete.errors import DocumentError
from accrete.evaluate.streams import Options, Stream, Task
from accrete.evaluate.streams import _country_values as values
from accrete.evaluate.streams import _files as files
from accrete.evaluate.streams._limits import counted, evenly, shuffled
from accrete.types import Document, Example, Fact, Probe

FILES = ("eval/world_factbook_facts.jsonl.xz",)
DOCUMENTS = "world_factbook_documents_*.jsonl*"
FACTS = 200
OPTIONS = {
    "lessons": "snapshots, the oldest first [3]",
    "facts": "pairs of country and relation, asked in every snapshot [200]",
    "limit": "questions in all",
    "data": "world_factbook_facts.jsonl(.xz) with world_factbook_documents_DATE.jsonl(.xz) beside it",
}
WORDINGS = {  # of the probe, after "As of 2020, ", and of the study item, after "On 27 November 2020, "
    "chief of state": ("who is the chief of state of {}?", "who held the office of chief of state in {}?"),
    "head of government": ("who is the head of government of {}?", "who headed {}'s government?"),
    "capital": ("what is the capital of {}?", "which city was {}'s capital?"),
    "population": ("how many people live in {}?", "what was the population of {}?"),
    "government type": ("what type of government does {} have?", "how was the government of {} classed?"),
    "national holiday": ("on what day is {}'s national holiday?", "what was the date of the national holiday of {}?"),
    "independence": ("since when has {} been independent?", "what was the date of independence of {}?"),
}


@dataclass(frozen=True)
class Entry:
    """A value in one snapshot, in every right form, and what states it."""

    country: str
    relation: str
    day: str
    answers: tuple[str, ...]
    statement: str


def make(options: Options) -> Stream:
    path = files.located(options.data, *FILES)
    snapshots = _snapshots(path)
    count = counted(options.lessons, len(snapshots), len(snapshots), f"snapshots beside {path.name}")
    count = min(count, options.limit or count)
    days = list(snapshots)[:count]
    stated = _entries(path, {day: snapshots[day] for day in days})
    complete = [[found[day] for day in days] for found in stated.values() if len(found) == count]
    histories = [history for history in complete if _told_apart(history)]
    size = counted(options.facts, FACTS, len(histories), f"pairs of country and relation in {path.name}")
    if options.limit is not None:
        size = min(size, options.limit // count)
    chosen = _chosen(histories, size, options.seed)
    tasks = tuple(_task(day, [history[: place + 1] for history in chosen], path) for place, day in enumerate(days))
    about = {
        "file": path.name,
        "snapshots": days,
        "facts": len(chosen),
        "facts_that_change": sum(map(_changes, chosen)),
        "pairs_with_a_stated_tidy_value": len(histories),
        "documents": "the lines of the country documents that state these values",
    }
    return Stream("factbook", tasks, score="contains", about=about)


def _snapshots(path: Path) -> dict[str, Path]:
    """The country documents beside the facts by ISO date, the oldest first."""
    found = {
        match[0]: file for file in path.parent.glob(DOCUMENTS) if (match := re.search(r"\d{4}-\d\d-\d\d", file.name))
    }
    if not found:
        raise DocumentError(f"Beside {path} there are no world_factbook_documents_DATE.jsonl.xz.")
    return dict(sorted(found.items()))


def _entries(path: Path, snapshots: dict[str, Path]) -> dict[tuple[str, str], dict[str, Entry]]:
    """What the documents state, by country code and relation and by day."""
    lines = {day: _lines(file) for day, file in snapshots.items()}
    found: dict[tuple[str, str], dict[str, Entry]] = {}
    fields = dict.fromkeys(("entity", "code", "relation", "value", "snapshot"), str)
    for row in files.rows(path, fields):
        day, code, relation = row["snapshot"], row["code"], row["relation"]
        line = lines.get(day, {}).get((code, relation), "")
        answers = values.answers(relation, row["value"])
        if answers and row["value"] in line:
            end = line.index(row["value"]) + len(row["value"])
            since = re.match(r" \([^()]*\)", line[end:])
            told = line[: end + (since.end() if since else 0)].rstrip(".")
            about, said = relation[0].upper() + relation[1:], told.removeprefix(values.LABELS[relation])
            statement = f"{about} of {row['entity']} on {_spoken(day)}: {said}."
            found.setdefault((code, relation), {})[day] = Entry(row["entity"], relation, day, answers, statement)
    return found


def _lines(path: Path) -> dict[tuple[str, str], str]:
    """The line of every country's document that states a relation, by country code and relation."""
    found: dict[tuple[str, str], str] = {}
    for row in files.rows(path, {"code": str, "text": str}):
        for line in row["text"].splitlines():
            for relation, label in values.LABELS.items():
                if line.startswith(label):
                    found.setdefault((row["code"], relation), line)
    return found


def _same(before: Entry, after: Entry) -> bool | None:
    return values.same(before.relation, before.answers, after.answers)


def _told_apart(history: list[Entry]) -> bool:
    return all(_same(before, after) is not None for before, after in pairwise(history))


def _changes(history: list[Entry]) -> bool:
    return any(not _same(before, after) for before, after in pairwise(history))


def _chosen(histories: list[list[Entry]], size: int, seed: int) -> list[list[Entry]]:
    """`size` of them: as many that change as that do not, and of each the relations in turn, as far as they last."""
    order = shuffled(histories, f"{seed}")
    halves = [[history for history in order if _changes(history) == changes] for changes in (True, False)]
    chosen = []
    for half, share in zip(halves, evenly(size, list(map(len, halves))), strict=True):
        piles = [[history for history in half if history[0].relation == relation] for relation in WORDINGS]
        for pile, part in zip(piles, evenly(share, list(map(len, piles))), strict=True):
            chosen += pile[:part]
    return sorted(chosen, key=lambda history: (history[0].country, history[0].relation))


def _task(day: str, histories: list[list[Entry]], path: Path) -> Task:
    """The lesson of a day: histories up to it."""
    entries = [history[-1] for history in histories]
    items = tuple(Example(_question(entry, 1), entry.answers[0]) for entry in entries)
    text = "\n\n".join(entry.statement for entry in entries)
    return Task(
        f"Factbook {day}", Document(f"Factbook {day}", text, items, str(path)), tuple(map(_probe, histories)), (day,)
    )


def _probe(history: list[Entry]) -> Probe:
    entry = history[-1]
    kind = "new" if len(history) == 1 else "unchanged" if _same(history[-2], entry) else "changed"
    fact = Fact(entry.country, entry.relation, entry.answers[0], entry.day)
    return Probe(_question(entry, 0), entry.answers, entry.statement, fact, kind, entry.day)


def _question(entry: Entry, wording: int) -> str:
    when = f"On {_spoken(entry.day)}, " if wording else f"As of {entry.day[:4]}, "
    return when + WORDINGS[entry.relation][wording].format(entry.country)


def _spoken(day: str) -> str:
    """2020-11-27 as 27 November 2020."""
    told = date.fromisoformat(day)
    return f"{told.day} {told:%B %Y}"
