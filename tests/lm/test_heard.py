"""What a token can hear is made of the values that its attention may listen to, however the text is run."""

from __future__ import annotations

import pytest
import torch
from conftest import FAMILIES, tiny_lm
from hypothesis import given
from hypothesis import strategies as st

from accrete.lm.batch import Sequence, collate
from accrete.lm.decode import generate
from accrete.lm.heard import Hearing, heard, hearing_width, near, visible
from accrete.lm.model import SuffixCache


@given(st.integers(1, 7), st.integers(0, 4), st.integers(1, 4), st.lists(st.booleans(), min_size=11, max_size=11))
def test_it_is_of_the_last_values_that_are_no_padding_all_alike_or_as_it_listens(tokens, earlier, window, real):
    keys = tokens + earlier
    values = torch.randn(1, keys, 3, generator=torch.Generator().manual_seed(0))
    real_BK = torch.tensor(real[:keys])[None]
    may_hear = near(visible(real_BK.long(), tokens, keys, values.device), window)
    found = heard(values, may_hear)
    asked_for = heard(values, may_hear, torch.tensor([2.0, 0.0, -1.0]))
    for t in range(tokens):
        last = [k for k in range(earlier + t + 1) if real[k]][-window:]
        wanted = values[0, last].mean(0) if last else torch.zeros(3)
        torch.testing.assert_close(found[0, t], wanted, atol=1e-5, rtol=1e-4)
        weights = torch.softmax(values[0, last] @ torch.tensor([2.0, 0.0, -1.0]), 0)
        torch.testing.assert_close(asked_for[0, t], weights @ values[0, last], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["nothing", "additive", "boolean"])
def test_every_form_of_mask_says_the_same(kind):
    causal = torch.ones(4, 6, dtype=torch.bool).tril(2)
    masks = {
        "nothing": None,
        "additive": torch.zeros(1, 1, 4, 6).masked_fill(~causal, torch.finfo(torch.float32).min),
        "boolean": causal[None, None],
    }
    assert torch.equal(visible(masks[kind], 4, 6, torch.device("cpu"))[0], causal)


def listener(attention):
    return 9 * torch.randn(hearing_width(attention), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("listens", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_token_by_token_and_all_at_once_hear_the_same(family, listens):
    lm = tiny_lm(family, layers=2)
    attention = lm.anatomy.attention(1)
    hearing, rows, cache = (
        Hearing(attention, listener(attention) if listens else None),
        collate([Sequence(tuple(range(5, 55)))]),
        SuffixCache(),
    )
    lm.logits(rows)
    whole = hearing.now()
    assert whole.shape == (1, 50, hearing_width(attention))
    hidden, parts = lm.prefix(rows, 0), []
    for start in range(0, 50, 10):
        lm.suffix(hidden.part(0, start, start + 10), cache)
        parts.append(hearing.now())
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_padding_on_either_side_is_not_heard():
    lm = tiny_lm(layers=2)
    attention = lm.anatomy.attention(1)
    hearing, one, two = Hearing(attention, listener(attention)), list(range(5, 12)), list(range(30, 45))
    lm.logits(collate([Sequence(tuple(one)), Sequence(tuple(two))]))
    right = hearing.now()[0, : len(one)]
    lm.logits(collate([Sequence(tuple(one))]))
    alone = hearing.now()[0]
    torch.testing.assert_close(right, alone, atol=1e-5, rtol=1e-4)
    generate(lm, [one, two], 1)
    torch.testing.assert_close(hearing.now()[0, -len(one) :], alone, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_hearing_that_is_removed_notes_nothing():
    lm = tiny_lm(layers=2)
    hearing = Hearing(lm.anatomy.attention(1))
    hearing.remove()
    lm.logits(collate([Sequence((5, 6))]))
    assert not hearing._pass
