"""Hidden states on their way through a model: those of given texts, and those of a pass as it runs. Ends at tensors.

`layer` counts blocks: the states that enter block `layer`; the number of blocks means those that leave the last one. Of an
architecture that is not known here there is only what its final norm leaves, whatever `layer` says.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from accrete.lm.batch import IGNORED, Sequence, collate

if TYPE_CHECKING:
    from accrete.lm.model import LM


@torch.no_grad()
def target_states(
    lm: LM, sequences: SequenceOf[Sequence], layers: SequenceOf[int], batch_size: int = 16
) -> list[list[Tensor]]:
    """For every sequence and layer the states [targets, D] at the places from which its targets are predicted.

    One pass per batch, as far as the last of the layers.
    """
    found: list[list[Tensor]] = [[] for _ in sequences]
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i].ids))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch = collate([sequences[i] for i in rows], lm.device, lm.pad)
        wanted_BT = batch.labels_BT[:, 1:] != IGNORED
        counts = wanted_BT.sum(1).tolist()
        for states_BTD in _passing(lm, batch.ids_BT, batch.mask_BT, layers):
            for row, states_ND in zip(rows, torch.split(states_BTD[:, :-1][wanted_BT], counts), strict=True):
                found[row].append(states_ND)
    return found


def _passing(lm: LM, ids_BT: Tensor, mask_BT: Tensor, layers: SequenceOf[int]) -> list[Tensor]:
    mask = None if bool(mask_BT.all()) else mask_BT.long()
    if lm.anatomy is None:
        output = lm.model(input_ids=ids_BT, attention_mask=mask, use_cache=False, output_hidden_states=True)
        return [output.hidden_states[-1]] * len(layers)
    with contextlib.ExitStack() as stack:
        taps = [stack.enter_context(entering(lm, layer)) for layer in layers]
        stack.enter_context(_no_further(lm, max(layers)))
        lm.anatomy.body(input_ids=ids_BT, attention_mask=mask, use_cache=False)
    return [tap[-1] for tap in taps]


class _Enough(Exception):
    """A pass has come as far as it is wanted."""


@contextlib.contextmanager
def _no_further(lm: LM, layer: int) -> Iterator[None]:
    """Within it a pass ends before `layer`, and so does what stands in the `with` block."""

    def stop(module: object, inputs: object) -> None:
        raise _Enough

    handle = _module(lm, layer).register_forward_pre_hook(stop)
    try:
        with contextlib.suppress(_Enough):
            yield
    finally:
        handle.remove()


@contextlib.contextmanager
def entering(lm: LM, layer: int | None) -> Iterator[list[Tensor]]:
    """Within it every pass leaves the states [B, T, D] that enter `layer` in the list; nothing for None."""
    if layer is None or lm.anatomy is None:
        yield []
        return
    with entering_module(_module(lm, layer)) as seen:
        yield seen


@contextlib.contextmanager
def entering_module(module: torch.nn.Module) -> Iterator[list[Tensor]]:
    """Within it every pass leaves what enters the module in the list."""
    seen: list[Tensor] = []
    handle = module.register_forward_pre_hook(
        lambda _, inputs, named: seen.append(inputs[0] if inputs else named["hidden_states"]), with_kwargs=True
    )
    try:
        yield seen
    finally:
        handle.remove()


def _module(lm: LM, layer: int) -> torch.nn.Module:
    """What the states of `layer` enter."""
    assert lm.anatomy is not None
    return lm.anatomy.layers[layer] if layer < lm.layers else lm.anatomy.final_norm
