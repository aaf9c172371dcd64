"""The loss of predicting the next token. Ends at one number."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from accrete.lm.batch import IGNORED, Batch
from accrete.lm.model import LM


def next_token(lm: LM, batch: Batch, output_BTV: Tensor) -> Tensor:
    """Mean cross-entropy (nats) over the targets: position t predicts the label at t + 1, shifted here and only here."""
    logits_NV = output_BTV[:, :-1].flatten(0, 1).float()
    return functional.cross_entropy(logits_NV, batch.labels_BT[:, 1:].flatten(), ignore_index=IGNORED)
