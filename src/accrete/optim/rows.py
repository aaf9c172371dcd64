"""Adam for tables of which a step touches few rows. Ends at rows that moved.

torch's SparseAdam keeps moments for the whole table, and a row that is not touched still ages. Here a row has moments and a
count of its own from its first step on, in buffers as long as the rows that were touched: what is not in the gradient keeps
its bits, and a step costs what it touches.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


class RowAdam(torch.optim.Optimizer):
    """Adam (1412.6980) over the rows of sparse gradients, bias corrected by how often each row was stepped on."""

    def __init__(
        self, tables: Iterable[nn.Parameter], lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ):
        super().__init__(tables, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    gradient = table.grad.coalesce()
                    self._step(table, gradient.indices()[0], gradient.values(), group)

    def _step(self, table: Tensor, rows_R: Tensor, gradient_RD: Tensor, group: dict[str, Any]) -> None:
        state = self.state[table]
        place_R = self._places(state, rows_R, table)
        first, second, counts = state["first"], state["second"], state["counts"]
        (beta1, beta2), count_R1 = group["betas"], (counts[place_R] + 1)[:, None]
        m_RD = first[place_R].lerp_(gradient_RD, 1 - beta1)
        v_RD = second[place_R].mul_(beta2).addcmul_(gradient_RD, gradient_RD, value=1 - beta2)
        first[place_R], second[place_R], counts[place_R] = m_RD, v_RD, count_R1[:, 0]
        step_RD = (m_RD / (1 - beta1**count_R1)) / ((v_RD / (1 - beta2**count_R1)).sqrt_() + group["eps"])
        table.index_add_(0, rows_R, step_RD, alpha=-group["lr"])

    @staticmethod
    def _places(state: dict[str, Any], rows_R: Tensor, table: Tensor) -> Tensor:
        """Where in the buffers these rows have their moments; rows that are new get places at the end."""
        if not state:
            state["place"] = torch.full((len(table),), -1, dtype=torch.int32, device=table.device)
            state["first"] = state["second"] = table.new_zeros(0, table.shape[1])
            state["counts"] = table.new_zeros(0)
            state["rows"] = 0
        new_R = rows_R[state["place"][rows_R] < 0]
        if len(new_R):
            start, state["rows"] = state["rows"], state["rows"] + len(new_R)
            state["place"][new_R] = torch.arange(start, state["rows"], dtype=torch.int32, device=table.device)
            if state["rows"] > len(state["counts"]):  # room for twice as many, so that growing costs little
                for name in ("first", "second", "counts"):
                    old = state[name]
                    state[name] = torch.cat([old, old.new_zeros(2 * state["rows"] - len(old), *old.shape[1:])])
        return state["place"][rows_R].long()
