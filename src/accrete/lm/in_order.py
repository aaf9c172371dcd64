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

from accrete.lm.batch import IGNORED, Batch, Sequence, collate
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
    """The windows one after the other, `size` tokens at a time; those without targets are passed over in silence."""
    for batch in _groups(lm, windows):
        with torch.no_grad(), lm.autocast():
            hidden = lm.prefix(batch, layer)
        for row, length in enumerate(batch.mask_BT.sum(-1).tolist()):
            cache = SuffixCache()
            for start in range(0, length - 1, size):
                end = min(start + size, length - 1)
                part = MiniBatch(
                    hidden.part(row, start, end), batch.labels_BT[row : row + 1, start + 1 : end + 1], cache, start
                )
                if part.targets:
                    yield part
                else:
                    with torch.no_grad(), lm.autocast():
                        lm.suffix(part.hidden, cache)


def _groups(lm: LM, windows: SequenceOf[Sequence]) -> Iterator[Batch]:
    """Windows in their order, about AT_ONCE tokens together."""
    group: list[Sequence] = []
    for window in windows:
        group.append(window)
        if max(len(one.ids) for one in group) * len(group) >= AT_ONCE:
            yield collate(group, lm.device, lm.pad)
            group = []
    if group:
        yield collate(group, lm.device, lm.pad)
