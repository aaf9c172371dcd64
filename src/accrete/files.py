"""Write files so that a crash leaves the old one or the new one, never half of it; JSON Lines, locks, and plain names."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from accrete.errors import UsageError

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def check_plain_name(name: str, what: str) -> str:
    """`name` itself when it can stand for a file: letters, digits, "-" and "_". So it cannot leave its folder."""
    if not _PLAIN.fullmatch(name):
        raise UsageError(f'"{name[:80]}" cannot name a {what}: use up to 64 letters, digits, "-" and "_".')
    return name


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, force it to disk, and put it in place in one step."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def write_text(path: Path, text: str) -> None:
    """`text` as the whole of the file, in UTF-8; a crash leaves the old file or this one."""

    def fill(temporary: Path) -> None:
        temporary.write_text(text, "utf-8")

    write_atomically(path, fill)


def json_lines(rows: Iterable[Mapping[str, Any]]) -> str:
    """Objects as JSON Lines, one a line."""
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def read_json_lines(path: Path) -> tuple[list[dict[str, Any]], bool]:
    """The objects of a file of JSON Lines up to the first that is cut off or damaged, and whether that was all.

    A line without its end counts as cut off. A file that is not there, or cannot be read, holds nothing.
    """
    try:
        parts = path.read_bytes().split(b"\n")
    except OSError:
        return [], False
    rows: list[dict[str, Any]] = []
    for part in parts[:-1]:
        try:
            row = json.loads(part)
        except (ValueError, RecursionError):
            return rows, False
        if not isinstance(row, dict):
            return rows, False
        rows.append(row)
    return rows, not parts[-1]


@contextlib.contextmanager
def alone(lock: Path, refusal: str) -> Iterator[None]:
    """Hold the file `lock` for this process; while another one has it, UsageError says `refusal` with {holder} filled in.

    A crash frees it. Where a file system knows no locks there is none.
    """
    handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 32, 0).decode(errors="replace").strip() or "unknown"
            raise UsageError(refusal.format(holder=holder)) from None
        except OSError:
            pass
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def in_turn(lock: Path) -> Iterator[None]:
    """Hold the file `lock` for this process; while another one has it, wait. A crash frees it, as in `alone`."""
    handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def replace_directory(path: Path, write: Callable[[Path], None]) -> None:
    """The same for a directory: `write` fills a new one, which then takes the place of the old.

    The rename of a directory over a full one does not exist, so there is an instant in which only `path.old` stands;
    `recover_directory` puts that right.
    """
    new, old = path.with_name(f"{path.name}.new"), path.with_name(f"{path.name}.old")
    recover_directory(path)  # else the only copy would be cleared away as the old one
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        write(new)
        for file in new.iterdir():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        os.rename(path, old)
    os.rename(new, path)
    sync_directory(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def recover_directory(path: Path) -> None:
    """Finish what a crash inside `replace_directory` left undone."""
    if not path.name:  # "", ".", "/"
        return
    old = path.with_name(f"{path.name}.old")
    if not path.exists() and old.exists():
        os.rename(old, path)


def sync_directory(path: Path) -> None:
    """Force the names in a directory to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
