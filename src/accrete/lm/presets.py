"""Sizes of Qwen2-family models: RMSNorm, RoPE, grouped-query attention, SwiGLU, tied embeddings. Ends at the config."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from accrete.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from transformers import Qwen2Config

# name: layers, width, MLP width, query heads, key/value heads, vocabulary
PRESETS: dict[str, tuple[int, int, int, int, int, int]] = {
    "nano": (6, 256, 768, 4, 2, 4_096),  # 5.8M
    "small": (12, 640, 1_792, 10, 2, 16_384),  # 64M
    "medium": (16, 1_024, 2_816, 16, 4, 32_768),  # 214M
    "large": (20, 2_048, 5_632, 16, 4, 65_536),  # 1.04B
}


def preset(name: str, **overrides: Any) -> Qwen2Config:
    """The transformers config of a preset; `overrides` are Qwen2Config fields. Unknown names raise UsageError."""
    from transformers import Qwen2Config

    if name not in PRESETS:
        raise UsageError(f'There is no preset "{name}".{did_you_mean(name, PRESETS)}')
    known = Qwen2Config().to_dict()
    for key in overrides:
        if key not in known:
            raise UsageError(f'Unknown key "{key}" for a model.{did_you_mean(key, known)}')
    layers, width, mlp, heads, kv_heads, vocabulary = PRESETS[name]
    fields = dict(
        num_hidden_layers=layers,
        hidden_size=width,
        intermediate_size=mlp,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        vocab_size=vocabulary,
        max_position_embeddings=2_048,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=True,
        bos_token_id=None,
    )
    return Qwen2Config(**(fields | overrides))
