"""A passage index: FTS5 finds passages by the rare words of a question, BM25 or TF-IDF ranks them. Ends at ranked passages.

    question -> its words -> the rarest -> the POOL best rows by FTS5's BM25 -> ranked by all its words

A common word costs a look at every passage that has it. So only the rarest words of a question choose the pool, as many as
occur MOST_ROWS times together; the others count in the ranking alone. What this costs in recall: a passage that shares
nothing but the commoner words of a question is not found where rarer ones are known, and a question of which even the
rarest word is in more than MOST_ROWS passages is answered from the first POOL that have most of its words. Up to some ten
thousand passages neither happens.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from accrete.dates import nearest_first, spoken
from accrete.retrieval.indexed import Indexed
from accrete.retrieval.table import Table
from accrete.retrieval.words import STOP_WORDS, telling, words
from accrete.types import Passage

Ranking = Literal["bm25", "tfidf"]
MOST_ROWS = 2_000  # that FTS5 ranks for a question: it costs a microsecond and more each
MOST_WORDS = 64  # that are looked for: the rarest
LONGEST = 1_000  # words of a question; of a longer text the beginning is looked at
POOL = 64  # passages that are ranked by all words
VERSION = 0.3  # of the words of two passages that are in both: then they are versions of one (LOG.md)
NAMED = 3  # in `share`, a name counts as much as so many other words as rare (LOG.md)
K1, B = 1.2, 0.75  # of BM25, as in FTS5
T = TypeVar("T")
_Row = tuple[str, int, list[str]]  # document, which of its passages, its words
_Ranked = tuple[float, str, int, list[str]]  # the same after the score, less than nothing for a good one


@dataclass(frozen=True)
class Found:
    """A passage, its score in the ranking, and what share of the question's words it has, rare ones and names above all."""

    passage: Passage
    score: float
    share: float


class _Elsewhere(Exception):
    """The file does not hold these documents."""


