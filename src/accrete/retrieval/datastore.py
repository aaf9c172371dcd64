"""A datastore of hidden states: what the model was in the middle of, and the token that came next. Ends at neighbours.

kNN-LM (1911.00172), in two steps: the study items and passages nearest to a question by their words, then, step by step,
the states within those. `space.py` says in what space they are compared, `logits.py` what neighbours do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from accrete.dates import begun


@dataclass(frozen=True)
class Entries:
    """What is kept of some texts: of each a cue [I, D] and so many (lengths [I]) of the keys [N, D] and next tokens [N].

    `reach_N` is how near to each key something lies that is known to go on otherwise (-1 where nothing does; space.py).
    """

    cues_ID: Tensor
    lengths_I: Tensor
    keys_ND: Tensor
    values_N: Tensor
    reach_N: Tensor

    def of_item(self, per_item: Tensor) -> Tensor:
        """[..., I] -> [..., N]: of each key what its item has."""
        return per_item.repeat_interleave(self.lengths_I.long(), dim=-1)


@dataclass(frozen=True)
class Neighbourhood:
    """Where among all entries the keys of what is near to one question are [M], and how near the cue of each one's text is."""

    entries: Entries
    places_M: Tensor
    cosines_M: Tensor

    @property
    def values_M(self) -> Tensor:
        return self.entries.values_N[self.places_M]


class Datastore:
    """Unit vectors and the tokens that followed, document by document.

    What is kept of a document is its own tensors, in float16: a commit stores a document once, and a removal is exact.
    """

    def __init__(self, device: torch.device | str = "cpu"):
        self.device = torch.device(device)
        self._documents: dict[str, dict[str, Tensor]] = {}
        self._joined: tuple[list[str], Entries, Tensor] | None = (
            None  # documents, all of theirs, where each item begins
        )

    def __len__(self) -> int:
        return sum(len(kept["values"]) for kept in self._documents.values())

    def __contains__(self, document: str) -> bool:
        return document in self._documents

    def add(self, document: str, entries: Entries, dates: Iterable[str] = ()) -> None:
        """Keep the entries of a document; one of the same name is replaced.

        `dates` are those of its content (ISO), from the first of which it counts.
        """
        self.remove(document)
        kept = {
            "cues": entries.cues_ID.half(),
            "lengths": entries.lengths_I.int(),
            "keys": entries.keys_ND.half(),
            "values": entries.values_N.int(),
            "reach": entries.reach_N.half(),
        }
        if first := min(dates, default=""):
            kept["date"] = torch.tensor(list(first.encode()), dtype=torch.uint8)
        self._documents[document] = {name: tensor.cpu() for name, tensor in kept.items()}

    def remove(self, document: str) -> None:
        """Forget a document; nothing of it stays. One that is not here is no error."""
        if self._documents.pop(document, None) is not None:
            self._joined = None

    def around(self, cues_QD: Tensor, count: int, as_of: str | None = None) -> list[Neighbourhood]:
        """For every question the keys of the `count` items whose cues are nearest, of documents there `as_of` an ISO date.

        No neighbourhoods at all when nothing is kept, or nothing that was there then.
        """
        counts = [begun(_dates(kept), as_of) for kept in self._documents.values()]
        if not any(counts):
            return []
        entries, starts_I = self._all()
        cosines_QI = cues_QD.to(self.device) @ entries.cues_ID.T
        if not all(counts):
            items = torch.tensor([len(kept["lengths"]) for kept in self._documents.values()])
            late_I = ~torch.tensor(counts).repeat_interleave(items).to(self.device)
            cosines_QI.masked_fill_(late_I, -torch.inf)
            count = min(count, int((~late_I).sum()))
        found = cosines_QI.topk(min(count, len(entries.cues_ID)), dim=-1)
        lengths_QC = entries.lengths_I[found.indices]
        near = []
        for items_C, cosines_C, lengths_C in zip(found.indices, found.values, lengths_QC, strict=True):
            ends_C = lengths_C.cumsum(0)
            places_M = torch.arange(int(ends_C[-1]), device=self.device)
            places_M += (starts_I[items_C] - ends_C + lengths_C).repeat_interleave(lengths_C)
            near.append(Neighbourhood(entries, places_M, cosines_C.repeat_interleave(lengths_C)))
        return near

    def _all(self) -> tuple[Entries, Tensor]:
        """The entries of all documents, and where the keys of each item begin. What is new comes after what is joined."""
        names = list(self._documents)
        done, old = (self._joined[0], [self._joined[1]]) if self._joined else ([], [])
        if self._joined is None or done != names:
            every = old + [_entries(self._documents[name], self.device) for name in names[len(done) :]]
            joined = Entries(
                torch.cat([one.cues_ID for one in every]),
                torch.cat([one.lengths_I for one in every]),
                torch.cat([one.keys_ND for one in every]),
                torch.cat([one.values_N for one in every]),
                torch.cat([one.reach_N for one in every]),
            )
            self._joined = names, joined, joined.lengths_I.cumsum(0) - joined.lengths_I
        return self._joined[1:]

    # --- state --------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        return {f"{document}/{name}": kept[name] for document, kept in self._documents.items() for name in kept}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        documents: dict[str, dict[str, Tensor]] = {}
        for key, tensor in state.items():
            document, _, name = key.rpartition("/")
            documents.setdefault(document, {})[name] = tensor
        self._documents = documents
        self._joined = None


