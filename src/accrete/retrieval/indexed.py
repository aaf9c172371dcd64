"""A document of the index as tensors: its passages' text and where they stand in it. Ends at passages."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from accrete.dates import begun
from accrete.types import Passage


@dataclass(frozen=True)
class Indexed:
    """The texts of its passages as UTF-8 bytes [B], and the bytes, start and end of each [N, 3]; ISO `dates` if it has any."""

    name: str
    dates: tuple[str, ...]
    text: Tensor
    spans: Tensor

    def __post_init__(self) -> None:
        if self.spans.ndim != 2 or self.spans.shape[1] != 3 or bool((self.spans < 0).any()):
            raise ValueError("The passages of a document are rows of bytes, start and end.")
        if self.text.dtype != torch.uint8 or int(self.spans[:, 0].sum()) != self.text.numel():
            raise ValueError("The passages of a document are not as long as its text.")

    @classmethod
    def of(cls, passages: Sequence[Passage], name: str, dates: Iterable[str] = ()) -> Indexed:
        texts = [passage.text.encode() for passage in passages]
        spans = [(len(text), passage.start, passage.end) for text, passage in zip(texts, passages, strict=True)]
        joined = bytearray(b"".join(texts))
        text = torch.frombuffer(joined, dtype=torch.uint8) if joined else torch.zeros(0, dtype=torch.uint8)
        return cls(name, tuple(dates), text, torch.tensor(spans, dtype=torch.int32).reshape(-1, 3))

    def __len__(self) -> int:
        return len(self.spans)

    def passage(self, number: int) -> Passage:
        _, start, end = self.spans[number].tolist()
        return Passage(self.said(number), self.name, start, end)

    def said(self, number: int) -> str:
        """The text of a passage."""
        return bytes(self.text[self._places[number] : self._places[number + 1]].numpy()).decode(errors="replace")

    def same(self, other: Indexed) -> bool:
        """Whether nothing differs; what was worked out of one then holds of the other."""
        if (self.name, self.dates) != (other.name, other.dates):
            return False
        return torch.equal(self.text, other.text) and torch.equal(self.spans, other.spans)

    def counts_at(self, date: str | None) -> bool:
        """Whether the document was there at an ISO date: one with dates is from its first, one without always was."""
        return begun(self.dates, date)

    @cached_property
    def digest(self) -> str:
        """sha256 of passages and spans."""
        spans = self.spans.int().numpy().tobytes()
        return hashlib.sha256(len(spans).to_bytes(8, "little") + spans + self.text.numpy().tobytes()).hexdigest()

    @cached_property
    def _places(self) -> list[int]:
        """Where each passage's bytes begin, and where the last ends."""
        return [0, *self.spans[:, 0].cumsum(0).tolist()]
