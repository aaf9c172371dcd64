"""A text in the order of its tokens, a mini-batch at a time, each seeing what came before it. Ends where they are looked at.

What lies below the first block that learns cannot change: it runs once, for many windows together. The blocks above run for
every look at a mini-batch, with the keys and values of the tokens before it as they were computed when those were looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import torch
from torch import Tensor

from accrete.lm.batch import IGNORED, Sequence, collate
from accrete.lm.model import LM, Hidden, SuffixCache

Run = Callable[[Hidden, SuffixCache], Tensor]  # `LM.suffix`, `LM.suffix_states`, or what stands for them
AT_ONCE = 1_024  # tokens that run through the frozen blocks together


@dataclass
class MiniBatch:
    """Some tokens of one window, what they predict (IGNORED: nothing), and the cache of the window so far."""

    hidden: Hidden
    targets_1N: Tensor
    cache: SuffixCache
    start: int

    @property
    def targets(self) -> int:
        return int((self.targets_1N != IGNORED).sum())

    def look(self, run: Run) -> Tensor:
        """What `run` makes of it; what an earlier look left in the cache is forgotten."""
        self.cache.detach()
        self.cache.crop(self.start)
        return run(self.hidden, self.cache)


def mini_batches(lm: LM, windows: SequenceOf[Sequence], size: int, layer: int) -> Iterator[MiniBatch]:
    """The windows one after the other, `size` targets at a time; what stands before the first target is context in silence."""
    for group in _groups(windows):
        batch = collate(group, lm.device, lm.pad)
        with torch.no_grad(), lm.autocast():
            hidden = lm.prefix(batch, layer)
        for row, window in enumerate(group):
            cache, last = SuffixCache(), len(window.ids) - 1
            first = max(1, window.target_from) - 1  # the place from which the first target is predicted
            if first:
                with torch.no_grad(), lm.autocast():
                    lm.suffix_states(hidden.part(row, 0, first), cache)
            for start in range(first, last, size):
                end = min(start + size, last)
                targets_1N = batch.labels_BT[row : row + 1, start + 1 : end + 1]
                yield MiniBatch(hidden.part(row, start, end), targets_1N, cache, start)


def _groups(windows: SequenceOf[Sequence]) -> Iterator[list[Sequence]]:
    """Windows in their order, about AT_ONCE tokens together."""
    group: list[Sequence] = []
    for window in windows:
        group.append(window)
        if max(len(one.ids) for one in group) * len(group) >= AT_ONCE:
            yield group
            group = []
    if group:
        yield group
