"""Small models made on the spot, a scratch home, and the embedded model. Ends where the tests begin."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # `make test` has a process on every core; torch need not have them as well

import pytest
import torch
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from accrete.data.world import World
from accrete.lm.load import embedded_directory, load
from accrete.lm.model import LM

FAMILIES = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
}


@functools.cache
def tokenizer():
    """The embedded model's tokenizer."""
    return AutoTokenizer.from_pretrained(embedded_directory())


def tiny_lm(family: str = "qwen2", *, seed: int = 0, layers: int = 4, **overrides) -> LM:
    """A random model of a family: width 64, 4 heads on 2 key/value heads, tied to the embedded tokenizer.

    It comes with four guard sentinels and some background, as the embedded model does.
    """
    config_class, model_class = FAMILIES[family]
    fields = dict(
        vocab_size=len(tokenizer()),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        eos_token_id=tokenizer().eos_token_id,
        pad_token_id=tokenizer().pad_token_id,
        bos_token_id=None,
        sliding_window=None,
    )
    config = config_class(**(fields | overrides))
    torch.manual_seed(seed)
    model = model_class(config)
    # The families start biases and norms at 0 and 1; noise makes a forgotten one visible.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    lm = LM(model, tokenizer(), f"tiny {family}")
    world = World(99)
    facts = world.entity("town").facts + world.entity("ship").facts
    lm.sentinels = tuple((p.question, p.answers, "guard") for p in world.probes(facts[:4]))
    lm.background = tuple((item.question, item.answer) for item in world.items(facts[4:]))
    return lm


@pytest.fixture
def make_lm() -> Callable[..., LM]:
    return tiny_lm


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def embedded() -> LM:
    """A fresh copy of the model that ships with the package."""
    return load("embedded", device="cpu", offline=True)


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model saved as `accrete pretrain` saves one: for tests that name a model rather than hold it."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    lm = tiny_lm(layers=2)
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    sentinels = [{"question": q, "answers": answers, "split": split} for q, answers, split in lm.sentinels]
    background = [{"question": q, "answer": a} for q, a in lm.background]
    for name, rows in (("sentinels", sentinels), ("background", background)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
