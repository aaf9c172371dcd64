"""A datastore of hidden states: what the model was in the middle of, and the token that came next. Ends at neighbours.

kNN-LM (1911.00172), in two steps: the study items and passages nearest to a question by their words (nearest.py), then,
step by step, the states within those. `space.py` says in what space they are compared, `logits.py` what neighbours do.

Keys stay where the tensors of their document are, which a home leaves on disk (mapped); those of near items are copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from accrete.dates import begun, nearest_first
from accrete.retrieval.names import Asked
from accrete.retrieval.nearest import Nearest
from accrete.retrieval.vectors import Vectors

_NAMES = {
    "cues",
    "lengths",
    "keys",
    "values",
    "reach",
    "marks",
    "counts",
}  # of the tensors of a document; "name" and "date" where it has them


@dataclass(frozen=True)
class Entries:
    """What is kept of some texts: of each a cue [I, D] and so many (lengths [I]) of the keys [N, D] and next tokens [N].

    `reach_N` is how near to each key something lies that is known to go on otherwise (-1 where nothing does; space.py).
    `counts_I` are how many of the marks [W] are of words that each text speaks of (names.py).
    """

    cues_ID: Tensor
    lengths_I: Tensor
    keys_ND: Tensor
    values_N: Tensor
    reach_N: Tensor
    marks_W: Tensor
    counts_I: Tensor


class Runs:
    """Things of all items one after another, so many of each item (lengths [I]) and of each document: where they stand."""

    def __init__(self, lengths_I: Tensor, sizes: Sequence[int]):
        self.lengths_I = lengths_I
        self._starts_I = lengths_I.cumsum(0) - lengths_I
        self.ends_P = torch.tensor(sizes).cumsum(0)
        self.starts_P = self.ends_P - torch.tensor(sizes)

    def places(self, items_C: Tensor) -> Tensor:
        """[M] of what belongs to these items, item after item."""
        lengths_C = self.lengths_I[items_C]
        within_M = torch.arange(int(lengths_C.sum()))
        return within_M + (self._starts_I[items_C] - lengths_C.cumsum(0) + lengths_C).repeat_interleave(lengths_C)


class Held:
    """Documents side by side, each with its own tensors: what their items have is looked up in those of its document.

    All on the CPU. It stays as it is, whatever the datastore takes in or forgets.
    """

    def __init__(self, documents: Mapping[str, Mapping[str, Tensor]]):
        self.documents = tuple(documents.values())
        self.cues = _cues(documents)
        self.dates = {key: [_text(kept["date"])] for key, kept in documents.items() if "date" in kept}
        self.lengths_I = torch.cat([kept["lengths"].long() for kept in self.documents])
        self._keys = Runs(self.lengths_I, [len(kept["keys"]) for kept in self.documents])
        counts_I = torch.cat([kept["counts"].long() for kept in self.documents])
        self._marks = Runs(counts_I, [len(kept["marks"]) for kept in self.documents])
        self._dates_P = [_text(kept.get("date")) for kept in self.documents]
        self._items_P = torch.tensor([len(kept["lengths"]) for kept in self.documents]).cumsum(0)

    def places(self, items_C: Tensor) -> Tensor:
        """Of the keys of these items [M]."""
        return self._keys.places(items_C)

    def shares(self, items_C: Tensor, asked: Asked) -> Tensor:
        """[C] how much of what a question names each of these items speaks of."""
        (marks_M,) = self._look_up(self._marks, self._marks.places(items_C), "marks")
        return asked.shares(marks_M, self._marks.lengths_I[items_C])

    def ages(self, items_C: Tensor, at: str | None = None) -> Tensor:
        """[C] of each item the number of dates among these that are nearer to `at` (dates.py); 0 for what has none."""
        dates = [self._dates_P[owner] for owner in torch.searchsorted(self._items_P, items_C, right=True).tolist()]
        order = nearest_first(filter(None, dates), at)
        return torch.tensor([order.index(date) if date else 0 for date in dates], dtype=torch.float32)

    def document(self, place: int) -> str:
        """The name of the document that the key at this place is of."""
        return _text(self.documents[int(torch.searchsorted(self._keys.ends_P, place, right=True))].get("name"))

    def at(self, places_M: Tensor, *names: str) -> list[Tensor]:
        """What the keys at these places have."""
        return self._look_up(self._keys, places_M, *names)

    def _look_up(self, runs: Runs, places_M: Tensor, *names: str) -> list[Tensor]:
        """What stands there under these names: one look-up a document and name, where its tensors lie."""
        owners_M = torch.searchsorted(runs.ends_P, places_M, right=True)
        owners, counts = owners_M.unique_consecutive(return_counts=True)  # type: ignore[no-untyped-call]
        of_each = torch.split(places_M - runs.starts_P[owners_M], counts.tolist())
        found = []
        for name in names:
            kept = [self.documents[owner][name] for owner in owners.tolist()]
            joined = torch.empty(len(places_M), *kept[0].shape[1:], dtype=kept[0].dtype)
            for tensor, within, into in zip(kept, of_each, torch.split(joined, counts.tolist()), strict=True):
                torch.index_select(tensor, 0, within, out=into)
            found.append(joined)
        return found


@dataclass(frozen=True)
class Neighbourhood:
    """Where among all that is held the keys of what is near to one question are [M], and how near each one's cue is [M]."""

    held: Held
    places_M: Tensor
    cosines_M: Tensor

    @property
    def values_M(self) -> Tensor:
        return self.held.at(self.places_M, "values")[0].long()


