"""What was taught, when, with what effect: one history of commits per (base model, method). Ends at states and rows.

    home/journal.sqlite     histories, commits, and which pack holds which tensor
    home/packs/*.safetensors  the tensors that a commit brought, named by their content
    home/lock               one writer at a time (home.py)

A commit writes its pack first (temporary file, fsync, rename) and its row last, in one transaction: a crash in between
leaves the last commit as it was, and an orphan that the next writer removes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from accrete.errors import HistoryError, HomeError
from accrete.files import write_atomically
from accrete.lm.model import weights_digest
from accrete.methods.base import State
from accrete.store.home import plain_errors

SCHEMA = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS histories (id INTEGER PRIMARY KEY, base TEXT NOT NULL, method TEXT NOT NULL, model TEXT NOT NULL,
    head TEXT, UNIQUE (base, method));
CREATE TABLE IF NOT EXISTS commits (id TEXT PRIMARY KEY, history INTEGER NOT NULL REFERENCES histories, parent TEXT,
    number INTEGER NOT NULL, time TEXT NOT NULL, document TEXT NOT NULL, sha256 TEXT NOT NULL, domain TEXT NOT NULL,
    digest_before TEXT NOT NULL, digest_after TEXT NOT NULL, config TEXT NOT NULL, metrics TEXT NOT NULL,
    state TEXT, bytes INTEGER NOT NULL, undone TEXT);
CREATE TABLE IF NOT EXISTS tensors (digest TEXT PRIMARY KEY, pack TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS commits_by_history ON commits (history, number);
"""
_COLUMNS = ("id", "parent", "number", "time", "document", "sha256", "domain", "digest_before", "digest_after", "config",
            "metrics", "bytes", "undone")  # fmt: skip


