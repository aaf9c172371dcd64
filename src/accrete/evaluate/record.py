"""The lines of a job: a file that only grows, one object a step, on disk before the next step begins. Ends at what is there.

A line that is cut off, damaged or of the wrong step counts for nothing, and neither does what comes after it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accrete.files import read_json_lines

BASE = "base"  # the job of step 0; those of methods begin with step 1


def lines(path: Path) -> list[dict[str, Any]]:
    """The steps that are there, in order and without a gap."""
    return _read(path)[0]


def mend(path: Path) -> str:
    """Cut off what does not count, so that it is measured again; a sentence about it, or nothing."""
    if not path.exists():
        return ""
    found, whole = _read(path)
    if not whole:
        keep(path, len(found))
        return f"line {len(found) + 1} of {path.name} was damaged: it is measured again from there"
    return ""


def keep(path: Path, count: int) -> None:
    """Leave the first `count` lines."""
    if path.exists():
        size = sum(len(line) + 1 for line in path.read_bytes().split(b"\n")[:count])
        with path.open("r+b") as file:
            file.truncate(size)
            os.fsync(file.fileno())


def append(path: Path, line: Mapping[str, Any]) -> None:
    """One line more, on disk when this returns."""
    with path.open("ab") as file:
        file.write(json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> tuple[list[dict[str, Any]], bool]:
    rows, whole = read_json_lines(path)
    first = 0 if path.stem == BASE else 1
    wanted = rows[:1] if path.stem == BASE else rows
    found = []
    for number, row in enumerate(wanted, first):
        if row.get("step") != number:
            break
        found.append(row)
    return found, whole and len(found) == len(rows)
