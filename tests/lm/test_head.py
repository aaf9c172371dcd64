"""The fused loss of a frozen head is cross-entropy, its gradient too, whatever the pieces."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from accrete.lm import head
from accrete.lm.batch import IGNORED


def problem(states: int, vocabulary: int, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    h = scale * torch.randn(states, 16, generator=generator)
    weight = torch.randn(vocabulary, 16, generator=generator)
    return h.requires_grad_(), weight, torch.randint(vocabulary, (states,), generator=generator)


@pytest.mark.parametrize("piece", [7, 64, 100, 1_000])
@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])  # the last overflows an exponential without its running maximum
def test_it_is_cross_entropy_and_so_is_its_gradient(monkeypatch, piece, scale):
    monkeypatch.setattr(head, "PIECE", piece)
    h, weight, targets = problem(9, 100, scale)
    targets[[0, 4]] = IGNORED
    plain = functional.cross_entropy(h @ weight.T, targets)
    (wanted,) = torch.autograd.grad(plain, h)
    ours = head.frozen_head_loss(h, weight, targets)
    (found,) = torch.autograd.grad(3 * ours, h)
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(found, 3 * wanted, atol=1e-5, rtol=1e-4)
    assert not found[[0, 4]].any()


def test_nothing_to_predict_costs_nothing():
    h, weight, targets = problem(3, 20)
    loss = head.frozen_head_loss(h, weight, torch.full_like(targets, IGNORED))
    (gradient,) = torch.autograd.grad(loss, h)
    assert float(loss.detach()) == 0 and not gradient.any()


def test_in_bfloat16_it_is_as_close_as_the_plain_way():
    h, weight, targets = problem(40, 5_000, 0.3)
    exact = functional.cross_entropy(h @ weight.T, targets)
    (wanted,) = torch.autograd.grad(exact, h)
    half_h, half = h.detach().bfloat16().requires_grad_(), weight.bfloat16()
    (plain,) = torch.autograd.grad(functional.cross_entropy((half_h @ half.T).float(), targets), half_h)
    ours = head.frozen_head_loss(half_h, half, targets)
    (found,) = torch.autograd.grad(ours, half_h)
    assert float((found - wanted).norm()) <= 1.5 * float((plain - wanted).norm())
    assert abs(float((ours - exact).detach())) < 0.02
