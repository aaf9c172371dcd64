"""The directory where lessons live: its place, its lock, and its errors in plain words. Ends at a path that can be used."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from accrete.errors import HomeError, LockedError

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the disk is full or a file size limit was reached",
    errno.EROFS: "it is read-only",
    errno.EACCES: "permission was denied",
    errno.EPERM: "permission was denied",
    errno.ENOTDIR: "it is not a directory",
    errno.EEXIST: "it is not a directory",
}


def default_home() -> Path:
    """ACCRETE_HOME, else ~/.accrete."""
    return Path(os.environ.get("ACCRETE_HOME") or "~/.accrete").expanduser()


@contextlib.contextmanager
def plain_errors(home: Path, what: str = "the home") -> Iterator[None]:
    """Turn what the file system and SQLite say about `home`, or another place, into one sentence (HomeError)."""
    try:
        yield
    except sqlite3.Error as error:
        raise HomeError(f"Cannot use {what} {home}: {_sqlite_reason(error)}. Nothing was lost.") from None
    except OSError as error:
        reason = _REASONS.get(error.errno or 0) or error.strerror or str(error)
        raise HomeError(f"Cannot use {what} {home}: {reason}. Nothing was lost.") from None
    except SafetensorError as error:  # it puts the system's error into words of its own
        reason = "the disk is full" if "os error 28" in str(error) else str(error)
        raise HomeError(f"Cannot use {what} {home}: {reason}. Nothing was lost.") from None


def check_home(home: Path) -> None:
    """Refuse a home that is a file."""
    if home.exists() and not home.is_dir():
        raise HomeError(f"Cannot use the home {home}: it is not a directory.")


def check_room(home: Path, needed: int) -> None:
    """Refuse a lesson of `needed` bytes before it is learned rather than after."""
    free = shutil.disk_usage(home).free
    if free < needed:
        raise HomeError(
            f"The disk of the home {home} is full: a lesson may need {needed / 1e6:,.0f} MB, {free / 1e6:,.0f} MB are free."
            " Nothing was lost."
        )


def _sqlite_reason(error: sqlite3.Error) -> str:
    text = str(error)
    if "readonly" in text or "unable to open" in text:
        return "it is read-only or cannot be opened"
    if "full" in text or "disk I/O" in text:
        return "the disk is full or failing"
    if "malformed" in text or "not a database" in text:
        return "its journal is damaged"
    return text


@contextlib.contextmanager
def writing(home: Path) -> Iterator[None]:
    """Hold the home for one writer. A second one gets LockedError at once; a crash frees the lock."""
    with plain_errors(home):
        home.mkdir(parents=True, exist_ok=True)
        handle = os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(handle, 32, 0).decode(errors="replace").strip() or "unknown"
            raise LockedError(
                f"Another accrete (process {holder}) is changing {home}; wait for it, or use another --home."
            ) from None
        with plain_errors(home):
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)
