"""What a gate closes keeps its bits, weights and moments, under any optimiser; what it opens moves."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from accrete.gates.entries import EntryGate

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "SGD with momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "AdamW with weight decay": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1),
    "Adam with amsgrad": lambda p: torch.optim.Adam(p, lr=0.1, amsgrad=True, weight_decay=0.1),
    "Muon": lambda p: torch.optim.Muon(p, lr=0.1, weight_decay=0.1),
}


def world(name: str) -> tuple[list[nn.Parameter], torch.optim.Optimizer, torch.Tensor]:
    """Two matrices, an optimiser of both, and a mask for the first."""
    draw = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.randn(4, 6, generator=draw)) for _ in range(2)]
    mask = torch.zeros(4, 6, dtype=torch.bool)
    mask[1], mask[3, 2] = True, True
    return parameters, OPTIMIZERS[name](parameters), mask


def gradients(parameters: list[nn.Parameter], step: int) -> None:
    draw = torch.Generator().manual_seed(100 + step)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=draw)


def moments(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> dict[str, torch.Tensor]:
    return {key: t.clone() for key, t in optimizer.state[parameter].items() if t.shape == parameter.shape}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_from_the_first_step(name: str) -> None:
    (gated, free), optimizer, mask = world(name)
    gate, before, free_before = EntryGate({gated: mask}), gated.detach().clone(), free.detach().clone()
    for step in range(4):
        gradients([gated, free], step)
        gate.step(optimizer)
        assert torch.equal(gated[~mask], before[~mask])
        held = moments(optimizer, gated)
        assert held
        for moment in held.values():
            assert not moment[~mask].any()
            assert moment[mask].all()
    assert (gated[mask] != before[mask]).all()
    assert (free != free_before).all()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_closed_after_moving_freely(name: str) -> None:
    """The moments are full when the gate closes: nothing may coast on."""
    (gated, free), optimizer, mask = world(name)
    for step in range(3):
        gradients([gated, free], step)
        optimizer.step()
    before, held = gated.detach().clone(), moments(optimizer, gated)
    gate = EntryGate({gated: mask})
    for step in range(3, 6):
        gradients([gated, free], step)
        gate.step(optimizer)
    assert torch.equal(gated[~mask], before[~mask])
    assert (gated[mask] != before[mask]).all()
    for key, now in moments(optimizer, gated).items():
        assert torch.equal(now[~mask], held[key][~mask]), key
        if key != "max_exp_avg_sq":  # a maximum need not rise
            assert (now[mask] != held[key][mask]).all(), key


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_without_the_gate_closed_entries_would_move(name: str) -> None:
    """Masking gradients alone does not hold them: that is why the gate exists."""
    (gated, free), optimizer, mask = world(name)
    gradients([gated, free], 0)
    optimizer.step()
    before = gated.detach().clone()
    gradients([gated, free], 1)
    gated.grad *= mask
    optimizer.step()
    assert (gated[~mask] != before[~mask]).any()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_is_not_named_stays_free(name: str) -> None:
    (gated, free), optimizer, mask = world(name)
    (gated_too, alone), plain, _ = world(name)
    gate = EntryGate({gated: mask})
    for step in range(3):
        gradients([gated, free], step)
        gate.step(optimizer)
        gradients([gated_too, alone], step)
        plain.step()
    assert torch.equal(free, alone)
    assert not torch.equal(gated, gated_too)


def test_a_gate_that_is_wholly_open_changes_nothing() -> None:
    (one, _), optimizer, mask = world("AdamW with weight decay")
    (other, _), plain, _ = world("AdamW with weight decay")
    for step in range(3):
        gradients([one], step)
        EntryGate({one: torch.ones_like(mask)}).step(optimizer)
        gradients([other], step)
        plain.step()
    assert torch.equal(one, other)


def test_a_parameter_without_gradient_is_left_alone() -> None:
    (gated, free), optimizer, mask = world("AdamW with weight decay")
    before = gated.detach().clone()
    gradients([free], 0)
    EntryGate({gated: mask}).step(optimizer)
    assert torch.equal(gated, before)
