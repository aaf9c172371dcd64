"""TemporalWiki and StreamingQA in the layouts in which they were published. No stream by itself.

What is known of them: no file of either could be looked at where this was written.
- TemporalWiki, from the code of its authors (joeljang/temporalwiki, CHLee0801/TemporalWikiDatasets) and of others who read
  the archives: TWiki_Probes.zip holds twiki_probes/0801-0901_changed.csv and .._unchanged.csv for the months to 1201 of 2021,
  columns subject, relation and object ("objective" where the authors' code wrote it); TWiki_Diffsets.zip holds
  TWiki_Diffsets/wikipedia_0809_gpt2.csv (0910, 1011, 1112), one column, text. Sets made later with that code bear whole dates
  (20210801_20210901/updated/final_updated_item.csv) and have "updated" and "new" for changed. Tables, .json lists of triples
  and .jsonl are read. Unpack the archives into one folder.
- StreamingQA, from its README: streaminqa_train|valid|eval.jsonl.gz with qa_id, question, answers, answers_additional (not
  for scoring), question_ts, evidence_ts (UTC seconds), evidence_id, recent_or_past, written_or_generated. Its articles are to
  be made from WMT's by a script; there is no file of them. Where a wmt_docs.jsonl(.gz) of that script's attributes
  (sorting_key, text) lies beside, it is read.

What we make of them: a task is a month, or the year of the evidence. TemporalWiki's probe is its own "subject relation", to be
finished; the study items of the changed triples are two plain questions each; the text is those passages of the Diffset that
name subject and object of a triple that is asked, because a whole Diffset is no lesson. StreamingQA words each question once:
the item says the date before it and the probe does not, which is a weak difference.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from accrete.dates import spoken
from accrete.errors import DocumentError
from accrete.evaluate.streams import Options, Stream, Task
from accrete.evaluate.streams._limits import drawn, evenly
from accrete.evaluate.streams._rows import objects, records, shown, text_of, texts_of
from accrete.evaluate.streams._temporal_files import items_of
from accrete.types import Document, Example, Fact, Probe

_DATE = r"(\d{8}|\d{4})"
_PROBES = re.compile(
    rf"(?:^|/){_DATE}[-_]{_DATE}[_/](?:.*[_/])?(unchanged|changed|updated|new)(?:_item)?\.(csv|tsv|jsonl|json)$"
)
_DIFFSET = re.compile(r"wikipedia_(?:\d\d(\d\d)|\d{8}_(\d{8}))(?:_gpt2|_subset)?\.csv$")
_QUESTIONS = re.compile(r"stream\w*qa\w*\.jsonl(\.gz)?$", re.IGNORECASE)
_YEAR = "2021"  # of the months in TemporalWiki's published names


def read(path: Path, options: Options) -> Stream:
    """The stream of a folder in one of the two layouts, or of a file of StreamingQA's questions."""
    if not path.exists():
        raise DocumentError(f"There is no data at {shown(path)}.")
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    if sets := _probe_files(path, files):
        return _temporalwiki(path, files, sets, options)
    questions = [file for file in files if _QUESTIONS.search(file.name)] or ([path] if path.is_file() else [])
    if questions:
        return _streamingqa(questions, files, options)
    raise DocumentError(
        f"{shown(path)} holds no facts, passages and probes files, no TWiki-Probes (like 0801-0901_changed.csv) "
        "and no questions of StreamingQA (like streaminqa_eval.jsonl.gz)."
    )


def _cap(options: Options) -> int | None:
    return min((number for number in (options.facts, options.limit) if number), default=None)


# --- TemporalWiki ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Triple:
    fact: Fact
    kind: str


def _probe_files(top: Path, files: Iterable[Path]) -> dict[tuple[str, str], Path]:
    """(month, changed or unchanged or ...) -> its file; a table is taken before another form of the same."""
    found: dict[tuple[str, str], Path] = {}
    for file in files:
        if (match := _PROBES.search(file.relative_to(top).as_posix())) and (month := _month(match[2])):
            known = found.get((month, match[3]))
            if known is None or (file.suffix == ".csv" and known.suffix != ".csv"):
                found[month, match[3]] = file
    return found


def _month(digits: str) -> str:
    """ "0901" or "20210901" as an ISO date, by the month where it is its first day; empty for what is no date."""
    date = digits if len(digits) == 8 else _YEAR + digits
    try:
        day = datetime.strptime(date, "%Y%m%d").date().isoformat()
    except ValueError:
        return ""
    return day.removesuffix("-01")


def _triples(path: Path, month: str, mode: str) -> list[_Triple]:
    """The rows of a set: objects, or lists of three."""
    found = []
    for _, row, where in records(path):
        if isinstance(row, list) and len(row) == 3:
            row = dict(zip(("subject", "relation", "object"), row, strict=True))
        if not isinstance(row, dict):
            raise DocumentError(f"{where} is no triple of subject, relation and object.")
        value = text_of(
            row, "object" if row.get("object") is not None or "objective" not in row else "objective", where
        )
        start = None if mode == "unchanged" else month
        fact = Fact(text_of(row, "subject", where), text_of(row, "relation", where), value, start)
        found.append(_Triple(fact, "unchanged" if mode == "unchanged" else "changed"))
    return found