def now() -> str:
    """The time of a commit: ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


@dataclass(frozen=True)
class Commit:
    """One lesson as the journal keeps it. `bytes` is what it added on disk; `undone` is when it was taken back.

    A lesson that was refused is undone from the start, and its metrics say why under "refused".
    """

    id: str
    parent: str | None
    number: int
    time: str
    document: str
    sha256: str
    domain: str
    digest_before: str
    digest_after: str
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]
    bytes: int = 0
    undone: str | None = None
    already: bool = field(default=False, compare=False)  # this very document had been learned before


class Journal:
    """The histories of one home. Reading works on a read-only home; writing wants `home.writing` around it."""

    def __init__(self, home: Path):
        self.home = home
        self.path = home / "journal.sqlite"
        self.packs = home / "packs"

    @contextlib.contextmanager
    def _open(self, write: bool = False) -> Iterator[sqlite3.Connection]:
        """A connection in one transaction; closed afterwards, so that no file stays open between lessons."""
        with plain_errors(self.home):
            if write:
                self.packs.mkdir(parents=True, exist_ok=True)
                database = sqlite3.connect(self.path, timeout=10)
            else:
                database = self._reader()
            try:
                if write:
                    self._prepare(database)
                self._check_schema(database, write)
                with database:
                    yield database
            finally:
                database.close()

    def _reader(self) -> sqlite3.Connection:
        uri = self.path.absolute().as_uri()
        try:
            database = sqlite3.connect(f"{uri}?mode=ro", uri=True, timeout=10)
            database.execute("SELECT count(*) FROM sqlite_master")
        except sqlite3.OperationalError as error:
            if not any(reason in str(error) for reason in ("readonly", "unable to open")):
                raise
            # WAL wants to write beside the file; on read-only media nothing can change it
            database = sqlite3.connect(f"{uri}?immutable=1", uri=True)
        return database

    def _prepare(self, database: sqlite3.Connection) -> None:
        """The tables and their version come in one transaction: a crash leaves both or neither."""
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        if _version(database) == 0:
            database.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {SCHEMA}; COMMIT;")

    def _check_schema(self, database: sqlite3.Connection, write: bool) -> None:
        version = _version(database)
        if version != SCHEMA and (write or version):  # 0: a crash came before the tables; reading finds nothing
            raise HomeError(f"The home {self.home} was written by another version of accrete (schema {version}).")

    # --- reading ------------------------------------------------------------------------------------------------

    def commits(self, base: str, method: str) -> list[Commit]:
        """Every commit of a history, oldest first, the undone ones included."""
        if not self.path.exists():
            return []
        with self._open() as database:
            if not _version(database):
                return []
            rows = database.execute(
                f"SELECT {', '.join(f'c.{column}' for column in _COLUMNS)}"
                " FROM commits c JOIN histories h ON c.history = h.id WHERE h.base = ? AND h.method = ? ORDER BY c.rowid",
                (base, method),
            ).fetchall()
        return [_commit(row) for row in rows]

    def active(self, base: str, method: str) -> list[Commit]:
        """The commits that make up the present state, oldest first."""
        return [commit for commit in self.commits(base, method) if commit.undone is None]

    def find(self, base: str, method: str, reference: str) -> Commit:
        """The commit whose id begins with `reference`; HistoryError when there is none or more than one."""
        found = [commit for commit in self.commits(base, method) if reference and commit.id.startswith(reference)]
        if len(found) != 1:
            raise HistoryError(
                f'There is {"no" if not found else "more than one"} commit "{reference}" in this history.'
            )
        return found[0]

    def state(self, commit: Commit) -> State:
        """The state after `commit`, every tensor checked against its name."""
        with self._open() as database:
            (text,) = database.execute("SELECT state FROM commits WHERE id = ?", (commit.id,)).fetchone()
            places = dict(database.execute("SELECT digest, pack FROM tensors").fetchall())
        if text is None:
            raise HistoryError(f"Commit {commit.id} was undone; its state is no longer kept.")
        manifest = json.loads(text)
        wanted = {entry["tensor"] for part in manifest.values() for entry in part.values() if "tensor" in entry}
        tensors = self._read(wanted, places)
        return {
            part: {key: tensors[e["tensor"]] if "tensor" in e else e["value"] for key, e in entries.items()}
            for part, entries in manifest.items()
        }

    def _read(self, digests: set[str], places: Mapping[str, str]) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {}
        by_pack: dict[str, list[str]] = {}
        for name in digests:
            by_pack.setdefault(places.get(name, "missing"), []).append(name)
        for pack, names in by_pack.items():
            path = self.packs / f"{pack}.safetensors"
            if not path.exists():
                raise HomeError(f"The home {self.home} is damaged: {path.name} is missing.")
            with plain_errors(self.home), safe_open(path, "pt") as file:
                for name in names:
                    tensors[name] = file.get_tensor(name)
                    if tensor_digest(tensors[name]) != name:
                        raise HomeError(f"The home {self.home} is damaged: a tensor in {path.name} has changed.")
        return tensors

    def size(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.home.rglob("*") if path.is_file()) if self.home.exists() else 0

    # --- writing ------------------------------------------------------------------------------------------------

    def append(self, base: str, model: str, method: str, commit: Commit, state: State) -> Commit:
        """Store `state` and then the row of `commit`, whose `id` is filled in here; the history's head moves to it."""
        manifest, tensors = _manifest(state)
        name = _identity(base, method, commit)
        with self._open(write=True) as database:
            known = {row[0] for row in database.execute("SELECT digest FROM tensors")}
        self._remove_orphans()
        new = {digest: tensor for digest, tensor in tensors.items() if digest not in known}
        size = self._write_pack(name, new) if new else 0
        with self._open(write=True) as database:
            database.executemany("INSERT INTO tensors VALUES (?, ?)", [(digest, name) for digest in new])
            text = json.dumps(manifest)
            history = _history(database, base, method, model)
            _insert(database, history, replace(commit, id=name, bytes=size + len(text)), text)
            database.execute("UPDATE histories SET head = ? WHERE id = ?", (name, history))
        return self.find(base, method, name)

    def refuse(self, base: str, model: str, method: str, commit: Commit) -> None:
        """Write down a lesson that was taken back before it was committed; it has no state and moves no head."""
        with self._open(write=True) as database:
            refused = replace(commit, id=_identity(base, method, commit), undone=commit.time)
            _insert(database, _history(database, base, method, model), refused, None)

    def undo(self, commit: Commit, time: str) -> None:
        """Take the newest commit of its history back and drop the tensors that nothing else needs."""
        with self._open(write=True) as database:
            database.execute("UPDATE histories SET head = ? WHERE head = ?", (commit.parent, commit.id))
            database.execute("UPDATE commits SET undone = ?, state = NULL WHERE id = ?", (time, commit.id))
            needed: set[str] = set()
            for (text,) in database.execute("SELECT state FROM commits WHERE state IS NOT NULL"):
                needed |= {e["tensor"] for part in json.loads(text).values() for e in part.values() if "tensor" in e}
            gone = [(d,) for (d,) in database.execute("SELECT digest FROM tensors").fetchall() if d not in needed]
            database.executemany("DELETE FROM tensors WHERE digest = ?", gone)
        self._remove_orphans()

    def _write_pack(self, name: str, tensors: dict[str, Tensor]) -> int:
        path = self.packs / f"{name}.safetensors"
        with plain_errors(self.home):
            write_atomically(path, lambda temporary: save_file(tensors, temporary))
            return path.stat().st_size

    def _remove_orphans(self) -> None:
        """Packs that no row names: left by a crash, or by an undo."""
        with self._open() as database:
            named = {row[0] for row in database.execute("SELECT DISTINCT pack FROM tensors")}
        with plain_errors(self.home):
            for path in self.packs.iterdir():
                if path.name.removesuffix(".safetensors") not in named:
                    path.unlink()


