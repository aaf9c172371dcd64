"""How far a taught model has drifted from its base on text that no lesson is about (METHODS 9). Ends at four numbers.

The text is the stream's own where it brings some, else `held_out.txt`: a dozen paragraphs of plain prose on plain things,
written for this and used for nothing else.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from accrete.lm.batch import Sequence as Tokens
from accrete.lm.forced import target_logits, targets_of
from accrete.lm.model import LM
from accrete.reader import Reader
from accrete.types import Query

ENTRIES = 50_000_000  # logits of the base that are kept for comparison: 200 MB
AT_ONCE = 25_000_000  # logits that are worked on at a time
OWN, SHIPPED = "the stream's texts", "the shipped text"


class Drift:
    """What the base model said at every token of some texts. `measure` compares a taught model with it.

    Mean KL(base || now) in nats a token and the share of tokens where the first choice is the same are over `positions`: as
    much of each text as there is room to keep the base's logits of. Perplexity is that of the whole texts, as far as the
    model reads, over `perplexity_positions`; `perplexity_of` says which texts.
    """

    def __init__(self, base: LM, texts: Sequence[str] = ()):
        self.of = OWN if texts else SHIPPED
        self.texts = tuple(texts or shipped())
        self.sequences = [_tokens(base, text) for text in self.texts]
        room = max(1, ENTRIES // len(base.tokenizer) // len(self.texts))
        self.base = {row: logits_NV[:room] for row, logits_NV in target_logits(base, self.sequences)}

    def measure(self, reader: Reader) -> dict[str, Any]:
        """All of the above. A method that acts beside a question acts beside each text, as when it is gone on with."""
        conditionings = reader.conditionings([Query(text, continues=True) for text in self.texts])
        longest = max(sequence.targets for sequence in self.sequences)
        rows = max(1, min(16, AT_ONCE // (longest * len(reader.lm.tokenizer))))
        kl = same = loss = 0.0
        positions = read = 0
        for row, logits_NV in target_logits(reader.lm, self.sequences, conditionings, rows):
            now = torch.log_softmax(logits_NV, -1)
            loss -= float(now.gather(1, targets_of(self.sequences[row], now.device)[:, None]).sum())
            read += len(now)
            before = torch.log_softmax(self.base[row], -1)
            now = now[: len(before)]
            kl += float((before.exp() * (before - now)).sum())
            same += float((now.argmax(-1) == before.argmax(-1)).sum())
            positions += len(now)
        return {
            "kl_to_base": kl / positions if positions else None,
            "top1_agreement": same / positions if positions else None,
            "positions": positions,
            "perplexity": math.exp(loss / read) if read else None,
            "perplexity_of": self.of,
            "perplexity_positions": read,
        }


@functools.cache
def shipped() -> tuple[str, ...]:
    """The paragraphs of `held_out.txt`."""
    return tuple((Path(__file__).parent / "held_out.txt").read_text("utf-8").strip().split("\n\n"))


def _tokens(lm: LM, text: str) -> Tokens:
    ids: list[int] = lm.tokenizer(text, add_special_tokens=False)["input_ids"]
    return Tokens(tuple(ids[: lm.context_length]))
