"""How often each statement stood behind an answer that somebody asked for. Ends at counts.

home/usage/<base digest>.sqlite, by subject, relation, value and date, so that a fact keeps its count whoever states it.
Asking writes here and nowhere else; measuring does not. Where nothing can be written, nothing is counted.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from accrete.facts.graph import FactGraph
from accrete.facts.statements import Statement
from accrete.facts.values import value_key
from accrete.scoring import normalise

_TABLE = """CREATE TABLE IF NOT EXISTS used (subject TEXT, relation TEXT, value TEXT, valid_from TEXT, count INTEGER NOT NULL,
    PRIMARY KEY (subject, relation, value, valid_from))"""


class Usage:
    """The counts of one base model in one home."""

    def __init__(self, home: Path, base: str):
        self.path = home / "usage" / f"{base[:16]}.sqlite"

    def count(self, statements: Iterable[Statement]) -> None:
        """Once more for each."""
        keys = [_key(one) for one in statements]
        if not keys:
            return
        with contextlib.suppress(sqlite3.Error, OSError):  # a full disk is told to who learns, not to who asks
            self.path.parent.mkdir(exist_ok=True)
            with contextlib.closing(sqlite3.connect(self.path, timeout=1)) as database, database:
                database.execute(_TABLE)
                database.executemany(
                    "INSERT INTO used VALUES (?, ?, ?, ?, 1) ON CONFLICT DO UPDATE SET count = count + 1", keys
                )

    def recall(self, graph: FactGraph) -> None:
        """Give the statements of a graph their counts."""
        if not self.path.exists():
            return
        with contextlib.suppress(sqlite3.Error, OSError):
            with contextlib.closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)) as database:
                rows = database.execute("SELECT subject, relation, value, valid_from, count FROM used").fetchall()
            graph.count_use(rows)


def _key(one: Statement) -> tuple[str, str, str, str]:
    return normalise(one.subject), normalise(one.relation), value_key(one.value), one.stated_from or ""
