"""The loss of a frozen head, and its gradient, in one pass over the vocabulary. Ends at one number.

    loss = log sum_v exp(h w_v) - h w_target        dloss/dh = sum_v softmax_v w_v - w_target

That is attention of the states over the rows of the head, and it is computed as fused attention is: a piece of the vocabulary
at a time, with a running maximum. The weights are read once instead of twice, and no [N, V] is ever kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from accrete.lm.batch import IGNORED

PIECE = 8_192  # rows of the head at a time: a few megabytes, which a cache holds


class _FrozenHeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Tensor:
        counted_N = targets_N != IGNORED
        count = counted_N.sum().clamp(min=1)
        states_ND = h_ND.to(weight_VD.dtype)
        most_N1 = torch.full((len(h_ND), 1), -torch.inf, device=h_ND.device)
        total_N1, mean_ND = torch.zeros_like(most_N1), torch.zeros_like(h_ND, dtype=torch.float32)
        for start in range(0, len(weight_VD), PIECE):
            piece_PD = weight_VD[start : start + PIECE]
            logits_NP = (states_ND @ piece_PD.T).float()
            before_N1, most_N1 = most_N1, torch.maximum(most_N1, logits_NP.amax(-1, keepdim=True))
            weights_NP, shrink_N1 = logits_NP.sub_(most_N1).exp_(), (before_N1 - most_N1).exp()
            total_N1 = total_N1 * shrink_N1 + weights_NP.sum(-1, keepdim=True)
            mean_ND = mean_ND * shrink_N1 + (weights_NP.to(weight_VD.dtype) @ piece_PD).float()
        truth_ND = weight_VD[targets_N.clamp(min=0)].float()
        losses_N = (most_N1 + total_N1.log())[:, 0] - (states_ND.float() * truth_ND).sum(-1)
        ctx.save_for_backward((mean_ND / total_N1 - truth_ND) * (counted_N / count)[:, None])
        return (losses_N * counted_N).sum() / count

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None, None]:
        (gradient_ND,) = ctx.saved_tensors
        return gradient_ND * outputs[0], None, None


def frozen_head_loss(h_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Tensor:
    """Mean cross-entropy (nats) of states after the final norm, through a head without bias that gets no gradient."""
    return _FrozenHeadLoss.apply(h_ND, weight_VD, targets_N)  # type: ignore[no-untyped-call]
