"""How much of a stream is used: the numbers asked for against what there is, and a limit shared out. No stream by itself."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import TypeVar

from accrete.errors import UsageError

Thing = TypeVar("Thing")


def counted(asked: int | None, default: int, there_are: int, what: str) -> int:
    """How many to use: what was asked for, else at most `default`. UsageError when there are not so many."""
    if asked is not None and asked > there_are:
        raise UsageError(f"There are only {there_are:,} {what}; {asked:,} were asked for.")
    return min(default, there_are) if asked is None else asked


def evenly(limit: int | None, sizes: Sequence[int]) -> list[int]:
    """A share of `limit` for each of the piles of these sizes, as even as they allow; without a limit, all of each."""
    if limit is None:
        return list(sizes)
    shares = [0] * len(sizes)
    left = min(limit, sum(sizes))
    while left:
        for pile, size in enumerate(sizes):
            if left and shares[pile] < size:
                shares[pile] += 1
                left -= 1
    return shares


def shuffled(things: Iterable[Thing], seed: str) -> list[Thing]:
    """All of them in an order of the seed's."""
    order = list(things)
    random.Random(seed).shuffle(order)
    return order


def drawn(things: Sequence[Thing], count: int, seed: str) -> list[Thing]:
    """`count` of them, in the order in which they stand."""
    chosen = sorted(shuffled(range(len(things)), seed)[:count])
    return [things[place] for place in chosen]
