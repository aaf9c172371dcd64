"""What simple sentences, lists and tables say by rules. Ends at facts and spans.

sentences (simple_sentences.py)
"mayor: Ada", under a heading or in a list; after "Name: Ada Bree", of Ada Bree
tables of several columns (tables.py)
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence

from accrete.facts import tables
from accrete.facts.simple_sentences import ASIDE, Found, ends, iso_date, of_sentence, sentences
from accrete.types import Fact, Passage

_ROW = re.compile(r"^\s*(?:[-*+]\s+)?\|?\s*(?P<relation>[^\W\d][^:|\n]{1,60}?)\s*[:|]\s*(?P<value>[^|\n]+?)\s*\|?\s*$")
_HEADING = re.compile(r"^\s*#+\s*(?P<subject>\S.*?)\s*#*\s*$")
NAMES = frozenset(("name", "full name"))  # rows that name what those below are about
SECTIONS = frozenset(  # headings made of these say what is told, and not of what: "## Government", "## Key facts"
    """about administration and at a background basic basics board climate contact contacts council culture current data
    demographics demography details economy education facts finance finances general geography glance governance government
    history in info information infrastructure key leadership leaders management members notes of offices officers officials
    organisation organization overview people personnel politics population profile quick staff statistics structure summary
    table team the today transport transportation""".split()
)
TOLD = 1000  # lines read, until it is told


def by_rules(passage: Passage, subject: str = "", told: Callable[[int], None] = lambda read: None) -> Iterator[Found]:
    """What simple sentences, and rows of a key and its value, say; `told` hears how many lines were read."""
    lines = list(_lines(passage.text))
    rows = _rows([line for _, line in lines])
    read = 0  # lines of a table that was read as a whole
    for place, ((start, line), (_, below)) in enumerate(itertools.pairwise([*lines, (0, "")])):
        if place % TOLD == 0:
            told(place)
        if place < read:
            continue
        if heading := _HEADING.match(line):
            subject = subject if subject and _is_section(heading["subject"]) else heading["subject"]
        elif tables.is_table(line, below):
            read = place + tables.length([text for _, text in lines[place:]])
            yield from _of_table(passage, lines[place:read], subject)
        elif subject and (row := rows.get(place)):
            head = tables.RULED.match(below) and row["value"].lower() in tables.VALUES
            if row["relation"].lower() in NAMES:
                subject = row["value"]
            elif not head and not tables.RULED.match(line):
                yield Found(_of_row(subject, row), *_place(passage, start, row.span()))
        else:
            for sentence in sentences(Passage(line, passage.document, passage.start + start, 0)):
                yield from of_sentence(sentence)


def as_row(line: str) -> re.Match[str] | None:
    """A line as a key and its value, if it is that and no sentence."""
    return None if line.rstrip().endswith((".", "?")) else _ROW.match(line)


def _is_section(heading: str) -> bool:
    """Whether a heading names a part of what is told about the subject before it: "2. Government", not "Tolvane"."""
    return all(word in SECTIONS for word in re.findall(r"[^\W\d_]+", heading.lower()))


def _rows(lines: Sequence[str]) -> dict[int, re.Match[str]]:
    """Those of a list, and where they stand: a row with prose around it and no heading above is a remark."""
    rows: dict[int, re.Match[str]] = {}
    held: dict[int, re.Match[str]] = {}  # since the last line of prose
    headed = False
    for place, line in enumerate([*lines, "."]):
        if _HEADING.match(line):
            headed = True
        elif row := as_row(line):
            held[place] = row
        elif line.strip() and not tables.RULED.match(line):
            rows |= held if headed or len(held) > 1 else {}
            held, headed = {}, False
    return rows


def _of_table(passage: Passage, lines: Sequence[tuple[int, str]], subject: str) -> Iterator[Found]:
    for cell in tables.cells([text for _, text in lines], subject):
        said = ASIDE.search(cell.value)
        since, until = (cell.since or (said and said["since"]), cell.until or (said and (said["until"] or said["end"])))
        start, line = lines[cell.line]
        fact = Fact(cell.subject, cell.relation, ASIDE.sub("", cell.value).strip(), iso_date(since), iso_date(until))
        if fact.subject and fact.value:
            yield Found(fact, *_place(passage, start, (0, len(line))))


def _of_row(subject: str, row: re.Match[str]) -> Fact:
    said = ASIDE.search(row["relation"]) or ASIDE.search(row["value"])
    relation, value = (ASIDE.sub("", row[part]).strip() for part in ("relation", "value"))
    return Fact(subject, relation or row["relation"], value or row["value"], *ends(said.groupdict() if said else {}))


def _lines(text: str) -> Iterator[tuple[int, str]]:
    start = 0
    for line in text.splitlines(keepends=True):
        yield start, line.rstrip("\n")
        start += len(line)


def _place(passage: Passage, line: int, span: tuple[int, int]) -> tuple[int, int]:
    return passage.start + line + span[0], passage.start + line + span[1]
