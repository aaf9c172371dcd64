"""Where the parts of a causal language model are: the only file that knows architectures. Ends at module references.

Qwen2, Qwen3, Llama and Mistral share one skeleton in transformers: body = embed_tokens, rotary_emb, layers[i] with
self_attn and mlp, norm; then lm_head. Another family is one more branch in `anatomy`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from torch import nn
from transformers import PreTrainedModel

KNOWN = frozenset({"qwen2", "qwen3", "llama", "mistral"})


@dataclass(frozen=True)
class Anatomy:
    """The modules of a decoder, in the order in which a token passes them."""

    body: nn.Module
    embedding: nn.Module
    rotary: nn.Module
    layers: Any  # an nn.ModuleList of blocks
    final_norm: nn.Module
    head: nn.Module
    layer_types: tuple[str, ...]  # "full_attention" or "sliding_attention", per layer
    sliding_window: int | None

    def mlp(self, i: int) -> nn.Module:
        return cast(nn.Module, self.layers[i].mlp)

    def attention(self, i: int) -> nn.Module:
        return cast(nn.Module, self.layers[i].self_attn)

    @property
    def last_quarter(self) -> int:
        """The first layer of the last quarter: a fraction, so that it exists in models of every depth."""
        return 3 * len(self.layers) // 4


def anatomy(model: PreTrainedModel) -> Anatomy | None:
    """The parts of `model`, or None for an architecture that is not known here."""
    config = model.config
    if config.model_type not in KNOWN:
        return None
    body = model.model
    window = getattr(config, "sliding_window", None)
    default = "sliding_attention" if config.model_type == "mistral" and window else "full_attention"
    types = getattr(config, "layer_types", None) or [default] * len(body.layers)
    return Anatomy(
        body=body,
        embedding=body.embed_tokens,
        rotary=body.rotary_emb,
        layers=body.layers,
        final_norm=body.norm,
        head=model.lm_head,
        layer_types=tuple(types),
        sliding_window=window,
    )
