"""States of given texts and of a pass as it runs are the same ones, in whatever batch."""

import pytest
import torch
from conftest import tiny_lm

from accrete.lm.batch import Sequence, collate
from accrete.lm.states import entering, target_states

SEQUENCES = [Sequence((5, 6, 7, 8, 9), 3), Sequence((10, 11, 12)), Sequence(tuple(range(20, 45)), 24)]


@pytest.mark.parametrize("family", ["qwen2", "llama"])
def test_they_are_those_before_each_target(family):
    lm = tiny_lm(family)
    found = target_states(lm, SEQUENCES, [0, 2, 4], batch_size=2)
    for sequence, (bottom, middle, top) in zip(SEQUENCES, found, strict=True):
        batch = collate([sequence])
        first = max(1, sequence.target_from)
        for layer, states in ((0, bottom), (2, middle), (4, top)):
            alone = lm.hidden(batch, layer)[0, first - 1 : len(sequence.ids) - 1]
            torch.testing.assert_close(states, alone, atol=1e-5, rtol=1e-4)
        said = lm.anatomy.head(lm.anatomy.final_norm(top))
        torch.testing.assert_close(said, lm.logits(batch)[0, first - 1 : -1], atol=1e-4, rtol=1e-4)


def test_nothing_is_tapped_outside():
    lm = tiny_lm()
    batch = collate([SEQUENCES[1]])
    with entering(lm, 1) as seen, entering(lm, None) as nothing:
        lm.logits(batch)
    lm.logits(batch)
    assert len(seen) == 1 and not nothing
    torch.testing.assert_close(seen[0], lm.hidden(batch, 1))


def test_an_unknown_architecture_has_the_states_before_its_head():
    lm = tiny_lm()
    whole = target_states(lm, SEQUENCES, [4])
    lm.anatomy = None
    for (states,), (before_norm,) in zip(target_states(lm, SEQUENCES, [1]), whole, strict=True):
        torch.testing.assert_close(states, lm.model.model.norm(before_norm), atol=1e-5, rtol=1e-4)


def test_a_pass_goes_no_further_than_the_last_layer_that_is_wanted_and_leaves_nothing_behind():
    lm = tiny_lm()
    before, runs = lm.logits(collate([SEQUENCES[2]])), []
    handles = [layer.register_forward_hook(lambda *_, n=n: runs.append(n)) for n, layer in enumerate(lm.anatomy.layers)]
    target_states(lm, SEQUENCES, [2, 1], batch_size=8)
    assert runs == [0, 1]
    for handle in handles:
        handle.remove()
    assert torch.equal(lm.logits(collate([SEQUENCES[2]])), before)
    assert not any(module._forward_pre_hooks for module in lm.model.modules())
