"""Gradient descent by outer products is torch's SGD with torch's clipping."""

from __future__ import annotations

import pytest
import torch
from conftest import tiny_lm

from accrete.adapters.dual_mlp import DualMLPAdapter
from accrete.lm.batch import Sequence
from accrete.lm.in_order import mini_batches
from accrete.optim.outer_products import OuterProductSGD


def read(adapter: DualMLPAdapter, clip: float, ours: bool) -> list[torch.Tensor]:
    """Three windows read; the parameters afterwards."""
    lm, generator = adapter.lm, torch.Generator().manual_seed(2)
    rows = [Sequence(tuple(torch.randint(5, 200, (20,), generator=generator).tolist())) for _ in range(3)]
    parameters = adapter.open()
    rates = [0.1 * (1 + n % 3) for n in range(len(parameters))]
    plain = torch.optim.SGD([{"params": [p], "lr": rate} for p, rate in zip(parameters, rates, strict=True)])
    outer = OuterProductSGD(dict(zip(parameters, rates, strict=True)), clip)
    for part in mini_batches(lm, rows, 8, adapter.first_layer):
        with adapter.noting() as products:
            loss = lm.head_loss(part.look(lm.suffix_states), part.targets_1N)
        if ours:
            outer.step(loss, products)
            continue
        plain.zero_grad()
        loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        plain.step()
    return [p.detach().clone() for p in parameters]


@pytest.mark.parametrize("clip", [0.0, 0.05, 1e9])
def test_it_is_plain_gradient_descent(clip):
    found, wanted = (read(DualMLPAdapter(tiny_lm(layers=8), alpha=0.5), clip, ours) for ours in (True, False))
    born = DualMLPAdapter(tiny_lm(layers=8), alpha=0.5).open()
    for now, then, start in zip(found, wanted, born, strict=True):
        torch.testing.assert_close(now, then, atol=1e-6, rtol=1e-4)
        assert not torch.equal(now, start)


def test_clipping_bounds_the_step():
    steps = []
    for clip in (1e-3, 0.0):
        adapter = DualMLPAdapter(tiny_lm(layers=8), alpha=0.5)
        after = read(adapter, clip, ours=True)
        born = DualMLPAdapter(tiny_lm(layers=8), alpha=0.5).open()
        steps.append(float(torch.stack([(a - b.detach()).norm() for a, b in zip(after, born, strict=True)]).norm()))
    assert steps[0] <= 9 * 1e-3 * 0.3 < steps[1]  # nine mini-batches, the fastest matrix at 0.3


def test_no_gradient_is_written_out():
    adapter = DualMLPAdapter(tiny_lm(layers=8), alpha=0.5)
    read(adapter, 1.0, ours=True)
    assert all(p.grad is None for p in adapter.lm.model.parameters())
