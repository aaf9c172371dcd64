"""What a token can hear of the last values v that its block's attention may listen to. Ends at [B, T, C].

    c = sum of softmax(listen . v) v       over the last `WINDOW` tokens; listen = 0: their mean

In the middle of a model the state of a token says what is asked and hardly of whom; the values of the tokens before it still
say that. This is a head of attention that asks the same at every token, and learns which ones to listen to (names, of which
a plain mean is diluted by how a question is put). It comes from the values that the model keeps anyway, so it is the same
whether a text is run at once or token by token, padded or not.

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
    """Beside one attention module: after each of its passes, `now` is what its tokens could hear."""

    def __init__(self, attention: nn.Module, listen_C: Tensor | None = None):
        self.attention, self.listen_C = cast(Any, attention), listen_C
        self._pass: dict[str, Any] = {}
        self._handle = attention.register_forward_hook(self._note, with_kwargs=True)

    def _note(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        self._pass = named | ({"hidden_states": inputs[0]} if inputs else {})

    @torch.no_grad()
    def now(self) -> Tensor:
        """[B, T, C] in float32, of the pass that has just left the attention."""
        values_BKC, visible_BTK = self.listening()
        return heard(values_BKC, visible_BTK, self.listen_C)

    @torch.no_grad()
    def listening(self) -> tuple[Tensor, Tensor]:
        """What there was to be heard in that pass: values [B, K, C] in float32, and which of them each token may [B, T, K]."""
        hidden_BTD, cache = self._pass["hidden_states"], self._pass.get("past_key_values")
        if cache is None:
            values_BKC = self.attention.v_proj(hidden_BTD)
        else:
            values_BKC = cache.layers[self.attention.layer_idx].values.transpose(1, 2).flatten(2)
        visible_BTK = visible(
            self._pass.get("attention_mask"), hidden_BTD.shape[1], values_BKC.shape[1], hidden_BTD.device
        )
        return values_BKC.float(), near(visible_BTK)

    def drop(self) -> None:
        """Keep nothing of that pass."""
        self._pass = {}

    def remove(self) -> None:
        self._handle.remove()
        self.drop()


def heard(values_BKC: Tensor, near_BTK: Tensor, listen_C: Tensor | None = None) -> Tensor:
    """[B, T, C]: for each token the values that it may hear, those most that `listen` asks for; None: all alike."""
    scores_BK = values_BKC.new_zeros(values_BKC.shape[:2]) if listen_C is None else values_BKC @ listen_C
    weights_BTK = torch.softmax(scores_BK[:, None, :].masked_fill(~near_BTK, -torch.inf), -1).nan_to_num()
    return weights_BTK @ values_BKC


def near(visible_BTK: Tensor, window: int = WINDOW) -> Tensor:
    """[B, T, K]: the last `window` of those that are visible to a token."""
    real_BK = visible_BTK.any(1)
    place_BK = real_BK.cumsum(-1, dtype=torch.int32)  # padding is no place
    last_BT1 = (place_BK[:, None, :] * visible_BTK).amax(-1, keepdim=True)
    return visible_BTK & (place_BK[:, None, :] > last_BT1 - window)


def visible(mask: Tensor | None, tokens: int, keys: int, device: torch.device) -> Tensor:
    """[B or 1, T, K] from what attention is given: nothing, [B, K] of ones and zeros, or [B, 1, T, K], additive or boolean."""
    causal_TK = torch.ones(tokens, keys, dtype=torch.bool, device=device).tril(keys - tokens)
    if mask is None:
        return causal_TK[None]
    if mask.ndim == 2:
        return causal_TK & mask[:, None, -keys:].bool()
    visible_BTK = mask[:, 0, :, :keys]
    return causal_TK & (visible_BTK if visible_BTK.dtype == torch.bool else visible_BTK == 0)
