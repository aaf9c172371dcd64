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
    logits_BV = logits_BV.float()
    weights_BK = torch.softmax(cosines_BK / temperature, -1)
    share_BV = torch.zeros_like(logits_BV).scatter_add_(1, values_BK, weights_BK)
    log_base_BK = logits_BV.gather(1, values_BK) - logits_BV.logsumexp(-1, keepdim=True)
    mixed_BK = torch.logaddexp(math.log(mix) + share_BV.gather(1, values_BK).log(), math.log1p(-mix) + log_base_BK)
    # A token that no neighbour has loses the same everywhere: the mixture leaves it 1 - mix of what it had.
    return torch.full_like(logits_BV, math.log1p(-mix)).scatter_(1, values_BK, mixed_BK - log_base_BK)
