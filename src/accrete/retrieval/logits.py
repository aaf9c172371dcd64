"""What neighbours do to logits: the closed-form update of JitRL (2601.18510). Ends at logits."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def neighbour_advantage(
    logits_BV: Tensor, cosines_BK: Tensor, values_BK: Tensor, temperature: float, mix: float
) -> Tensor:
    """A(y) [B, V] = log(mix p_kNN(y) + (1 - mix) p(y)) - log p(y), where p is what the logits say.

    p_kNN(y) is the softmax of the cosines over `temperature`, summed over the neighbours whose token is y. Added to the
    logits once, A makes the mixture of kNN-LM (1911.00172) of them; twice, it goes beyond.
    """
    log_base_BV = torch.log_softmax(logits_BV.float(), -1)
    weights_BK = torch.softmax(cosines_BK / temperature, -1)
    share_BV = torch.zeros_like(log_base_BV).scatter_add_(1, values_BK, weights_BK)
    mixed_BV = torch.logaddexp(math.log(mix) + share_BV.log(), math.log1p(-mix) + log_base_BV)
    return mixed_BV - log_base_BV