def _identity(base: str, method: str, commit: Commit) -> str:
    whole = "|".join((base, method, commit.parent or "", commit.sha256, commit.digest_after, commit.time))
    return hashlib.sha256(whole.encode()).hexdigest()[:12]


def _history(database: sqlite3.Connection, base: str, method: str, model: str) -> int:
    """The row of a history, made when it is not there."""
    database.execute("INSERT OR IGNORE INTO histories (base, method, model) VALUES (?, ?, ?)", (base, method, model))
    return database.execute("SELECT id FROM histories WHERE base = ? AND method = ?", (base, method)).fetchone()[0]


def _insert(database: sqlite3.Connection, history: int, c: Commit, state: str | None) -> None:
    row = (c.id, history, c.parent, c.number, c.time, c.document, c.sha256, c.domain, c.digest_before, c.digest_after,
           json.dumps(c.config), json.dumps(c.metrics), state, c.bytes, c.undone)  # fmt: skip
    database.execute(f"INSERT INTO commits VALUES ({', '.join('?' * len(row))})", row)


def _version(database: sqlite3.Connection) -> int:
    return database.execute("PRAGMA user_version").fetchone()[0]


def _commit(row: Sequence[Any]) -> Commit:
    fields = dict(zip(_COLUMNS, row, strict=True))
    return Commit(**fields | {"config": json.loads(fields["config"]), "metrics": json.loads(fields["metrics"])})


def tensor_digest(tensor: Tensor) -> str:
    return weights_digest({"": tensor})


def _manifest(state: State) -> tuple[dict[str, dict[str, Any]], dict[str, Tensor]]:
    """(part -> key -> {"tensor": digest} or {"value": json}, digest -> tensor)."""
    tensors: dict[str, Tensor] = {}
    storages: set[int] = set()
    manifest: dict[str, dict[str, Any]] = {}
    for part, entries in state.items():
        manifest[part] = {}
        for key, value in entries.items():
            if isinstance(value, Tensor):
                kept = value.detach().cpu().contiguous()
                if (storage := kept.untyped_storage().data_ptr()) in storages:
                    kept = kept.clone()  # safetensors refuses two names for one storage
                storages.add(storage)
                name = tensor_digest(kept)
                tensors[name] = kept
                manifest[part][key] = {"tensor": name}
            else:
                manifest[part][key] = {"value": value}
    return manifest, tensors