class Datastore:
    """Unit vectors and the tokens that followed, document by document.

    What is kept of a document is its own tensors, in float16: a commit stores a document once, and a removal is exact.
    The order in which documents came makes no difference.
    """

    def __init__(self, device: torch.device | str = "cpu"):
        self.device = torch.device(device)
        self._documents: dict[str, dict[str, Tensor]] = {}  # in the order of their names
        self._held: Held | None = None
        self._nearest = Nearest(self.device)

    def __len__(self) -> int:
        return sum(len(kept["values"]) for kept in self._documents.values())

    def __contains__(self, document: str) -> bool:
        return document in self._documents

    @property
    def documents(self) -> int:
        return len(self._documents)

    def add(self, document: str, entries: Entries, dates: Iterable[str] = (), name: str = "") -> None:
        """Keep the entries of a document under a key, the sha256 of its content, say; what had that key is replaced.

        `dates` are those of its content (ISO), from the first of which it counts; `name` is what it is called.
        """
        kept = {
            "cues": entries.cues_ID.half(),
            "lengths": entries.lengths_I.int(),
            "keys": entries.keys_ND.half(),
            "values": entries.values_N.int(),
            "reach": entries.reach_N.half(),
            "marks": entries.marks_W.int(),
            "counts": entries.counts_I.int(),
        }
        for what, text in (("date", min(dates, default="")), ("name", name)):
            if text:
                kept[what] = torch.tensor(list(text.encode(errors="replace")), dtype=torch.uint8)
        self._hold(self._documents | {document: {name: tensor.cpu() for name, tensor in kept.items()}})
        self.keep_up()

    def remove(self, document: str) -> None:
        """Forget a document; nothing of it stays. One that is not here is no error."""
        if document in self._documents:
            self._hold({name: kept for name, kept in self._documents.items() if name != document})

    def around(
        self,
        cues_QD: Tensor,
        count: int,
        as_of: str | None = None,
        recency: float = 0.0,
        put_at: Sequence[str | None] = (),
        asked: Sequence[Asked] = (),
        named: float = 0.0,
    ) -> list[Neighbourhood]:
        """For every question the keys of the `count` items whose cues are nearest, of documents there `as_of` an ISO date.

        What was said last stands, or what was said last when a question is `put_at` a date of its own: a cue is taken for
        less near by `recency` for every date among those items that stands before its own. An item that speaks of less than
        `named` of what a question names (`asked`) is none of its neighbours; it may have none. No neighbourhoods at all
        when nothing is kept, or nothing that was there then.
        """
        if not self._documents:
            return []
        held = self._all()
        late = {name for name, dates in held.dates.items() if not begun(dates, as_of)}
        cosines_QC, items_QC = self._nearest.search(cues_QD.to(self.device), held.cues, count, late)
        if not items_QC.numel():
            return []
        if recency and held.dates:
            then = put_at or [None] * len(items_QC)
            ages_QC = torch.stack([held.ages(items_C, at) for items_C, at in zip(items_QC.cpu(), then, strict=True)])
            cosines_QC = cosines_QC - recency * ages_QC.to(self.device)
        found = []
        for row, (items_C, cosines_C) in enumerate(zip(items_QC, cosines_QC, strict=True)):
            if asked:
                speaking_C = held.shares(items_C, asked[row]) >= named
                items_C, cosines_C = items_C[speaking_C], cosines_C[speaking_C.to(self.device)]
            lengths_C = held.lengths_I[items_C].to(self.device)
            found.append(Neighbourhood(held, held.places(items_C), cosines_C.repeat_interleave(lengths_C)))
        return found

    @property
    def dated(self) -> bool:
        """Whether any document has a date."""
        return bool(self._documents) and bool(self._all().dates)

    def derive_in(self, folder: Path) -> None:
        """Where a file may lie that finds the nearest of very many items sooner (nearest.py); in memory without it."""
        self._nearest.folder = folder

    def keep_up(self) -> None:
        """Bring that file to what is held, if it has fallen far behind. `add` sees to it; after a state was loaded you may."""
        self._nearest.keep_up(_cues(self._documents))

    def tidy(self) -> None:
        """Leave nothing in that file which is not held."""
        self._nearest.tidy(_cues(self._documents))

    def _hold(self, documents: Mapping[str, dict[str, Tensor]]) -> None:
        self._documents = dict(sorted(documents.items()))
        self._held = None

    def _all(self) -> Held:
        self._held = self._held or Held(self._documents)
        return self._held

    # --- state --------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        return {f"{document}/{name}": kept[name] for document, kept in self._documents.items() for name in kept}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Hold exactly these documents, their tensors as they are. Raises ValueError for what is no state."""
        documents: dict[str, dict[str, Tensor]] = {}
        for key, tensor in state.items():
            document, _, name = key.rpartition("/")
            documents.setdefault(document, {})[name] = tensor
        for kept in documents.values():
            _check(kept)
        self._hold(documents)


