"""What neighbours do to logits: the closed-form update of JitRL (2601.18510). Ends at logits."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def neighbour_advantage(
    log_base_BV: Tensor, cosines_BK: Tensor, values_BK: Tensor, temperature: float, mix: float
) -> Tensor:
    """A(y) [B, V] = log(mix p_kNN(y) + (1 - mix) p(y)) - log p(y) - log(1 - mix), with the log p that is given.

    p_kNN(y) is the softmax of the cosines over `temperature`, summed over the neighbours whose token is y. Added to the
    logits once, A makes the mixture of kNN-LM (1911.00172) of them; twice, it goes beyond. The last term, which no
    distribution sees, makes A nothing for a token that no neighbour has.
    """
    weights_BK = torch.softmax(cosines_BK / temperature, -1)
    share_BV = torch.zeros_like(log_base_BV).scatter_add_(1, values_BK, weights_BK)
    share_BK, log_base_BK = share_BV.gather(1, values_BK), log_base_BV.gather(1, values_BK)
    # log(1 + e^x) of the log odds for the neighbours: without a loss where either side is next to nothing.
    advantage_BK = functional.softplus(share_BK.log() + (math.log(mix / (1 - mix)) - log_base_BK))
    return torch.zeros_like(log_base_BV).scatter_(1, values_BK, advantage_BK)
