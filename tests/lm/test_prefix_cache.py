"""The cached prefix: the same states as a fresh run, each text computed once."""

from __future__ import annotations

import pytest
import torch
from conftest import tiny_lm

from accrete.lm.batch import Batch, Sequence, collate
from accrete.lm.prefix_cache import PrefixCache

TEXTS = [Sequence(tuple(range(10 * i + 5, 10 * i + 5 + length))) for i, length in enumerate((4, 9, 6, 12, 1))]
TEXTS += [Sequence((5, 6)), Sequence((5, 6, 7, 8, 90))]  # these begin as the first does


def test_the_same_as_a_fresh_run_in_any_company() -> None:
    lm = tiny_lm()
    cache = PrefixCache(lm, 3)
    for rows in [(0, 1), (1, 0), (2,), (0, 3, 1), (4, 0), (3, 3), (1, 2, 3, 4, 0), (5, 0), (6, 5)]:
        batch = collate([TEXTS[i] for i in rows])
        cached, fresh = cache.hidden(batch), lm.prefix(batch, 3)
        torch.testing.assert_close(cached.h_BTD[batch.mask_BT], fresh.h_BTD[batch.mask_BT], atol=1e-5, rtol=1e-5)
        assert cached.h_BTD.shape == fresh.h_BTD.shape
        assert torch.equal(cached.mask_BT, fresh.mask_BT)
        assert torch.equal(cached.position_ids_BT, fresh.position_ids_BT)
        assert cached.layer == fresh.layer


def test_a_text_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny_lm()
    cache, run, prefix = PrefixCache(lm, 3), [], lm.prefix

    def counting(batch: Batch, layer: int):
        run.extend(int(length) for length in batch.mask_BT.sum(-1))
        return prefix(batch, layer)

    monkeypatch.setattr(lm, "prefix", counting)
    for rows in [(0, 1), (1, 0), (0, 2), (2, 1), (3, 3)]:
        cache.hidden(collate([TEXTS[i] for i in rows]))
    assert run == [4, 9, 6, 12]


def test_what_was_not_asked_for_longest_is_dropped_and_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny_lm()
    token = lm.prefix(collate([TEXTS[0]]), 3).h_BTD[0, 0].nbytes
    cache, run, prefix = PrefixCache(lm, 3, most=20 * token), [], lm.prefix
    monkeypatch.setattr(
        lm, "prefix", lambda batch, layer: run.extend(batch.mask_BT.sum(-1).tolist()) or prefix(batch, layer)
    )
    for rows in [
        (0, 1),
        (2,),
        (0,),
        (3,),
        (0,),
        (1,),
    ]:  # 19 tokens are held, then the twelfth of TEXTS[3] drops 9 and 6
        batch = collate([TEXTS[i] for i in rows])
        torch.testing.assert_close(cache.hidden(batch).h_BTD[batch.mask_BT], prefix(batch, 3).h_BTD[batch.mask_BT])
    assert run == [4, 9, 6, 12, 9]


def test_the_pad_token_within_a_text_is_not_padding() -> None:
    lm = tiny_lm()
    cache = PrefixCache(lm, 2)
    short, long = Sequence((5, 6, lm.pad)), Sequence((5, 6, lm.pad, 8))
    first = cache.hidden(collate([short, long], pad=lm.pad))
    fresh = lm.prefix(collate([short], pad=lm.pad), 2)
    torch.testing.assert_close(first.h_BTD[:1, :3], fresh.h_BTD, atol=1e-5, rtol=1e-5)
