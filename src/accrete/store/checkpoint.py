"""A method's state as a directory that can be carried elsewhere: state.safetensors and manifest.json. Ends at a State."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, contiguous_format

from accrete.errors import HistoryError, UsageError, did_you_mean
from accrete.files import check_plain_name, recover_directory, replace_directory
from accrete.methods.base import State
from accrete.store.home import plain_errors

SCHEMA = 1
FOLDER = "checkpoints"  # of a home
_FILES = {"state.safetensors", "values.json"}
_BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError)


def save_checkpoint(path: Path, state: State, about: Mapping[str, Any]) -> None:
    """Write `state` to directory `path`, replacing a checkpoint that is there. `about` must name base and method."""
    if path.exists() and not (path / "manifest.json").exists():
        raise HistoryError(f"{path} exists and is no checkpoint; choose another place.")
    tensors = {
        f"{part}/{key}": value.detach().cpu().clone(memory_format=contiguous_format)
        for part, key, value in _entries(state)
        if isinstance(value, Tensor)
    }
    values: dict[str, dict[str, Any]] = {part: {} for part in state}
    for part, key, value in _entries(state):
        if not isinstance(value, Tensor):
            values[part][key] = value

    def write(folder: Path) -> None:
        save_file(tensors, folder / "state.safetensors")
        (folder / "values.json").write_text(json.dumps(values))
        files = {file.name: _file_digest(file) for file in sorted(folder.iterdir())}
        manifest = {"schema": SCHEMA, **about, "files": files}
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=2))

    with plain_errors(path.parent):
        replace_directory(path, write)


def load_checkpoint(path: Path, *, base: str, method: str) -> tuple[State, dict[str, Any]]:
    """The state and the manifest of a checkpoint.

    Raises HistoryError when it is no checkpoint, was changed since, or belongs to another base model or method.
    """
    recover_directory(path)
    try:
        manifest = json.loads((path / "manifest.json").read_text("utf-8"))
        names, own = set(manifest["files"]), str(manifest["digest"])
        there = {file.name: file for file in path.iterdir() if file.name != "manifest.json"}
        if not own or not names >= _FILES or names - set(there) or any(file.is_symlink() for file in there.values()):
            raise ValueError("a file is missing, or outside the folder")
        changed = [name for name, digest in manifest["files"].items() if _file_digest(path / name) != digest]
    except _BROKEN:
        raise HistoryError(f"There is no complete checkpoint at {_short(path)}.") from None
    if manifest.get("schema") != SCHEMA:
        raise HistoryError(f"The checkpoint {path} was written by another version of accrete.")
    if more := sorted(set(there) - names):
        raise HistoryError(f"The checkpoint {path} is damaged: {more[0]} is not part of what was saved.")
    if changed:
        raise HistoryError(f"The checkpoint {path} is damaged: {changed[0]} is not what was saved.")
    if manifest.get("method") != method:
        raise HistoryError(
            f'The checkpoint {path} is of method "{manifest.get("method")}", not "{method}"; --method says which.'
        )
    if manifest.get("base") != base:
        raise HistoryError(f'The checkpoint {path} belongs to another base model ("{manifest.get("model")}").')
    try:
        state: dict[str, dict[str, Any]] = json.loads((path / "values.json").read_text("utf-8"))
        for name, tensor in load_file(path / "state.safetensors").items():
            part, _, key = name.partition("/")
            state[part][key] = tensor
        return dict(state), manifest
    except _BROKEN:
        raise HistoryError(f"The checkpoint {path} is damaged: its files are not what they should be.") from None


def named(home: Path, name: str) -> Path:
    """Where the checkpoint `name` of a home is, or would be. UsageError for a name that is none."""
    return home / FOLDER / check_plain_name(name, "checkpoint")


def find(home: Path, reference: str) -> Path:
    """A checkpoint of the home by its name, else the directory of that path; HistoryError when there is neither."""
    try:
        place = named(home, reference)
    except UsageError:
        place = Path(reference).expanduser()
    for path in (place, Path(reference).expanduser()):
        with contextlib.suppress(OSError):  # a name longer than the system takes
            recover_directory(path)
            if reference.strip() and path.is_dir():
                return path
    known = [row["name"] for row in listed(home)]
    raise HistoryError(f'There is no checkpoint "{_short(reference)}".{did_you_mean(reference, known)}')


def listed(home: Path) -> list[dict[str, Any]]:
    """What is known of every checkpoint of a home, the newest first; nothing is loaded."""
    rows = []
    for path in sorted((home / FOLDER).glob("*/manifest.json")):
        if path.parent.suffix:  # .new and .old: a crash while it was written
            continue
        try:
            manifest = json.loads(path.read_text("utf-8"))
            kept = manifest.get("metrics", {}).get("kept_after")
        except _BROKEN:
            manifest, kept = {}, None
        rows.append(
            {
                "name": path.parent.name,
                "saved": datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds"),
                **{key: manifest.get(key) for key in ("method", "model", "lessons")},
                "kept": kept if isinstance(kept, float) else None,
                "bytes": size(path.parent),
            }
        )
    return sorted(rows, key=lambda row: row["saved"], reverse=True)


def size(directory: Path) -> int:
    """Bytes of the files in a directory."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _short(name: object) -> str:
    return text if len(text := str(name)) <= 100 else f"{text[:100]}..."


def _entries(state: State) -> list[tuple[str, str, Any]]:
    return [(part, key, value) for part, entries in state.items() for key, value in entries.items()]


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
