"""Passages in SQLite's FTS5, with how many of them have each word. Ends at rows: what they are worth, index.py says.

passages    FTS5; a row holds the words of a passage with spaces between them, so that words.py alone says what a word is
words       how many passages have each: FTS5 would have to look at all of them to say so
documents   which rows are whose, and the digest of what is there
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from accrete.retrieval.indexed import Indexed
from accrete.retrieval.words import words

_OWNER, _SCHEMA = 0x61636372, 1  # "accr"; of the tables and of what a word is
_TABLES = f"""
BEGIN IMMEDIATE;
DROP TABLE IF EXISTS passages; DROP TABLE IF EXISTS words; DROP TABLE IF EXISTS documents;
CREATE VIRTUAL TABLE passages USING fts5(words, tokenize = 'ascii');
CREATE TABLE words (word TEXT PRIMARY KEY, passages INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE documents (first INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, passages INTEGER NOT NULL, words INTEGER NOT NULL,
    digest TEXT NOT NULL);
PRAGMA application_id = {_OWNER}; PRAGMA user_version = {_SCHEMA};
COMMIT;
"""


class Table:
    """In memory, or in a file that outlives the process. Every use stands in a `transaction`.

    Raises sqlite3.DatabaseError for a file that cannot be read or written, or is no table of ours.
    """

    def __init__(self, path: Path | None = None):
        self._database = sqlite3.connect(path or ":memory:", timeout=10, check_same_thread=False)
        execute = self._database.execute
        owner, schema = (execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
        if (owner, schema) != (_OWNER, _SCHEMA):
            if owner != _OWNER and execute("SELECT 1 FROM sqlite_master").fetchone():
                raise sqlite3.DatabaseError("This database belongs to something else.")
            self._database.executescript(_TABLES)
        execute("PRAGMA temp_store = MEMORY")
        if path is not None:
            execute("PRAGMA journal_mode = WAL")
            execute("PRAGMA synchronous = NORMAL")
            execute("PRAGMA cache_size = -65536")
            execute("PRAGMA secure_delete = ON")

    @contextlib.contextmanager
    def transaction(self, changing: bool) -> Iterator[Table]:
        """All of it or nothing; one that changes something waits until no other process does."""
        self._database.execute("BEGIN IMMEDIATE" if changing else "BEGIN")
        try:
            yield self
        except BaseException:
            self._database.rollback()
            raise
        self._database.commit()

    # --- reading ------------------------------------------------------------------------------------------------

    def version(self) -> int:
        """Changes when another process has changed the file."""
        return int(self._database.execute("PRAGMA data_version").fetchone()[0])

    def digests(self) -> dict[str, str]:
        """Every document that is there, and the digest of its passages."""
        return dict(self._database.execute("SELECT key, digest FROM documents"))

    def totals(self) -> tuple[int, int]:
        """How many passages, and how many words in them."""
        query = "SELECT coalesce(sum(passages), 0), coalesce(sum(words), 0) FROM documents"
        passages, said = self._database.execute(query).fetchone()
        return passages, said

    def frequencies(self, asked: Iterable[str]) -> dict[str, int]:
        """How many passages have each word, of those that any has."""
        asked = list(asked)
        marks = ", ".join("?" * len(asked))
        return dict(self._database.execute(f"SELECT word, passages FROM words WHERE word IN ({marks})", asked))

    def any_of(self, asked: Iterable[str]) -> Iterator[tuple[str, int, list[str], float]]:
        """(document, which of its passages, its words, rank) of those that have any of the words, by FTS5's BM25."""
        query = "SELECT rowid, words, rank FROM passages WHERE passages MATCH ? ORDER BY rank"
        for row, said, rank in self._database.execute(query, (" OR ".join(map(_quoted, asked)),)):
            yield *self._place(row), said.split(), rank

    def all_of(
        self, asked: Iterable[str], count: int, counts: Callable[[str], bool] | None = None
    ) -> Iterator[tuple[str, int, list[str]]]:
        """The first `count` of those that have all of the words, in the documents that count."""
        query = "SELECT rowid, words FROM passages WHERE passages MATCH ? AND rowid BETWEEN ? AND ? LIMIT ?"
        wanted = " AND ".join(map(_quoted, asked))
        for first, last in self._runs(counts) if counts else [(0, 2**62)]:
            for row, said in self._database.execute(query, (wanted, first, last, count)).fetchall():
                yield *self._place(row), said.split()
                count -= 1
            if count <= 0:
                return

    def _runs(self, counts: Callable[[str], bool]) -> Iterator[tuple[int, int]]:
        """The first and last rows of documents that count, those side by side in one."""
        run: tuple[int, int] | None = None
        for key, first, passages in self._database.execute("SELECT key, first, passages FROM documents ORDER BY first"):
            if counts(key):
                run = (run[0] if run else first, first + passages - 1)
            elif run:
                yield run
                run = None
        if run:
            yield run

    def _place(self, row: int) -> tuple[str, int]:
        query = "SELECT key, first FROM documents WHERE first <= ? ORDER BY first DESC LIMIT 1"
        key, first = self._database.execute(query, (row,)).fetchone()
        return key, row - first

    # --- writing ------------------------------------------------------------------------------------------------

    def insert(self, documents: Mapping[str, Indexed]) -> None:
        """Put in documents that are not there."""
        having: Counter[str] = Counter()
        query = "SELECT first + max(passages, 1) FROM documents ORDER BY first DESC LIMIT 1"
        (first,) = self._database.execute(query).fetchone() or (1,)
        for key, document in documents.items():
            said = [words(document.said(number)) for number in range(len(document))]
            rows = ((first + number, " ".join(passage)) for number, passage in enumerate(said))
            self._database.executemany("INSERT INTO passages (rowid, words) VALUES (?, ?)", rows)
            row = first, key, len(said), sum(map(len, said)), document.digest
            self._database.execute("INSERT INTO documents VALUES (?, ?, ?, ?, ?)", row)
            for passage in said:
                having.update(set(passage))
            first += max(1, len(said))
        self._database.executemany(
            "INSERT INTO words VALUES (?, ?) ON CONFLICT DO UPDATE SET passages = passages + excluded.passages",
            sorted(having.items()),
        )

    def delete(self, documents: Iterable[str]) -> None:
        """Take documents out; one that is not there is no error."""
        having: Counter[str] = Counter()
        execute = self._database.execute
        for key in documents:
            for first, passages in execute("SELECT first, passages FROM documents WHERE key = ?", (key,)).fetchall():
                rows = first, first + passages - 1
                for (said,) in execute("SELECT words FROM passages WHERE rowid BETWEEN ? AND ?", rows):
                    having.update(set(said.split()))
                execute("DELETE FROM passages WHERE rowid BETWEEN ? AND ?", rows)
                execute("DELETE FROM documents WHERE first = ?", (first,))
        self._database.executemany("UPDATE words SET passages = passages - ?2 WHERE word = ?1", sorted(having.items()))
        self._database.executemany("DELETE FROM words WHERE word = ? AND passages <= 0", [(word,) for word in having])

    def wipe(self) -> None:
        """Leave no trace in the file of what was deleted: FTS5 keeps it until it merges, a journal until it is folded in.

        Outside any transaction; takes as long as reading the whole index.
        """
        self._database.execute("INSERT INTO passages (passages) VALUES ('optimize')")
        self._database.commit()
        self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _quoted(word: str) -> str:
    """A word is letters and digits only; quoted, it is no operator of FTS5."""
    return f'"{word}"'
