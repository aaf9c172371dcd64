"""Losses: labels are shifted exactly once, what is no target does not count, and KL starts at zero."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from conftest import tiny_lm
from torch.nn import functional

from accrete.adapters.full import FullAdapter
from accrete.lm.batch import Batch, Sequence, collate
from accrete.losses.distill import KLOnGeneral, KLToBase
from accrete.losses.next_token import next_token

VOCABULARY = 20


def sure_of(ids: list[int]) -> torch.Tensor:
    """Logits [1, T, V] that put everything on ids[t] at position t."""
    return 50.0 * functional.one_hot(torch.tensor([ids]), VOCABULARY).float()


@pytest.fixture
def batch() -> Batch:
    return collate([Sequence((3, 9, 4, 12, 7, 5))])


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_labels_are_shifted_exactly_once(batch: Batch, shift: int) -> None:
    ids = batch.ids_BT[0].tolist()
    logits = sure_of((ids * 2)[shift : shift + len(ids)])
    loss = float(next_token(None, batch, logits[batch.predicting_BT]))
    assert loss < 1e-6 if shift == 1 else loss == pytest.approx(50, abs=0.01)


def test_knowing_nothing_costs_the_logarithm_of_the_vocabulary(batch: Batch) -> None:
    assert float(next_token(None, batch, torch.zeros(5, VOCABULARY))) == pytest.approx(math.log(VOCABULARY))


def test_only_targets_count() -> None:
    batch = collate([Sequence((3, 9, 4, 12, 7, 5), target_from=4), Sequence((1, 2, 3), target_from=2)], pad=6)
    assert batch.targets == 3
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 6, VOCABULARY, generator=draw)
    loss, counted = next_token(None, batch, logits[batch.predicting_BT]), {(0, 3), (0, 4), (1, 1)}
    by_hand = [-logits[row, t].log_softmax(-1)[batch.ids_BT[row, t + 1]] for row, t in counted]
    torch.testing.assert_close(loss, torch.stack(by_hand).mean())
    for row, t in itertools.product(range(2), range(6)):
        other = logits.clone()
        other[row, t] += torch.randn(VOCABULARY, generator=draw)
        assert (next_token(None, batch, other[batch.predicting_BT]) != loss) == ((row, t) in counted)


def test_it_is_the_loss_the_model_is_scored_with() -> None:
    lm = tiny_lm(layers=1)
    sequences = [Sequence((5, 900, 31, 44, 8), target_from=2), Sequence((7, 8, 9))]
    batch = collate(sequences)
    assert float(next_token(lm, batch, lm.target_logits(batch))) == pytest.approx(lm.mean_loss(sequences), rel=1e-5)


def test_kl_is_zero_at_birth_and_positive_after_a_change() -> None:
    lm = tiny_lm(layers=1)
    adapter = FullAdapter(lm)
    general, lesson = collate([Sequence((5, 900, 31, 44)), Sequence((7, 8))]), collate([Sequence((1, 2))])
    loss = KLToBase(0.5, adapter.off, itertools.repeat(general))
    assert float(loss(lm, lesson, lm.target_logits(lesson)).detach()) == pytest.approx(0.0, abs=1e-6)
    base = lm.logits(general).detach()
    with torch.no_grad():
        lm.model.lm_head.weight += 0.3 * torch.randn(
            lm.model.lm_head.weight.shape, generator=torch.Generator().manual_seed(0)
        )
    now = lm.logits(general).detach()
    changed = float(loss(lm, lesson, lm.target_logits(lesson)).detach())
    places = [(0, 0), (0, 1), (0, 2), (1, 0)]
    p, q = (torch.stack([t[place].log_softmax(-1) for place in places]) for t in (base, now))
    assert changed == pytest.approx(0.5 * float((p.exp() * (p - q)).sum() / len(places)), rel=1e-4)
    assert changed > 0.01


def test_kl_reaches_the_live_weights_alone() -> None:
    lm = tiny_lm(layers=1)
    adapter = FullAdapter(lm)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter *= 1.1
    before = {name: t.clone() for name, t in adapter.state_dict().items()}
    general = collate([Sequence((5, 900, 31, 44))])
    KLToBase(1.0, adapter.off, iter([general]))(lm, general, lm.target_logits(general)).backward()
    assert all(parameter.grad is not None for parameter in adapter.parameters())
    assert lm.model.lm_head.weight.grad.abs().sum() > 0
    assert not any(base.requires_grad for base in adapter._base.values())
    after = adapter.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_step_on_kl_goes_back_towards_the_base() -> None:
    lm = tiny_lm(layers=1)
    adapter = FullAdapter(lm)
    with torch.no_grad():
        lm.model.lm_head.weight *= 1.5
    general = collate([Sequence((5, 900, 31, 44))])
    loss = KLToBase(1.0, adapter.off, itertools.repeat(general))
    optimizer, seen = torch.optim.AdamW(adapter.parameters(), lr=1e-3, weight_decay=0.0), []
    for _ in range(8):
        optimizer.zero_grad()
        value = loss(lm, general, lm.target_logits(general))
        value.backward()
        optimizer.step()
        seen.append(float(value.detach()))
    assert seen[-1] < 0.7 * seen[0]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("layer", [None, 0, 1])
def test_the_head_runs_where_a_target_is_predicted(known: bool, layer: int | None) -> None:
    """The same logits as of the whole pass, row after row, of architectures that are known and others."""
    lm = tiny_lm(layers=2)
    batch = collate(
        [Sequence((5, 900, 31, 44, 8), target_from=3), Sequence((7, 8, 9)), Sequence((4, 6), target_from=1)]
    )
    whole, places = lm.logits(batch), [(0, 2), (0, 3), (1, 0), (1, 1), (2, 0)]
    assert batch.targets_N.tolist() == [44, 8, 8, 9, 6]
    hidden = None if layer is None else lm.prefix(batch, layer)
    if not known:
        hidden, lm.anatomy = None, None
    torch.testing.assert_close(lm.target_logits(batch, hidden), torch.stack([whole[place] for place in places]))


@pytest.mark.parametrize("shared", [False, True])
def test_kl_sees_the_base_under_autocast_as_well(batch: Batch, shared: bool) -> None:
    """A cache of cast weights would hand the base the taught weights, and KL would be 0 whatever was forgotten."""
    lm = tiny_lm(layers=2)
    adapter = FullAdapter(lm)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    general = Batch(batch.ids_BT, batch.mask_BT, batch.labels_BT, general=len(batch.ids_BT))
    loss = KLOnGeneral(1.0, adapter.off) if shared else KLToBase(1.0, adapter.off, itertools.repeat(batch))
    exact = float(loss(lm, general, lm.target_logits(general)).detach())
    lm.mixed = True
    with lm.autocast():
        assert float(loss(lm, general, lm.target_logits(general)).detach()) == pytest.approx(exact, rel=0.05)
    assert exact > 0.1
