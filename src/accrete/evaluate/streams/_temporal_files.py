"""Facts that change over time as files: write a stream of them, read it back, or read other data of that shape.

A folder holds, each as .jsonl (an object a line) or as .json (a list, or lists in objects by period):
  facts      subject, relation, value, valid_from, valid_until
  passages   timestamp, text, and the subject where a passage is about one; in {"2020": ["...", ...]} a text alone will do.
             An empty text is a period of which only the questions are known
  probes     prompt, ground_truth, subject, relation, current_value, previous_value, valid_from, valid_until, timestamp,
             is_changed; {"2020": {"changed": [...], "unchanged": [...]}} says the timestamp and is_changed by its keys.
             context and kind, where they are others than the passages, the periods and is_changed make them
  items      timestamp, question, answer: what is studied. May be missing: then it is made of the facts that hold.
Dates are ISO. `previous_value` is what held before the current value, null where nothing is known to have.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accrete.dates import spoken
from accrete.errors import DocumentError, HomeError, UsageError
from accrete.evaluate.streams import Stream, Task
from accrete.evaluate.streams._rows import date_of, objects, records, shown, text_of
from accrete.files import write_atomically
from accrete.types import Document, Example, Fact, Probe

NAMES = ("facts", "passages", "probes")
Told = Mapping[tuple[str, str], list[str]]
"""The passages by period and subject; the subject is empty for those that are about no single one."""

GIVEN = "given, in wordings that no probe has"
MADE = "two plain questions about each fact that holds, made, as there is no items file"


def stream_of(tasks: Iterable[Task], items: str = GIVEN) -> Stream:
    """Tasks, one a period, as a stream; what it says about itself it counts. `items` says how they came about."""
    tasks = tuple(tasks)
    about = {
        "periods": [task.name for task in tasks],
        "facts": len({(p.fact.subject, p.fact.relation) for task in tasks for p in task.probes if p.fact}),
        "changed": {task.name: sum(probe.kind == "changed" for probe in task.probes) for task in tasks},
        "items": items,
        "protocol": "every period's document states every fact once (METHODS 4)",
    }
    return Stream("temporal", tasks, about=about)


def kind_of(is_changed: bool, first: bool) -> str:
    """Of a probe. In the first period nothing has changed and nothing has stayed."""
    return "new" if first else "changed" if is_changed else "unchanged"


# --- writing --------------------------------------------------------------------------------------------------------


def write(stream: Stream, folder: Path) -> None:
    """The four files. Raises UsageError for a stream of something else than dated facts, HomeError where they cannot be."""
    probes = [(probe, probe.fact) for task in stream.tasks for probe in task.probes]
    if not all(fact and probe.as_of for probe, fact in probes):
        raise UsageError(f'The stream "{stream.name}" has no dated facts to write.')
    facts = list(dict.fromkeys(fact for _, fact in probes if fact))
    before = _ended(facts)
    told = _by_subject({task.name: _told(task) for task in stream.tasks})
    first = min((task.name for task in stream.tasks), default="")
    tables: dict[str, Iterable[dict[str, Any]]] = {
        "facts": map(asdict, facts),
        "passages": (
            {"timestamp": task.name, "subject": subject or None, "text": text}
            for task in stream.tasks
            for subject, text in _told(task)
        ),
        "probes": (_probe_row(p, fact, before) | _unlike(p, fact, told, first) for p, fact in probes if fact),
        "items": (
            {"timestamp": task.name, "question": item.question, "answer": item.answer}
            for task in stream.tasks
            for item in task.document.items
        ),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in tables.items():
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            write_atomically(folder / f"{name}.jsonl", lambda path, lines=lines: _save(path, lines))  # type: ignore[misc]
    except OSError as error:
        raise HomeError(f"Cannot write into {shown(folder)}: {error.strerror}.") from None


def _ended(facts: Iterable[Fact]) -> dict[tuple[str, str, str], str]:
    """(subject, relation, date) -> the value that ended at that date."""
    return {(fact.subject, fact.relation, fact.valid_until): fact.value for fact in facts if fact.valid_until}


def _save(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _told(task: Task) -> list[tuple[str, str]]:
    """(subject or nothing, text) of its passages; one that answers for several subjects is about none of them."""
    subjects: dict[str, set[str]] = {}
    for probe in task.probes:
        if probe.fact and probe.context:
            subjects.setdefault(probe.context, set()).add(probe.fact.subject)
    alone = {text: next(iter(found)) for text, found in subjects.items() if len(found) == 1}
    return [(alone.get(text, ""), text) for text in task.document.text.split("\n\n")]


def _unlike(probe: Probe, fact: Fact, told: Told, first: str) -> dict[str, str]:
    """What a reader could not tell from the other fields."""
    period = probe.as_of or ""
    made = {"context": _context(told, period, fact), "kind": kind_of(probe.kind == "changed", first=period == first)}
    return {key: mine for key, other in made.items() if (mine := getattr(probe, key)) != other}


def _probe_row(probe: Probe, fact: Fact, before: Mapping[tuple[str, str, str], str]) -> dict[str, Any]:
    return {
        "prompt": probe.question,
        "ground_truth": probe.answers[0],
        "subject": fact.subject,
        "relation": fact.relation,
        "current_value": fact.value,
        "previous_value": before.get((fact.subject, fact.relation, fact.valid_from or "")),
        "valid_from": fact.valid_from,
        "valid_until": fact.valid_until,
        "timestamp": probe.as_of,
        "is_changed": probe.kind == "changed",
    }


# --- reading --------------------------------------------------------------------------------------------------------


def is_folder_of_them(path: Path) -> bool:
    """Whether any of the three files is there."""
    return any((path / f"{name}{suffix}").exists() for name in NAMES for suffix in (".jsonl", ".json"))


def read(folder: Path) -> Stream:
    """The stream of a folder, a task a period. DocumentError names the file and the line of what is wrong."""
    facts = [_fact(row, where, "value") for row, where in objects(_file(folder, "facts"))]
    passages = _passages(_file(folder, "passages"))
    periods = sorted(passages)
    probes = _probes(_file(folder, "probes"), passages, periods[0])
    given = any((folder / f"items{suffix}").exists() for suffix in (".jsonl", ".json"))
    items = _items(_file(folder, "items")) if given else {}
    tasks = []
    for period in periods:
        text = "\n\n".join(said for _, said in passages[period])
        asked = tuple(probes.get(period, ()))
        studied = items.get(period, []) if given else items_of(facts, period, {probe.question for probe in asked})
        tasks.append(Task(period, Document(f"temporal {period}", text, tuple(studied)), asked, (period,)))
    return stream_of(tasks, GIVEN if given else MADE)


def items_of(facts: Sequence[Fact], period: str, taken: Iterable[str] = ()) -> list[Example]:
    """Two questions about each fact that holds in the period, in plain wordings other than those `taken`."""
    items = []
    for fact in facts:
        if (fact.valid_from or "") <= period and (fact.valid_until is None or period < fact.valid_until):
            n, s, t = fact.relation, fact.subject, spoken(period)
            asked = (f"As of {t}, what is the {n} of {s}?", f"What was {s}'s {n} in {t}?")
            items += [Example(question, fact.value) for question in asked if question not in taken]
    return items


def _file(folder: Path, name: str) -> Path:
    for suffix in (".jsonl", ".json"):
        if (path := folder / f"{name}{suffix}").exists():
            return path
    raise DocumentError(f"There is no {name}.jsonl or {name}.json in {shown(folder)}.")


def _fact(row: dict[str, Any], where: str, value: str) -> Fact:
    start, end = date_of(row, "valid_from", where), date_of(row, "valid_until", where)
    if start and end and end <= start:
        raise DocumentError(f'{where}: "valid_until" ({end}) is not after "valid_from" ({start}).')
    subject, relation = text_of(row, "subject", where), text_of(row, "relation", where)
    return Fact(subject, relation, text_of(row, value, where), start, end)


def _period(row: dict[str, Any], keys: Sequence[str], where: str) -> str:
    """Its timestamp, or the key of its list."""
    if not (period := date_of({"timestamp": row.get("timestamp", next(iter(keys), None))}, "timestamp", where)):
        raise DocumentError(f'{where}: "timestamp" is missing.')
    return period


def _passages(path: Path) -> dict[str, list[tuple[str, str]]]:
    """(subject or nothing, text) of every period."""
    found: dict[str, list[tuple[str, str]]] = {}
    for keys, entry, where in records(path):
        row = {"text": entry} if isinstance(entry, str) else entry
        if not isinstance(row, dict):
            raise DocumentError(f"{where} is neither a text nor an object with one.")
        told = row.get("text") != ""  # an empty one is a period of which only the questions are known
        said = (text_of(row, "subject", where, default=""), text_of(row, "text", where) if told else "")
        found.setdefault(_period(row, keys, where), []).append(said)
    if not found:
        raise DocumentError(f"{shown(path)} holds no passage.")
    return found


def _probes(path: Path, passages: Mapping[str, list[tuple[str, str]]], first: str) -> dict[str, list[Probe]]:
    told = _by_subject(passages)
    found: dict[str, list[Probe]] = {}
    for keys, row, where in records(path):
        if not isinstance(row, dict):
            raise DocumentError(f"{where} is no object.")
        period, fact = _period(row, keys, where), _fact(row, where, "current_value")
        if period not in passages:
            raise DocumentError(f"{where} asks about {period}, for which there are no passages.")
        if period < (fact.valid_from or "") or (fact.valid_until and period >= fact.valid_until):
            raise DocumentError(f'{where}: the "timestamp" {period} lies outside of the fact\'s interval.')
        changed = row.get("is_changed", keys[-1] == "changed" if keys else None)
        if not isinstance(changed, bool):
            raise DocumentError(f'{where}: "is_changed" is neither true nor false.')
        context = text_of(row, "context", where, default=_context(told, period, fact))
        question, truth = text_of(row, "prompt", where), text_of(row, "ground_truth", where)
        kind = text_of(row, "kind", where, default=kind_of(changed, first=period == first))
        found.setdefault(period, []).append(Probe(question, (truth,), context, fact, kind, period))
    if not found:
        raise DocumentError(f"{shown(path)} holds no probe.")
    return found


def _by_subject(passages: Mapping[str, Iterable[tuple[str, str]]]) -> Told:
    found: dict[tuple[str, str], list[str]] = {}
    for period, said in passages.items():
        for subject, text in said:
            found.setdefault((period, subject), []).append(text)
    return found


def _context(told: Told, period: str, fact: Fact) -> str:
    """The passages about the fact's subject, else those about nobody that name it."""
    subject = fact.subject.lower()
    texts = told.get((period, fact.subject)) or [t for t in told.get((period, ""), ()) if subject in t.lower()]
    return " ".join(texts)


def _items(path: Path) -> dict[str, list[Example]]:
    """By period; an empty file says that nothing is studied."""
    found: dict[str, list[Example]] = {}
    if not path.stat().st_size:
        return found
    for keys, row, where in records(path):
        if not isinstance(row, dict):
            raise DocumentError(f"{where} is no object.")
        item = Example(text_of(row, "question", where), text_of(row, "answer", where))
        found.setdefault(_period(row, keys, where), []).append(item)
    return found