@dataclass(frozen=True)
class SideBySide:
    """Neighbourhoods of one datastore side by side: every key in any of them once [U, D] with its token and its reach [U].

    Of each row the places of its keys among those [B, M] and the cosines of their cues [B, M], padded.
    """

    rows: tuple[Neighbourhood, ...]
    keys_UD: Tensor
    values_U: Tensor
    reach_U: Tensor
    places_BM: Tensor
    cosines_BM: Tensor

    @classmethod
    def of(cls, near: Sequence[Neighbourhood], last: SideBySide | None = None) -> SideBySide:
        """The table of these. Rows that are those of the last step, or some of them, need no keys looked up again."""
        if last is not None:
            place = {id(row): i for i, row in enumerate(last.rows)}
            kept = [place.get(id(row)) for row in near]
            if kept == list(range(len(last.rows))):
                return last
            if None not in kept:
                return replace(last, rows=tuple(near), places_BM=last.places_BM[kept], cosines_BM=last.cosines_BM[kept])
        of_all = near[0].entries
        once = {id(one): one for one in near}  # a text that is read has many steps in one neighbourhood
        joined = torch.cat([one.places_M for one in once.values()])
        unique_U, places = joined.unique(return_inverse=True)  # type: ignore[no-untyped-call]
        split = dict(zip(once, places.split([len(one.places_M) for one in once.values()]), strict=True))
        return cls(
            tuple(near),
            of_all.keys_ND[unique_U].float(),
            of_all.values_N[unique_U],
            of_all.reach_N[unique_U],
            pad_sequence([split[id(one)] for one in near], batch_first=True),
            pad_sequence([one.cosines_M for one in near], batch_first=True, padding_value=-torch.inf),
        )

    def nearest(self, states_BD: Tensor, cue_weight: float, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """The keys most like each state in its row, the best first: their likenesses, tokens and reaches [B, K].

        A likeness is the mean of the cosines of state and cue, that of the cue counted `cue_weight` times.
        """
        across_BM = (states_BD @ self.keys_UD.T).gather(1, self.places_BM)
        likeness_BM = (across_BM + cue_weight * self.cosines_BM) / (1 + cue_weight)
        found = likeness_BM.topk(min(count, likeness_BM.shape[1]), dim=-1)
        places_BK = self.places_BM.gather(1, found.indices)
        return found.values, self.values_U[places_BK], self.reach_U[places_BK]


def _dates(kept: Mapping[str, Tensor]) -> list[str]:
    return [bytes(kept["date"].tolist()).decode()] if "date" in kept else []


def _entries(kept: Mapping[str, Tensor], device: torch.device) -> Entries:
    return Entries(
        kept["cues"].to(device, torch.float32),
        kept["lengths"].to(device, torch.int64),
        kept["keys"].to(device),
        kept["values"].to(device, torch.int64),
        kept["reach"].to(device, torch.float32),
    )
