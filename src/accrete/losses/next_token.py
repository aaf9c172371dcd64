"""The loss of predicting the next token. Ends at one number."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from accrete.lm.batch import Batch
from accrete.lm.model import LM


def next_token(lm: LM, batch: Batch, logits_NV: Tensor) -> Tensor:
    """Mean cross-entropy (nats) over the targets of the batch, given the logits where each is predicted."""
    return functional.cross_entropy(logits_NV.float(), batch.targets_N)
