"""The records of a data file one by one: .json, .jsonl, .csv and .tsv, packed (.gz, .xz) or not. No stream by itself.

For data whose fields have forms of their own, and for tables; `_files.py` opens them. Ends at values and where they stand.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from accrete.errors import DocumentError
from accrete.evaluate.streams import _files as files
from accrete.evaluate.streams._files import shown

_DATE = re.compile(r"\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?")


def records(path: Path) -> Iterator[tuple[tuple[str, ...], Any, str]]:
    """(keys, record, where): the lines of a .jsonl, the rows of a table, the entries of the lists of a .json.

    `keys` lead to the list where a .json keeps its lists in objects: {"2020": {"changed": [...]}}. Raises DocumentError with
    the file and the line, or the entry, for what is none of these.
    """
    suffix = Path(path.stem).suffix if path.suffix.lower() in (".gz", ".xz") else path.suffix
    if suffix.lower() in (".csv", ".tsv"):
        yield from (((), row, where) for row, where in _table(path, "\t" if suffix.lower() == ".tsv" else ","))
    elif suffix.lower() == ".json":
        yield from _entries(files.whole(path), (), shown(path))
    else:
        for number, line in enumerate(files.lines(path), 1):
            if line.strip():
                where = f"{shown(path)}, line {number}"
                try:
                    yield (), json.loads(line), where
                except (ValueError, RecursionError):
                    raise DocumentError(f"{where} is not valid JSON.") from None


def objects(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """The same of records that must be objects."""
    for _, row, where in records(path):
        if not isinstance(row, dict):
            raise DocumentError(f"{where} is no object.")
        yield row, where


def text_of(row: dict[str, Any], key: str, where: str, default: str | None = None) -> str:
    """A field that is a text, and not an empty one unless it has a default."""
    value = default if row.get(key) is None else row[key]
    if not isinstance(value, str) or (default is None and not value.strip()):
        raise DocumentError(f'{where}: "{key}" is missing or is no text.')
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise DocumentError(f'{where}: "{key}" holds characters that are no text.')
    return value


def texts_of(row: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
    """A field that is a list of texts, one at least."""
    values = row.get(key)
    if not isinstance(values, list) or not values:
        raise DocumentError(f'{where}: "{key}" is missing or is no list of texts.')
    return tuple(text_of({key: value}, key, where) for value in values)


def date_of(row: dict[str, Any], key: str, where: str) -> str | None:
    """A field that is an ISO date, or nothing: "2020", "2020-03", "2020-03-01", or the year as a number."""
    value = row.get(key)
    if value is None or value == "":
        return None
    if not _DATE.fullmatch(str(value)):
        raise DocumentError(f'{where}: "{key}" is no date like 2020 or 2020-03.')
    return str(value)


def _entries(value: Any, keys: tuple[str, ...], where: str) -> Iterator[tuple[tuple[str, ...], Any, str]]:
    if isinstance(value, list):
        yield from ((keys, entry, f"{where}, entry {number}") for number, entry in enumerate(value, 1))
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _entries(part, (*keys, key), f'{where}, "{key}"')
    else:
        raise DocumentError(f"{where} is no list.")


def _table(path: Path, delimiter: str) -> Iterator[tuple[dict[str, Any], str]]:
    """The rows of a table by the names in its first line; a row may go over several lines."""
    reader = csv.DictReader(files.lines(path), delimiter=delimiter)
    last = 1
    try:
        for row in reader:
            yield row, f"{shown(path)}, line {last + 1}"
            last = reader.line_num
    except csv.Error:
        raise DocumentError(f"{shown(path)}, line {last + 1} is no row of a table.") from None
