"""Adam for tables of which a step touches few rows. Ends at rows that moved.

torch's SparseAdam keeps moments for the whole table, and a row that is not touched still ages. Here a row has moments and a
count of its own from its first step on, in buffers as long as the rows that were touched: what is not in the gradient keeps
its bits, and a step costs what it touches. A dense gradient touches all.

Adam steps as far where the gradient is small as where it is large, so rows that hardly matter would walk at random, and what
else reads them would suffer. `floor` adds to every denominator that share of the gradient's usual size (over all rows of the
step): a row with less of it moves less.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT


class RowAdam(torch.optim.Optimizer):
    """Adam (1412.6980) over the rows of sparse gradients, bias corrected by how often each row was stepped on."""

    def __init__(
        self,
        tables: ParamsT,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        floor: float = 0.0,
    ):
        super().__init__(tables, {"lr": lr, "betas": betas, "eps": eps, "floor": floor})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is None:
                    continue
                if table.grad.is_sparse:
                    gradient = table.grad.coalesce()
                    self._step(table, gradient.indices()[0], gradient.values(), group)
                else:
                    self._step(table, torch.arange(len(table), device=table.device), table.grad, group)

    def _step(self, table: Tensor, rows_R: Tensor, gradient_RD: Tensor, group: dict[str, Any]) -> None:
        state = self.state[table]
        place_R = self._places(state, rows_R, table)
        first, second, counts = state["first"], state["second"], state["counts"]
        (beta1, beta2), count_R1 = group["betas"], (counts[place_R] + 1).view(-1, *[1] * (table.ndim - 1))
        m_RD = first[place_R].lerp_(gradient_RD, 1 - beta1)
        v_RD = second[place_R].mul_(beta2).addcmul_(gradient_RD, gradient_RD, value=1 - beta2)
        first[place_R], second[place_R], counts[place_R] = m_RD, v_RD, count_R1.flatten()
        size_RD = v_RD / (1 - beta2**count_R1)
        usual = size_RD.mean(dtype=torch.float64).float()  # the same, to the bit, in whatever order rows lie
        least = group["eps"] + group["floor"] * usual.sqrt()
        step_RD = (m_RD / (1 - beta1**count_R1)) / (size_RD.sqrt_() + least)
        table.index_add_(0, rows_R, step_RD, alpha=-group["lr"])

    @staticmethod
    def _places(state: dict[str, Any], rows_R: Tensor, table: Tensor) -> Tensor:
        """Where in the buffers these rows have their moments; rows that are new get places at the end."""
        if not state:
            state["place"] = torch.full((len(table),), -1, dtype=torch.int32, device=table.device)
            state["first"] = state["second"] = table.new_zeros(0, *table.shape[1:])
            state["counts"] = table.new_zeros(0)
            state["rows"] = torch.tensor(0)  # how many have places; a tensor, as all that is saved
        new_R = rows_R[state["place"][rows_R] < 0]
        if len(new_R):
            start, rows = int(state["rows"]), int(state["rows"]) + len(new_R)
            state["rows"] = torch.tensor(rows)
            state["place"][new_R] = torch.arange(start, rows, dtype=torch.int32, device=table.device)
            if rows > len(state["counts"]):  # room for twice as many, so that growing costs little
                size = min(2 * rows, len(table))
                for name in ("first", "second", "counts"):
                    old = state[name]
                    state[name] = torch.cat([old, old.new_zeros(size - len(old), *old.shape[1:])])
        return state["place"][rows_R].long()
