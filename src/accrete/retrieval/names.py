"""Whom a question names, and whether a text speaks of them. Ends at a share from 0 to 1.

A name that was never read is near to any other in a space of meanings, and what it is asked is the same as of others: there
a stranger gets the answer of who is known. So names are compared as words, each kept as a number that stands for it.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from accrete.retrieval.words import telling, words

_CAPITAL = re.compile(r"\b(?:\d|[^\W\d_a-z])\w*")


@dataclass(frozen=True)
class Asked:
    """The words of the names in a question [W]: their marks, how much each tells, and of which name it is a part."""

    marks_W: Tensor
    weights_W: Tensor
    name_W: Tensor

    def shares(self, marks_M: Tensor, counts_I: Tensor) -> Tensor:
        """[I] how much of these names each text speaks of, whose marks follow each other, so many of each text.

        A name counts as far as it is there, squared: half of "the Green Elmholm" is in any text about something green. All
        of it, where no one is named.
        """
        if not len(self.marks_W):
            return torch.ones(len(counts_I))
        text_M = torch.arange(len(counts_I)).repeat_interleave(counts_I)
        has_WI = torch.zeros(len(self.marks_W), len(counts_I))
        has_WI.index_add_(1, text_M, (self.marks_W[:, None] == marks_M[None, :]).float()).clamp_(max=1)
        names = int(self.name_W.max()) + 1
        whole_N = torch.zeros(names).index_add_(0, self.name_W, self.weights_W)
        there_NI = torch.zeros(names, len(counts_I)).index_add_(0, self.name_W, has_WI * self.weights_W[:, None])
        return (there_NI**2 / whole_N[:, None]).sum(0) / whole_N.sum()


def asked(question: str, weigh: Callable[[str], float]) -> Asked:
    """The names in a question; `weigh` says how much a word tells."""
    named = {word: name for word, name in telling(question).items() if name}
    names = list(dict.fromkeys(named.values()))
    return Asked(
        marks(named),
        torch.tensor([weigh(word) for word in named], dtype=torch.float32),
        torch.tensor([names.index(name) for name in named.values()], dtype=torch.long),
    )


def spoken_of(text: str) -> list[str]:
    """The different words of a short text, any of which may be a name to who asks."""
    return list(dict.fromkeys(words(text)))


def capitalised(text: str) -> list[str]:
    """Those of a long one that begin with a capital or a digit; all of them where none does."""
    return spoken_of(" ".join(dict.fromkeys(_CAPITAL.findall(text)))) or spoken_of(text)


def marks(said: Iterable[str]) -> Tensor:
    """[W] int32, a number that stands for each word."""
    return torch.tensor([zlib.crc32(word.encode()) - 2**31 for word in said], dtype=torch.int32)
