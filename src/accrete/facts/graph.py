"""The memory graph: every statement ever read, since when it holds and until when. Ends at rows of SQLite.

A learner keeps it in memory and makes it anew from what its lessons stated (beliefs.py); a file is for a graph without one.

A statement says that `value` is the `relation` of `subject` from `valid_from` on. Statements about the same subject and
relation are one history. In a history the next one ends the one before it, in the order of their dates, whatever the order in
which they were read; so `valid_until`, `parent` and `contradicts` are derived (terms.py), and taking a lesson back restores
them:

    2018 "Ada"   2020 "Bo"   2022 "Ada"      Ada [2018, 2020)   Bo [2020, 2022)   Ada [2022, ...)

Intervals are half open and dates go as far as they are given: what changes in March 2020 has changed in "2020". Before the
first statement nothing is known. A statement may stand `beside` what holds and end nothing; the next that does not ends both.
Relations that have many values (`several`) have no order: each holds until its own end.
A document may say an end itself (`stated_until`); then it ends there, or where the next statement begins if that is sooner.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

from accrete.dates import check_date
from accrete.errors import HistoryError, UsageError
from accrete.facts.statements import Asked, Named, Statement
from accrete.facts.terms import Said, terms
from accrete.facts.values import value_key
from accrete.scoring import normalise
from accrete.types import Fact

SCHEMA = 3
_POSSESSIVE = re.compile(r"['’]s?(?!\w)")
LONGEST_NAME, LONGEST_TEXT = 10, 200  # words: of a name, and of a text in which names are looked for
_TABLES = """
CREATE TABLE IF NOT EXISTS documents (sha256 TEXT PRIMARY KEY, name TEXT NOT NULL, date TEXT, lesson TEXT);
CREATE TABLE IF NOT EXISTS relations (key TEXT PRIMARY KEY, name TEXT NOT NULL, several INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS facts (id INTEGER PRIMARY KEY, subject TEXT NOT NULL, relation TEXT NOT NULL, value TEXT NOT NULL,
    subject_key TEXT NOT NULL, relation_key TEXT NOT NULL, value_key TEXT NOT NULL, stated_from TEXT, stated_until TEXT,
    valid_from TEXT, valid_until TEXT, begun_by INTEGER, place INTEGER, stated_on TEXT,
    document TEXT NOT NULL DEFAULT '', start INTEGER, "end" INTEGER,
    lesson TEXT NOT NULL DEFAULT '', slot INTEGER, parent INTEGER, contradicts INTEGER, usage INTEGER NOT NULL DEFAULT 0,
    beside INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS facts_by_history ON facts (subject_key, relation_key);
CREATE INDEX IF NOT EXISTS facts_by_relation ON facts (relation_key);
CREATE INDEX IF NOT EXISTS facts_by_value ON facts (value_key);
CREATE INDEX IF NOT EXISTS facts_by_lesson ON facts (lesson);
CREATE TABLE IF NOT EXISTS probes (id INTEGER PRIMARY KEY, fact INTEGER NOT NULL REFERENCES facts ON DELETE CASCADE,
    question TEXT NOT NULL, answer TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS probes_by_fact ON probes (fact);
CREATE VIRTUAL TABLE IF NOT EXISTS asked USING fts5 (question);
CREATE TRIGGER IF NOT EXISTS probe_gone AFTER DELETE ON probes BEGIN DELETE FROM asked WHERE rowid = old.id; END;
"""
_FIELDS = ("id", "subject", "relation", "value", "valid_from", "valid_until", "stated_from", "stated_until", "begun_by",
           "stated_on", "document", "start", "end", "lesson", "slot", "parent", "contradicts", "usage", "beside")  # fmt: skip
_SELECT = "SELECT " + ", ".join(f'"{name}"' for name in _FIELDS) + " FROM facts"
# As `accrete.dates.begun`: as far as both dates are given. What has no date was always there.
_AT = "(valid_from IS NULL OR substr(valid_from, 1, length(:last)) <= :last)"
_NOT_OVER = "(valid_until IS NULL OR substr(valid_until, 1, length(:date)) > :date)"
_NOT_EMPTY = "(valid_until IS NULL OR valid_from IS NULL OR valid_from < valid_until)"


class FactGraph:
    """A graph in a file, or in memory without one. One writer at a time; readers see whole transactions (WAL).

    Raises HistoryError for a file that is no graph of ours.
    """

    def __init__(self, path: Path | str = ":memory:"):
        try:
            self._database = sqlite3.connect(path, timeout=10, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute("PRAGMA foreign_keys = ON")
            self._database.executescript(_TABLES)
            version = self._database.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.Error as error:
            raise HistoryError(f"The memory graph {path} cannot be opened: {error}.") from None
        if version not in (0, SCHEMA):
            raise HistoryError(f"The memory graph {path} was written by another version of accrete.")
        if not version:
            self._database.execute(f"PRAGMA user_version = {SCHEMA}")

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> FactGraph:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- writing ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written inside stands, or nothing of it; may be nested."""
        if self._database.in_transaction:
            yield
            return
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            yield

    @contextlib.contextmanager
    def tentative(self) -> Iterator[None]:
        """All that is written inside is gone after it."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            self._database.rollback()

    def add_document(self, sha256: str, name: str, date: str | None = None, lesson: str = "") -> None:
        """Where statements come from; a second time its name and date are replaced."""
        with self.transaction():
            self._database.execute(
                "INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?)",
                (sha256, name, date and check_date(date), lesson),
            )

    def declare_several(self, relation: str, several: bool = True, subject: str = "") -> None:
        """Say whether a relation has many values at once ("is a member of"): they do not contradict each other.

        Of every subject, or of one.
        """
        key = f"{normalise(relation)}\n{normalise(subject)}"
        with self.transaction():
            self._database.execute(
                "INSERT INTO relations VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET several = excluded.several",
                (key, relation, several),
            )
            for (one,) in self._database.execute(
                "SELECT DISTINCT subject_key FROM facts WHERE relation_key = ?", (normalise(relation),)
            ).fetchall():
                self._order(one, normalise(relation))

    def has_several(self, relation: str, subject: str = "") -> bool:
        keys = f"{normalise(relation)}\n", f"{normalise(relation)}\n{normalise(subject)}"
        row = self._database.execute("SELECT max(several) FROM relations WHERE key IN (?, ?)", keys).fetchone()
        return bool(row and row[0])

    def add(
        self,
        fact: Fact,
        *,
        stated_on: str | None = None,
        document: str = "",
        span: tuple[int, int] | None = None,
        lesson: str = "",
        slot: int | None = None,
        beside: bool = False,
    ) -> Statement:
        """One more statement; the others of its history begin and end anew, but for one that stands `beside` them.

        UsageError for a date that is none, an end that is not after the beginning, or an empty subject, relation or value.
        """
        keys = [normalise(part) for part in (fact.subject, fact.relation)]
        key = value_key(fact.value)
        if not all((*keys, key)):
            raise UsageError(
                f'A fact needs a subject, a relation and a value, not "{fact.subject}", "{fact.relation}", "{fact.value}".'
            )
        for date in filter(None, (fact.valid_from, fact.valid_until, stated_on)):
            check_date(date)
        if fact.valid_from and fact.valid_until and fact.valid_until <= fact.valid_from:
            raise UsageError(f"A fact ends after it begins, not from {fact.valid_from} until {fact.valid_until}.")
        start, end = span or (None, None)
        row = (fact.subject, fact.relation, fact.value, *keys, key, fact.valid_from, fact.valid_until, stated_on,
               document, start, end, lesson, slot, beside)  # fmt: skip
        with self.transaction():
            number = self._database.execute(
                "INSERT INTO facts (subject, relation, value, subject_key, relation_key, value_key, stated_from,"
                ' stated_until, stated_on, document, start, "end", lesson, slot, beside)'
                f" VALUES ({', '.join('?' * len(row))})",
                row,
            ).lastrowid
            self._order(*keys)
        return self[int(number or 0)]

    def add_question(self, statement: int, question: str, answer: str) -> None:
        """A question that this statement answers."""
        with self.transaction():
            row = self._database.execute(
                "INSERT INTO probes (fact, question, answer) VALUES (?, ?, ?)", (statement, question, answer)
            ).lastrowid
            self._database.execute("INSERT INTO asked (rowid, question) VALUES (?, ?)", (row, question))

    def assign(self, statement: int, slot: int | None) -> None:
        """Say where a method has written it."""
        with self.transaction():
            self._database.execute("UPDATE facts SET slot = ? WHERE id = ?", (slot, statement))

    def remove_lesson(self, lesson: str) -> int:
        """Take back all that a lesson stated; what it had ended goes on. The number of statements."""
        with self.transaction():
            histories = self._database.execute(
                "SELECT DISTINCT subject_key, relation_key FROM facts WHERE lesson = ?", (lesson,)
            ).fetchall()
            count = self._database.execute("DELETE FROM facts WHERE lesson = ?", (lesson,)).rowcount
            self._database.execute("DELETE FROM documents WHERE lesson = ?", (lesson,))
            for history in histories:
                self._order(*history)
        return count

    def has_changed(self, relation: str) -> bool:
        """Whether some subject has had one value of it after another."""
        return bool(
            self._database.execute(
                "SELECT 1 FROM facts WHERE relation_key = ? AND contradicts IS NOT NULL AND NOT beside LIMIT 1",
                (normalise(relation),),
            ).fetchone()
        )

    def count_use(self, rows: Iterable[tuple[str, str, str, str, int]]) -> None:
        """How often statements were read for an answer: the keys of subject, relation and value, the date or "", the count."""
        with self.transaction():
            self._database.executemany(
                "UPDATE facts SET usage = ?5 WHERE subject_key = ?1 AND relation_key = ?2 AND value_key = ?3"
                " AND ifnull(stated_from, '') = ?4",
                rows,
            )

    def _order(self, subject_key: str, relation_key: str) -> None:
        """Derive of one history who ends whom (terms.py)."""
        rows = self._database.execute(
            "SELECT id, value_key, stated_from, stated_until, stated_on, beside FROM facts"
            " WHERE subject_key = ? AND relation_key = ? ORDER BY id",
            (subject_key, relation_key),
        )
        derived = terms([Said(*row) for row in rows], self.has_several(relation_key, subject_key))
        self._database.executemany(
            "UPDATE facts SET place = ?, valid_from = ?, valid_until = ?, parent = ?, contradicts = ?, begun_by = ?"
            " WHERE id = ?",
            [(place, *one[1:], one.id) for place, one in enumerate(derived)],
        )

    # --- reading ------------------------------------------------------------------------------------------------

    def __getitem__(self, number: int) -> Statement:
        found = self._read("WHERE id = ?", number)
        if not found:
            raise KeyError(number)
        return found[0]

    def __len__(self) -> int:
        return int(self._database.execute("SELECT count(*) FROM facts").fetchone()[0])

    def at(
        self, date: str, subject: str | None = None, relation: str | None = None, value: str | None = None
    ) -> list[Statement]:
        """What held at a date, of everything or of this subject, relation and value, in the order in which it was read.

        Of a time, "2017/2019", what held on any day of it that is not before what held at its beginning.
        """
        first, _, last = date.partition("/")
        where, given = _of(subject, relation, value)
        given |= {"date": check_date(first), "last": check_date(last or first)}
        return self._read(f"WHERE {_AT} AND {_NOT_OVER} AND {_NOT_EMPTY}{where} ORDER BY id", **given)

    def active(self, subject: str | None = None, relation: str | None = None) -> list[Statement]:
        """What holds and no statement has ended."""
        where, given = _of(subject, relation)
        return self._read(f"WHERE valid_until IS NULL{where} ORDER BY id", **given)

    def history(self, subject: str, relation: str | None = None) -> list[Statement]:
        """All statements about a subject, or about one relation of it, in the order of their dates."""
        where, given = _of(subject, relation)
        return self._read(f"WHERE 1{where} ORDER BY relation_key, place", **given)

    def with_beginnings(self, statements: Iterable[Statement]) -> list[Statement]:
        """These, each after the one that says since when it holds, where it does not say so itself."""
        begun = ((one, self[one.begun_by]) if one.begun_by else (one,) for one in statements)
        return [one for pair in begun for one in reversed(pair)]

    def neighbours(self, number: int, limit: int = 100) -> dict[str, list[Statement]]:
        """What may be disturbed when this is written: of the same history, subject or relation, and what names it.

        `same_relation` are those of other subjects, the nearest in the order of reading first.
        """
        one = self[number]
        keys = {"subject": normalise(one.subject), "relation": normalise(one.relation), "value": normalise(one.value)}
        keys["subject_as_value"] = value_key(one.subject)
        ways = {
            "history": "subject_key = :subject AND relation_key = :relation",
            "same_subject": "subject_key = :subject AND relation_key <> :relation",
            "named": "(value_key = :subject_as_value OR subject_key = :value)",
        }
        given = keys | {"id": number, "limit": limit}
        found = {
            name: self._read(f"WHERE id <> :id AND {way} ORDER BY id LIMIT :limit", **given)
            for name, way in ways.items()
        }
        others = "WHERE relation_key = :relation AND subject_key <> :subject AND"  # of a million the index gives a few
        near = self._read(f"{others} id < :id ORDER BY id DESC LIMIT :limit", **given)
        near += self._read(f"{others} id > :id ORDER BY id LIMIT :limit", **given)
        found["same_relation"] = sorted(near, key=lambda other: abs(other.id - number))[:limit]
        return found

    def named_in(self, text: str, limit: int = 200) -> tuple[list[Named], list[Named]]:
        """Statements about what a text names, and those whose value it names, of these at most `limit`, as they were read."""
        said = normalise(_POSSESSIVE.sub("", text)).split()[:LONGEST_TEXT]
        spans: dict[str, tuple[int, int]] = {}
        for start in range(len(said)):
            for end in range(start + 1, min(len(said), start + LONGEST_NAME) + 1):
                spans.setdefault(" ".join(said[start:end]), (start, end))
        marks = ", ".join("?" * len(spans))
        about = self._read(f"WHERE subject_key IN ({marks}) ORDER BY id", *spans) if spans else []
        valued = self._read(f"WHERE value_key IN ({marks}) ORDER BY id LIMIT {limit}", *spans) if spans else []
        own = [(one, spans[normalise(one.subject)]) for one in about]
        given = [(one, spans[key]) for one in valued if (key := value_key(one.value)) in spans]
        whole = {span for _, span in own + given}
        nested = {a for a in whole if any(b[0] <= a[0] and a[1] <= b[1] and a != b for b in whole)}
        return [Named(one, span in nested) for one, span in own], [Named(one, span in nested) for one, span in given]

    def questions_of(self, statements: Iterable[int]) -> list[Asked]:
        """The questions that these statements answer."""
        found = []
        for one in statements:
            rows = self._database.execute(
                "SELECT fact, question, answer FROM probes WHERE fact = ? ORDER BY id", (one,)
            )
            found += [Asked(*row) for row in rows]
        return found

    def asked_like(self, words: Sequence[str], relation: str | None = None, limit: int = 16) -> list[Asked]:
        """The questions, of one relation or of all, that have most of these words, the best first."""
        if not words or (relation and not self._read("WHERE relation_key = ? LIMIT 1", normalise(relation))):
            return []
        rows = self._database.execute(
            "SELECT fact, probes.question, answer FROM asked JOIN probes ON probes.id = asked.rowid"
            " JOIN facts ON facts.id = fact WHERE asked MATCH ?1 AND (?2 IS NULL OR relation_key = ?2) ORDER BY rank LIMIT ?3",
            (
                " OR ".join('"' + word.replace('"', "") + '"' for word in words[:LONGEST_TEXT]),
                normalise(relation) if relation else None,
                limit,
            ),
        )
        return [Asked(*row) for row in rows]

    def of_lesson(self, lesson: str) -> list[Statement]:
        """What a lesson stated, in its order."""
        return self._read("WHERE lesson = ? ORDER BY id", lesson)

    def slots(self) -> dict[int, str]:
        """Every slot in which a statement is written, and the first lesson that stated what is there."""
        return dict(
            self._database.execute("SELECT slot, lesson FROM facts WHERE slot IS NOT NULL ORDER BY id DESC").fetchall()
        )

    def subjects(self) -> list[tuple[str, int]]:
        """Every subject, as it was first written, and how many statements there are about it."""
        return self._database.execute(
            "SELECT subject, count(*) FROM facts GROUP BY subject_key ORDER BY min(id)"
        ).fetchall()

    def document(self, sha256: str) -> tuple[str, str | None] | None:
        """Name and date."""
        row = self._database.execute("SELECT name, date FROM documents WHERE sha256 = ?", (sha256,)).fetchone()
        return (row[0], row[1]) if row else None

    def _read(self, rest: str, *values: object, **named: object) -> list[Statement]:
        rows = self._database.execute(f"{_SELECT} {rest}", named or values)
        return [Statement(*row) for row in rows]


def _of(subject: str | None, relation: str | None, value: str | None = None) -> tuple[str, dict[str, str]]:
    """Conditions for a subject, a relation and a value, and what they are filled with."""
    given = {"subject": subject and normalise(subject), "relation": relation and normalise(relation)}
    given["value"] = value and value_key(value)
    found = {name: key for name, key in given.items() if key is not None}
    return "".join(f" AND {name}_key = :{name}" for name in found), found
