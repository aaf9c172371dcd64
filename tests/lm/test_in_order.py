"""A text in mini-batches: every target once, each with all that came before it in its window."""

from __future__ import annotations

import pytest
import torch
from conftest import FAMILIES, tiny_lm
from torch.nn import functional

from accrete.lm import in_order
from accrete.lm.batch import IGNORED, Sequence, collate


def windows(*lengths: int, target_from: int = 0) -> list[Sequence]:
    generator = torch.Generator().manual_seed(1)
    return [Sequence(tuple(torch.randint(5, 200, (n,), generator=generator).tolist()), target_from) for n in lengths]


@pytest.mark.parametrize("at_once", [1, 40, 10_000])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_all_targets_are_predicted_as_in_the_whole_pass(monkeypatch, family, at_once):
    monkeypatch.setattr(in_order, "AT_ONCE", at_once)
    lm, rows = tiny_lm(family, layers=4), [*windows(30, 2, 17, 9), *windows(25, target_from=12)]
    found = []
    for part in in_order.mini_batches(lm, rows, 8, 3):
        looks = [part.look(lm.suffix) for _ in range(2)]
        assert torch.equal(*looks), "a second look sees what the first saw"
        losses = functional.cross_entropy(
            looks[0].transpose(1, 2), part.targets_1N, ignore_index=IGNORED, reduction="none"
        )
        found += losses[part.targets_1N != IGNORED].tolist()
    wanted = []
    for row in rows:
        batch = collate([row])
        losses = functional.cross_entropy(
            lm.logits(batch)[:, :-1].transpose(1, 2), batch.labels_BT[:, 1:], ignore_index=IGNORED, reduction="none"
        )
        wanted += losses[batch.labels_BT[:, 1:] != IGNORED].tolist()
    assert len(found) == sum(row.targets for row in rows)
    assert found == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("target_from", [1, 2, 12, 25, 32])
def test_what_stands_before_the_first_target_is_context_and_no_part_of_a_mini_batch(target_from):
    lm, (row,) = tiny_lm(layers=4), windows(40, target_from=target_from)
    parts = list(in_order.mini_batches(lm, [row], 8, 3))
    first = target_from - 1
    assert [part.start for part in parts] == list(range(first, 39, 8))
    assert all(part.targets == 8 for part in parts[:-1]) and sum(part.targets for part in parts) == row.targets
    with torch.no_grad():
        whole = lm.logits(collate([row]))[0, first : first + parts[0].targets]
        torch.testing.assert_close(parts[0].look(lm.suffix)[0], whole, atol=1e-5, rtol=1e-4)


def test_the_frozen_blocks_run_once_for_many_windows(monkeypatch):
    lm, calls = tiny_lm(layers=4), []
    prefix = type(lm).prefix
    monkeypatch.setattr(type(lm), "prefix", lambda *arguments: calls.append(1) or prefix(*arguments))
    for part in in_order.mini_batches(lm, windows(*[17] * 12), 8, 3):
        for _ in range(3):
            part.look(lm.suffix_states)
    assert len(calls) == 1