class PassageIndex:
    """Passages by document, found by their words. A part of a method: three entries of state a document.

    The documents are what counts; the table is derived from them and brought to them when it is used. The same documents
    give the same results, in whatever order they came and whatever was removed meanwhile (but see the head of this file).

    With `path` the table is a file, and a million passages need not be indexed anew by every process. Who adds or removes
    brings it to the documents; who only searches, and finds it at others, uses a table in memory. So does who cannot use it.
    `weigh` says how rare a word is in the language at large (1 for a common one), which few passages cannot tell: for `share`.
    """

    def __init__(
        self, ranking: Ranking = "bm25", weigh: Callable[[str], float] = lambda word: 1.0, path: Path | None = None
    ):
        self.ranking, self.weigh, self.path = ranking, weigh, path
        self._documents: dict[str, Indexed] = {}
        self._table: Table | None = None
        self._seen: int | None = None  # the version of the table that agrees with the documents
        self._passages = self._words = 0  # in the table
        self._left = False  # whether the file may hold words of what was deleted
        self._aside: PassageIndex | None = None  # in memory, while the file is of no use

    def __len__(self) -> int:
        """How many passages."""
        return sum(map(len, self._documents.values()))

    def __contains__(self, document: str) -> bool:
        return document in self._documents

    @property
    def documents(self) -> int:
        return len(self._documents)

    def add(self, document: str, passages: Sequence[Passage], name: str = "", dates: Iterable[str] = ()) -> None:
        """Take in a document under a key, the sha256 of its content, say; what had that key is replaced."""
        new = Indexed.of(passages, name, dates)
        self._with_table(lambda table: self._change(table, document, new), changing=True)

    def remove(self, document: str) -> None:
        """Take a document out; one that is not here is no error. In a file its words may stay until `settle`."""
        if document in self._documents:
            self._with_table(lambda table: self._change(table, document, None), changing=True)

    def settle(self) -> None:
        """Bring the file to the documents, and wipe from it what they do not have: what was undone is not to stay there."""
        if self.path is None or not self.path.exists():
            return
        self._with_table(lambda table: None, changing=True)
        if self._table is not None and self._left:
            with contextlib.suppress(
                sqlite3.OperationalError
            ):  # another process reads: SQLite clears up after the last
                self._table.wipe()
                self._left = False

    def search(self, question: str, count: int = 3, as_of: str | None = None, put_at: str | None = None) -> list[Found]:
        """The `count` best passages, the best first; of documents that were there `as_of` an ISO date.

        Of versions of one text the last comes first, or that nearest to the date which the question is `put_at` in its own
        words. A passage need not have these where none has.
        """
        asked = dict(itertools.islice(telling(question).items(), LONGEST))
        if not asked or not self._documents:
            return []
        try:
            return self._with_table(lambda table: self._search(table, asked, count, as_of, put_at))
        except _Elsewhere:
            return self._in_memory().search(question, count, as_of, put_at)

    def idf(self, asked: Iterable[str]) -> dict[str, float]:
        """How much each word tells, from 0 up: the logarithm of how seldom a passage has it."""
        every = list(asked)
        try:
            return self._with_table(lambda table: self._idf(every, table.frequencies(every)))
        except _Elsewhere:
            return self._in_memory().idf(every)

    # --- searching ----------------------------------------------------------------------------------------------

    def _search(
        self, table: Table, asked: Mapping[str, int], count: int, as_of: str | None, put_at: str | None
    ) -> list[Found]:
        held = table.frequencies(asked)
        idf = self._idf(asked, held)
        tells = {word: idf[word] * self.weigh(word) * (NAMED if name else 1) for word, name in asked.items()}
        found = []
        for key, number, said in self._pool(table, held, as_of):
            score = self._bm25(said, idf) if self.ranking == "bm25" else self._cosine(table, said, idf)
            found.append((-score, key, number, said))
        best = sorted(found)[:count]
        date = set(words(spoken(put_at)))
        if date and not any(date <= set(said) for *_, said in best):  # no passage says it: their dates may
            asked = {word: name for word, name in asked.items() if word not in date} or asked
        return [
            Found(self._documents[key].passage(number), -score, _share(asked, tells, said))
            for score, key, number, said in self._standing_first(best, put_at)
        ]

    def _standing_first(self, best: list[_Ranked], put_at: str | None) -> list[_Ranked]:
        """Those of which another one is a version from a nearer date come last: a model believes what it reads first."""
        dates = [min(self._documents[key].dates, default="") for _, key, *_ in best]
        order = nearest_first(filter(None, dates), put_at)
        sets = [set(said) - STOP_WORDS for *_, said in best]

        def superseded(one: int) -> bool:
            nearer = order[: order.index(dates[one])] if dates[one] else []
            return any(then in nearer and alike(sets[one], said) for then, said in zip(dates, sets, strict=True))

        return [best[place] for place in sorted(range(len(best)), key=superseded)]

    def _pool(self, table: Table, held: Mapping[str, int], as_of: str | None) -> list[_Row]:
        """The best by the rarest words, and those that are as good as the last of them."""
        rarest = sorted(held, key=lambda word: (held[word], word))[:MOST_WORDS]
        if not rarest:
            return []
        if held[rarest[0]] > MOST_ROWS:
            return self._unranked(table, rarest, as_of)
        rows = itertools.accumulate(held[word] for word in rarest)
        chosen = [word for word, so_far in zip(rarest, rows, strict=True) if so_far <= MOST_ROWS]
        pool: list[_Row] = []
        last = 0.0
        for key, number, said, rank in table.any_of(chosen):
            if len(pool) >= POOL and rank != last:
                break
            if self._documents[key].counts_at(as_of):
                pool.append((key, number, said))
                last = rank
        return pool

    def _unranked(self, table: Table, rarest: Sequence[str], as_of: str | None) -> list[_Row]:
        """The first that have the three rarest of these words, or two, or one: they are too many to rank them all."""
        counts = None if as_of is None else (lambda key: self._documents[key].counts_at(as_of))
        pool: dict[tuple[str, int], _Row] = {}
        for size in (3, 2, 1):
            if len(pool) < POOL:
                pool |= {row[:2]: row for row in table.all_of(rarest[:size], POOL, counts)}
        return list(pool.values())

    def _idf(self, asked: Iterable[str], held: Mapping[str, int]) -> dict[str, float]:
        return {word: math.log(1 + self._passages / max(1, held.get(word, 0))) for word in asked}

    def _bm25(self, said: list[str], idf: Mapping[str, float]) -> float:
        """Okapi BM25 over all words of the question."""
        length = K1 * (1 - B + B * len(said) * self._passages / max(1, self._words))
        counts = ((said.count(word), rarity) for word, rarity in idf.items())
        return sum(rarity * times * (K1 + 1) / (times + length) for times, rarity in counts)

    def _cosine(self, table: Table, said: list[str], idf: Mapping[str, float]) -> float:
        """Between question and passage as vectors of word counts times idf."""
        times = Counter(said)
        rarity = self._idf(times, table.frequencies(times))
        across = sum(idf[word] ** 2 * times[word] for word in idf if word in times)
        return across / math.hypot(*idf.values()) / math.hypot(*(times[word] * rarity[word] for word in times))

    # --- the table ----------------------------------------------------------------------------------------------

    def _with_table(self, use: Callable[[Table], T], changing: bool = False) -> T:
        """Use the table in one transaction, brought to the documents. A file is brought there only where it may change.

        _Elsewhere for who only searches, while another process has taken the file further or it cannot be read.
        """
        try:
            self._table = self._table or Table(self.path)
            with self._table.transaction(changing or self.path is None) as table:
                seen, self._seen = self._seen, None  # whatever cuts this off
                if seen is None or seen != table.version():
                    if not (changing or self.path is None or self._agrees(table)):
                        raise _Elsewhere
                    self._sync(table)
                result = use(table)
                version = table.version()
            self._seen = version
        except sqlite3.DatabaseError:
            if self.path is None:
                raise
            if changing:
                self.path = self._table = None
                return self._with_table(use, changing)
            raise _Elsewhere from None
        return result

    def _in_memory(self) -> PassageIndex:
        """The same documents with a table in memory."""
        here, there = list(self._documents.items()), list(self._aside._documents.items()) if self._aside else []
        same = len(here) == len(there) and all(a == c and b is d for (a, b), (c, d) in zip(here, there, strict=True))
        if self._aside is None or not same:
            self._aside = PassageIndex(self.ranking, self.weigh)
            self._aside._documents = dict(self._documents)
        return self._aside

    def _agrees(self, table: Table) -> bool:
        there = table.digests()
        return there.keys() == self._documents.keys() and all(
            there[key] == document.digest for key, document in self._documents.items()
        )

    def _sync(self, table: Table) -> None:
        """Add what is missing in the table, delete what is there no longer."""
        there = table.digests()
        new = {key: document for key, document in self._documents.items() if there.get(key) != document.digest}
        gone = [key for key in there if key in new or key not in self._documents]
        table.delete(gone)
        table.insert(new)
        self._passages, self._words = table.totals()
        self._left |= bool(gone)

    def _change(self, table: Table, key: str, document: Indexed | None) -> None:
        """Put a document there, or take it away; in documents and table."""
        self._left |= self._documents.pop(key, None) is not None
        table.delete([key])
        if document is not None:
            self._documents[key] = document
            table.insert({key: document})
        self._passages, self._words = table.totals()

    # --- state --------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Of every document its text (uint8), its spans (int32), its name and dates; an unchanged one is stored once."""
        state: dict[str, Any] = {}
        for key, document in self._documents.items():
            about = {"name": document.name, "dates": list(document.dates)}
            state |= {f"{key}/text": document.text, f"{key}/spans": document.spans, f"{key}/about": about}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Hold exactly these documents; the table follows when it is next used. Raises ValueError for what is no state."""
        documents: dict[str, Indexed] = {}
        for key in dict.fromkeys(name.rpartition("/")[0] for name in state):
            about, text, spans = (state[f"{key}/{name}"] for name in ("about", "text", "spans"))
            found, known = (
                Indexed(str(about["name"]), tuple(map(str, about["dates"])), text, spans),
                self._documents.get(key),
            )
            documents[key] = known if known is not None and known.same(found) else found
        self._documents, self._seen = documents, None


def alike(one: set[str], other: set[str]) -> bool:
    """Whether two texts say the same of the same, by their words, but for what changed."""
    return len(one & other) >= VERSION * len(one | other)


def _share(asked: Mapping[str, int], tells: Mapping[str, float], said: list[str]) -> float:
    """The share of the question that a passage has, by what its words tell.

    A name counts as far as it is there, squared: half of "the Green Elmholm" is in any passage about something green.
    """
    has: dict[int, float] = {}
    whole: dict[int, float] = {}
    for word, name in asked.items():
        whole[name] = whole.get(name, 0.0) + tells[word]
        has[name] = has.get(name, 0.0) + (tells[word] if word in said else 0.0)
    counted = sum(there**2 / whole[name] if name and whole[name] else there for name, there in has.items())
    return counted / sum(whole.values())