def _temporalwiki(top: Path, files: list[Path], sets: dict[tuple[str, str], Path], options: Options) -> Stream:
    months = sorted({month for month, _ in sets})[: options.lessons]
    groups: list[tuple[str, list[_Triple]]] = []
    for month in months:
        triples = [t for (at, mode), file in sets.items() if at == month for t in _triples(file, month, mode)]
        for kind in ("changed", "unchanged"):  # as many of both as there are
            groups.append((month, [triple for triple in triples if triple.kind == kind]))
    shares = evenly(_cap(options), [len(group) for _, group in groups])
    chosen: dict[str, list[_Triple]] = {month: [] for month in months}
    for (month, group), share in zip(groups, shares, strict=True):
        chosen[month] += drawn(group, share, f"{options.seed}:{month}")
    tasks = [_month_task(month, triples, _diffset(files, month)) for month, triples in chosen.items() if triples]
    if not tasks:
        raise DocumentError(f"{shown(top)}: the TWiki-Probes hold no triples.")
    about = {
        "format": "TemporalWiki",
        "files": [file.relative_to(top).as_posix() for (month, _), file in sorted(sets.items()) if month in chosen],
        "items": "two plain questions about each changed triple; unchanged ones are asked, not studied",
        "probes with a passage": _with_passage(tasks),
    }
    return Stream("temporal", tuple(tasks), about=about)


def _with_passage(tasks: Iterable[Task]) -> str:
    """Of how many there is one, without which the ceiling is the floor: "12 of 40"."""
    probes = [probe for task in tasks for probe in task.probes]
    return f"{sum(bool(probe.context) for probe in probes)} of {len(probes)}"


def _diffset(files: Iterable[Path], month: str) -> Path | None:
    for file in files:  # "gpt2" comes before "subset"
        match = _DIFFSET.search(file.name)
        if match and month == (_month(match[2]) if match[2] else f"{_YEAR}-{match[1]}"):
            return file
    return None


def _month_task(month: str, triples: list[_Triple], diffset: Path | None) -> Task:
    changed = [triple.fact for triple in triples if triple.kind == "changed"]
    told = _told(diffset, changed) if diffset else {}
    probes = tuple(
        Probe(f"{t.fact.subject} {t.fact.relation}", (t.fact.value,), told.get(t.fact, ""), t.fact, t.kind, month)
        for t in triples
    )
    text = "\n\n".join(dict.fromkeys(told[fact] for fact in changed if fact in told))
    return Task(month, Document(f"temporal {month}", text, tuple(items_of(changed, month))), probes, (month,))


def _told(diffset: Path, facts: Iterable[Fact]) -> dict[Fact, str]:
    """The first passage of the Diffset that names a fact's subject and object. By first words: a Diffset is long."""
    waiting: dict[str, list[Fact]] = {}
    for fact in facts:
        waiting.setdefault(next(iter(re.findall(r"\w+", fact.subject.lower())), ""), []).append(fact)
    found: dict[Fact, str] = {}
    for row, where in objects(diffset):
        text = " ".join(text_of(row, "text", where, default="").split())
        said = text.lower()
        for word in set(re.findall(r"\w+", said)) & waiting.keys():
            for fact in waiting[word]:
                if fact not in found and fact.subject.lower() in said and fact.value.lower() in said:
                    found[fact] = text
    return found


# --- StreamingQA ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Asked:
    probe: Probe
    learned: str  # the date of its evidence
    evidence: str


def _streamingqa(questions: list[Path], files: list[Path], options: Options) -> Stream:
    """Of a folder the questions to evaluate with, or else all of them."""
    used = [file for file in questions if "eval" in file.name.lower()] or questions
    years: dict[str, list[_Asked]] = {}
    for file in used:
        for row, where in objects(file):
            asked = _asked(row, where)
            years.setdefault(asked.learned[:4], []).append(asked)
    if not years:
        raise DocumentError(f"{shown(used[0])} holds no questions.")
    names = sorted(years)[: options.lessons]
    shares = evenly(_cap(options), [len(years[name]) for name in names])
    chosen = {n: drawn(years[n], share, f"{options.seed}:{n}") for n, share in zip(names, shares, strict=True) if share}
    texts = dict(_articles(files, {asked.evidence for group in chosen.values() for asked in group}))
    tasks = tuple(_year_task(name, group, texts) for name, group in chosen.items())
    about = {
        "format": "StreamingQA",
        "files": [file.name for file in used],
        "articles": len(texts),
        "items": "each question after the date of its evidence; the probe is the same question without it",
        "probes with a passage": _with_passage(tasks),
    }
    return Stream("temporal", tasks, about=about)


def _asked(row: dict[str, Any], where: str) -> _Asked:
    asked, learned = _day(row, "question_ts", where), _day(row, "evidence_ts", where)
    probe = Probe(
        text_of(row, "question", where),
        tuple(dict.fromkeys(texts_of(row, "answers", where))),
        kind=text_of(row, "recent_or_past", where, default=""),
        as_of=asked,
    )
    return _Asked(probe, learned, text_of(row, "evidence_id", where, default=""))


def _day(row: dict[str, Any], key: str, where: str) -> str:
    """UTC seconds as an ISO date."""
    try:
        return datetime.fromtimestamp(int(row[key]), UTC).date().isoformat()
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        raise DocumentError(f'{where}: "{key}" is missing or is no time in seconds.') from None


def _articles(files: Iterable[Path], wanted: set[str]) -> Iterator[tuple[str, str]]:
    for file in files:
        if file.name in ("wmt_docs.jsonl", "wmt_docs.jsonl.gz"):
            for row, where in objects(file):
                if (key := text_of(row, "sorting_key", where)) in wanted:
                    yield key, text_of(row, "text", where)


def _year_task(year: str, group: list[_Asked], texts: dict[str, str]) -> Task:
    items = tuple(
        Example(f"As of {spoken(asked.learned)}: {asked.probe.question}", asked.probe.answers[0]) for asked in group
    )
    probes = tuple(replace(asked.probe, context=texts.get(asked.evidence, "")) for asked in group)
    text = "\n\n".join(dict.fromkeys(texts[asked.evidence] for asked in group if asked.evidence in texts))
    return Task(year, Document(f"temporal {year}", text, items), probes, (year,))
