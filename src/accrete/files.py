"""Write files so that a crash leaves the old one or the new one, never half of it; and which names a file may have."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

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
