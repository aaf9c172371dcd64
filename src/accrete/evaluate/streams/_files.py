"""The files a stream is made of: where they lie and what their rows hold, or an error that names file and line.

Ends at plain dicts. No stream by itself.
"""

from __future__ import annotations

import gzip
import json
import lzma
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from accrete.errors import DocumentError

_OPEN: dict[str, Any] = {".gz": gzip.open, ".xz": lzma.open}
_KINDS = {str: "a text", list: "a list", dict: "an object", bool: "true or false", int: "a whole number"}


def located(data: Path | None, *names: str) -> Path:
    """`data` itself when it is a file, else the first of `names` in that folder, or in $ACCRETE_DATA without one.

    A name may have a folder before it and .xz behind it, which the file need not have.
    """
    folder = data or (Path(os.environ["ACCRETE_DATA"]) if os.environ.get("ACCRETE_DATA") else None)
    wanted = ", ".join(dict.fromkeys(names))
    if folder is None:
        known = f"One of {wanted}" if len(names) > 1 else wanted
        raise DocumentError(f"{known} is read here: name it or its folder with --data or ACCRETE_DATA.")
    if folder.is_file():
        return folder
    if not folder.exists():
        raise DocumentError(f"There is no data at {shown(folder)}.")
    for name in names:
        for place in (folder / name, folder / Path(name).name):
            for path in (place, place.with_name(place.name.removesuffix(".xz"))):
                if path.is_file():
                    return path
    raise DocumentError(f"The data folder {shown(folder)} has {'none of' if len(names) > 1 else 'no'} {wanted}.")


def rows(path: Path, fields: Mapping[str, type]) -> list[dict[str, Any]]:
    """The objects of a file of JSON Lines, or of one JSON list, each with these fields of these types."""
    return [row for _, row in placed_rows(path, fields)]


def placed_rows(path: Path, fields: Mapping[str, type]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The same, each with its place for messages: "FILE, line 3". A file without rows raises DocumentError."""
    empty = True
    for where, row in _objects(path):
        for name, kind in fields.items():
            field(row, name, kind, where)
        empty = False
        yield where, row
    if empty:
        raise DocumentError(f"{shown(path)} holds no rows.")


def whole(path: Path) -> Any:
    """The content of a .json file, packed (.xz, .gz) or not."""
    try:
        return _parsed("".join(lines(path)))
    except ValueError as error:
        raise DocumentError(f"{shown(path)}, line {getattr(error, 'lineno', 1)}: not valid JSON.") from None


def field(row: Any, name: str, kind: type, where: str) -> Any:
    """`row[name]`; DocumentError where there is none, one of another type, or a blank text."""
    if not isinstance(row, dict):
        raise DocumentError(f"{where}: not an object in braces.")
    if name not in row:
        raise DocumentError(f'{where}: "{name}" is missing.')
    if not isinstance(row[name], kind):
        raise DocumentError(f'{where}: "{name}" is not {_KINDS[kind]}.')
    if kind is str and not row[name].strip():
        raise DocumentError(f'{where}: "{name}" is empty.')
    return row[name]


def lines(path: Path) -> Iterator[str]:
    """The lines of a text with their ends, packed (.gz, .xz) or not; DocumentError names the file and what is wrong."""
    name, number = shown(path), 0
    try:
        with _OPEN.get(path.suffix.lower(), open)(path, "rb") as file:
            for raw in file:  # not splitlines: a text may hold other line ends
                number += 1
                yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except FileNotFoundError:
        raise DocumentError(f"There is no file {name}.") from None
    except UnicodeDecodeError:
        raise DocumentError(f"{name}, line {number} is not UTF-8 text.") from None
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error):
        raise DocumentError(f"{name} is damaged: it cannot be unpacked after line {number}.") from None
    except OSError as error:
        raise DocumentError(f"{name} cannot be read: {error.strerror or error}.") from None
    if not number:
        raise DocumentError(f"{name} is empty.")


def shown(path: Path) -> str:
    """A path as text that can be printed: a name on disk may be any bytes."""
    return str(path).encode("utf-8", "replace").decode()


def _objects(path: Path) -> Iterator[tuple[str, Any]]:
    begun = False
    for number, line in enumerate(lines(path), 1):
        if not line.strip():
            continue
        if not begun and line.lstrip().startswith("["):
            yield from ((f"{shown(path)}, item {item}", row) for item, row in enumerate(whole(path), 1))
            return
        begun, where = True, f"{shown(path)}, line {number}"
        try:
            row = _parsed(line)
        except ValueError:
            raise DocumentError(f"{where}: not valid JSON.") from None
        yield where, row


def _parsed(text: str) -> Any:
    """JSON; ValueError for anything else, half of a surrogate pair among it, which is no text."""
    try:
        value = json.loads(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except RecursionError:
        raise ValueError("nested too deeply") from None
