"""Adam over rows: what torch's Adam does to the rows that are touched, and nothing at all to the others."""

from __future__ import annotations

import pytest
import torch

from accrete.optim.rows import RowAdam


def sparse(rows: list[int], values: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return torch.sparse_coo_tensor(torch.tensor([rows]), values, size, check_invariants=True)


def test_rows_that_are_always_touched_move_as_under_torchs_adam():
    generator = torch.Generator().manual_seed(0)
    table = torch.nn.Parameter(torch.randn(20, 6, generator=generator))
    rows = [3, 7, 12]
    plain = torch.nn.Parameter(table.detach()[rows].clone())
    ours, theirs = RowAdam([table], lr=0.05), torch.optim.Adam([plain], lr=0.05)
    for _ in range(7):
        gradient = torch.randn(3, 6, generator=generator)
        table.grad, plain.grad = sparse(rows, gradient, (20, 6)), gradient
        ours.step()
        theirs.step()
    torch.testing.assert_close(table.detach()[rows], plain.detach(), atol=1e-6, rtol=1e-5)


def test_a_row_counts_its_own_steps_and_the_others_keep_their_bits():
    """A row that comes late starts like a fresh Adam; one that is left out neither moves nor ages."""
    generator = torch.Generator().manual_seed(1)
    table = torch.nn.Parameter(torch.randn(50, 4, generator=generator))
    before = table.detach().clone()
    ours = RowAdam([table], lr=0.1)
    gradients = {row: [torch.randn(4, generator=generator) for _ in range(3)] for row in (5, 9, 40)}
    for rows in ([5], [5, 40], [9], [5, 9, 40], [9, 40]):
        table.grad = sparse(rows, torch.stack([gradients[row].pop(0) for row in rows]), (50, 4))
        held = table.detach().clone()
        ours.step()
        others = [row for row in range(50) if row not in rows]
        assert torch.equal(table.detach()[others], held[others])
    assert not any(gradients.values())
    generator = torch.Generator().manual_seed(1)
    torch.randn(50, 4, generator=generator)
    for row in (5, 9, 40):
        alone = torch.nn.Parameter(before[row].clone())
        adam = torch.optim.Adam([alone], lr=0.1)
        for _ in range(3):
            alone.grad = torch.randn(4, generator=generator)
            adam.step()
        torch.testing.assert_close(table.detach()[row], alone.detach(), atol=1e-5, rtol=1e-4)


def test_rows_named_twice_add_up():
    tables = [torch.nn.Parameter(torch.zeros(4, 2)) for _ in range(2)]
    tables[0].grad = sparse([1, 1], torch.tensor([[1.0, 2.0], [0.5, -4.0]]), (4, 2))
    tables[1].grad = sparse([1], torch.tensor([[1.5, -2.0]]), (4, 2))
    for table in tables:
        RowAdam([table], lr=0.1).step()
    assert torch.equal(*tables) and tables[0].abs().sum() > 0


@pytest.mark.parametrize("rows", [10, 1_000])
def test_what_it_remembers_is_as_long_as_what_was_touched(rows):
    table = torch.nn.Parameter(torch.zeros(100_000, 8))
    ours = RowAdam([table], lr=0.1)
    for start in (0, 500):
        touched = list(range(start, start + rows))
        table.grad = sparse(touched, torch.ones(rows, 8), (100_000, 8))
        ours.step()
    held = sum(t.numel() for t in ours.state[table].values() if torch.is_tensor(t) and t.is_floating_point())
    assert held <= 2 * 2 * rows * (8 + 8 + 1)


def test_with_a_floor_a_row_that_hardly_matters_hardly_moves():
    """Adam steps as far for a gradient of a thousandth; the floor is counted in the usual size over all rows."""
    moved = {}
    for floor in (0.0, 0.5):
        table = torch.nn.Parameter(torch.zeros(10, 4))
        ours = RowAdam([table], lr=0.1, floor=floor)
        for scale in (1.0, 1.0, 1.0):
            gradient = torch.tensor([1.0, 1.0, 1e-3])[:, None] * torch.ones(3, 4) * scale
            table.grad = sparse([1, 4, 7], gradient, (10, 4))
            ours.step()
        moved[floor] = table.detach().abs().mean(1)
    assert moved[0.0][7] == pytest.approx(float(moved[0.0][1]), rel=1e-3)
    assert moved[0.5][7] < 0.01 * moved[0.5][1] and moved[0.5][1] > 0.5 * moved[0.0][1]
    assert not moved[0.5][[0, 2, 3, 5, 6, 8, 9]].any()


def test_a_floor_knows_no_units():
    """A loss that is counted in thousandths moves the rows as far."""
    tables = []
    for scale in (1.0, 1e-3):
        generator = torch.Generator().manual_seed(2)
        table = torch.nn.Parameter(torch.zeros(10, 4))
        ours = RowAdam([table], lr=0.1, floor=0.15)
        for _ in range(4):
            table.grad = sparse([2, 3], scale * torch.randn(2, 4, generator=generator), (10, 4))
            ours.step()
        tables.append(table.detach())
    torch.testing.assert_close(*tables, rtol=1e-3, atol=1e-5)
