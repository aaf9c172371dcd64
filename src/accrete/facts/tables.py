"""What tables of several columns state, under a row of heads. Ends at cells with their lines.

    | Year | Mayor | Population |          of what the heading above names, since the date in the first column
    | Office | Holder | Since |            the same, with what is stated in the first column
    | Town | Mayor | River | Since |       of what the first column names

Two columns without a date are rows of a key and its value (rules.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

SINCE = frozenset("year date since from when begin began start started".split())
UNTIL = frozenset("until to end ended".split())
KEYS = frozenset("office position role post title key field property attribute relation item what".split())
VALUES = frozenset("value values who what holder person name description detail details data information".split())
NOTHING = frozenset(("", "-", "–", "—", "?", "n/a"))
RULED = re.compile(r"^\s*\|?(?:\s*:?-+:?\s*\|)+\s*(?::?-+:?)?\s*$")  # |---|---| under the heads
_OF_A_NAME = re.compile(r"(.+?) of ((?:the )?[A-Z].*)")  # a head that says itself what it is about: "Mayor of Cork"
_SPLIT = re.compile(r"(?<!\\)\|")


class Cell(NamedTuple):
    """A value of a table, what it is of, the dates of its row as they are written, and the number of its line."""

    subject: str
    relation: str
    value: str
    since: str
    until: str
    line: int


def is_table(head: str, below: str) -> bool:
    """Whether a line is the heads of a table that is read here, being above `below`."""
    heads = _cells(head)
    dated = any(name.lower() in SINCE | UNTIL for name in heads)
    return bool(RULED.match(below)) and len(heads) >= (2 if dated else 3)


def length(lines: Sequence[str]) -> int:
    """How many of these lines, from the heads on, are the table."""
    return next((place for place, line in enumerate(lines) if "|" not in line), len(lines))


def cells(lines: Sequence[str], subject: str) -> Iterator[Cell]:
    """What a table states, line after line; `subject` is what stands above it."""
    heads = _cells(lines[0])
    named = {name.lower(): column for column, name in reversed(list(enumerate(heads)))}
    since = next((named[name] for name in named if name in SINCE), None)
    until = next((named[name] for name in named if name in UNTIL), None)
    others = [column for column in range(len(heads)) if column not in (since, until)]
    of_heading = since == 0 or len(others) < 2
    keyed = len(others) == 2 and (heads[others[0]].lower() in KEYS or heads[others[1]].lower() in VALUES)
    for number, line in enumerate(lines[2:], 2):
        row = [*_cells(line), *[""] * len(heads)]
        dates = [row[column] if column is not None else "" for column in (since, until)]
        if keyed and not of_heading:
            stated = [(subject, row[others[0]], row[others[1]])]
        else:
            about = subject if of_heading else row[others[0]]
            stated = [(*_of(heads[column], about), row[column]) for column in others[not of_heading :]]
        for parts in stated:
            if not any(part.lower() in NOTHING for part in parts):
                yield Cell(*parts, dates[0], dates[1], number)


def _cells(line: str) -> list[str]:
    return [
        cell.replace(r"\|", "|").strip(" *_`")
        for cell in _SPLIT.split(line.strip().removeprefix("|").removesuffix("|"))
    ]


def _of(head: str, about: str) -> tuple[str, str]:
    """The subject and the relation of a column."""
    own = _OF_A_NAME.fullmatch(head)
    return (own[2], _as_relation(own[1])) if own else (about, _as_relation(head))


def _as_relation(head: str) -> str:
    """A head within a sentence: "Mayor" is a mayor, "CEO" stays."""
    return head if head[1:2].isupper() else head[:1].lower() + head[1:]