@dataclass(frozen=True)
class SideBySide:
    """Neighbourhoods of one datastore side by side: every key in any of them once [U, D] with its token and its reach [U].

    `where_U` is where each stands among all that is held.
    Of each row the places of its keys among those [B, M] and what their cues add to a likeness [B, M], padded. A likeness
    is the mean of the cosines of state and cue, that of the cue counted `cue_weight` times: the keys hold their share of it.
    """

    rows: tuple[Neighbourhood, ...]
    where_U: Tensor
    keys_UD: Tensor
    values_U: Tensor
    reach_U: Tensor
    places_BM: Tensor
    cues_BM: Tensor

    @classmethod
    def of(cls, near: Sequence[Neighbourhood], cue_weight: float, last: SideBySide | None = None) -> SideBySide:
        """The table of these. Rows that are those of the last step, or some of them, need no keys looked up again."""
        if last is not None:
            place = {id(row): i for i, row in enumerate(last.rows)}
            kept = [place.get(id(row)) for row in near]
            if kept == list(range(len(last.rows))):
                return last
            if None not in kept:
                return replace(last, rows=tuple(near), places_BM=last.places_BM[kept], cues_BM=last.cues_BM[kept])
        held, device, share = near[0].held, near[0].cosines_M.device, cue_weight / (1 + cue_weight)
        once = {id(one): one for one in near}  # a text that is read has many steps in one neighbourhood
        joined = torch.cat([one.places_M for one in once.values()])
        unique_U, places = joined.unique(return_inverse=True)  # type: ignore[no-untyped-call]
        keys_UD, values_U, reach_U = (of.to(device) for of in held.at(unique_U, "keys", "values", "reach"))
        split = dict(zip(once, places.split([len(one.places_M) for one in once.values()]), strict=True))
        return cls(
            tuple(near),
            unique_U,
            keys_UD.float() / (1 + cue_weight),
            values_U.long(),
            reach_U.float(),
            pad_sequence([split[id(one)] for one in near], batch_first=True).to(device),
            pad_sequence([one.cosines_M for one in near], batch_first=True, padding_value=-torch.inf) * share,
        )

    def nearest(self, states_BD: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The keys most like each state in its row, the best first: their likenesses, tokens, reaches and places [B, K].

        A place is one among the keys of this table; where the key stands among all is in `where_U`.
        """
        likeness_BM = (states_BD @ self.keys_UD.T).gather(1, self.places_BM) + self.cues_BM
        found = likeness_BM.topk(min(count, likeness_BM.shape[1]), dim=-1)
        places_BK = self.places_BM.gather(1, found.indices)
        return found.values, self.values_U[places_BK], self.reach_U[places_BK], places_BK


def _cues(documents: Mapping[str, Mapping[str, Tensor]]) -> Vectors:
    return Vectors({name: kept["cues"] for name, kept in documents.items()})


def _text(tensor: Tensor | None) -> str:
    return "" if tensor is None else bytes(tensor.tolist()).decode(errors="replace")


def _check(kept: Mapping[str, Tensor]) -> None:
    if not kept.keys() >= _NAMES:
        raise ValueError("A document of the datastore is not whole.")
    items, keys = len(kept["lengths"]), int(kept["lengths"].sum())
    if len(kept["cues"]) != items or any(len(kept[name]) != keys for name in ("keys", "values", "reach")):
        raise ValueError("The tensors of a document of the datastore do not fit each other.")
    if len(kept["counts"]) != items or len(kept["marks"]) != int(kept["counts"].sum()):
        raise ValueError("The words of a document of the datastore do not fit its items.")
