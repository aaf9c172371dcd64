"""What a token can hear: the mean of the last values that its block's attention may listen to. Ends at [B, T, C].

In the middle of a model the state of a token says what is asked and hardly of whom; the values of the tokens before it still
say that. Their mean is what a head of attention without preferences would give. It comes from the values that the model
keeps anyway, so it is the same whether a text is run at once or token by token, padded or not.

Shape suffixes: B rows, T tokens of this pass, K tokens that may be heard, C = key-value heads * width of a head.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

WINDOW = 32  # tokens: about a question; in longer text a mean of everything would say nothing of any part


def hearing_width(attention: nn.Module) -> int:
    """C: how many numbers its tokens can hear."""
    return int(cast(Any, attention).v_proj.out_features)


class Hearing:
    """Beside one attention module: after each of its passes, `mean` is what its tokens could hear."""

    def __init__(self, attention: nn.Module):
        self.attention = cast(Any, attention)
        self._pass: dict[str, Any] = {}
        self._handle = attention.register_forward_hook(self._note, with_kwargs=True)

    def _note(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        self._pass = named | ({"hidden_states": inputs[0]} if inputs else {})

    @torch.no_grad()
    def mean(self) -> Tensor:
        """[B, T, C] in float32, of the pass that has just left the attention."""
        hidden_BTD, cache = self._pass["hidden_states"], self._pass.get("past_key_values")
        if cache is None:
            values_BKC = self.attention.v_proj(hidden_BTD)
        else:
            values_BKC = cache.layers[self.attention.layer_idx].values.transpose(1, 2).flatten(2)
        tokens, keys = hidden_BTD.shape[1], values_BKC.shape[1]
        return heard(values_BKC.float(), _visible(self._pass.get("attention_mask"), tokens, keys, hidden_BTD.device))

    def remove(self) -> None:
        self._handle.remove()
        self._pass = {}


def heard(values_BKC: Tensor, visible_BTK: Tensor, window: int = WINDOW) -> Tensor:
    """[B, T, C]: for each token the mean of the last `window` values of those that are visible to it."""
    real_BK = visible_BTK.any(1)
    place_BK = real_BK.cumsum(-1)  # padding is no place
    last_BT1 = (place_BK[:, None, :] * visible_BTK).amax(-1, keepdim=True)
    near_BTK = visible_BTK & (place_BK[:, None, :] > last_BT1 - window)
    weights_BTK = near_BTK / near_BTK.sum(-1, keepdim=True).clamp(min=1)
    return weights_BTK.to(values_BKC.dtype) @ values_BKC


def _visible(mask: Tensor | None, tokens: int, keys: int, device: torch.device) -> Tensor:
    """[B or 1, T, K] from what attention is given: nothing, [B, K] of ones and zeros, or [B, 1, T, K], additive or boolean."""
    causal_TK = torch.ones(tokens, keys, dtype=torch.bool, device=device).tril(keys - tokens)
    if mask is None:
        return causal_TK[None]
    if mask.ndim == 2:
        return causal_TK & mask[:, None, -keys:].bool()
    visible_BTK = mask[:, 0, :, :keys]
    return causal_TK & (visible_BTK if visible_BTK.dtype == torch.bool else visible_BTK == 0)
