"""The presets have the sizes their names promise."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from accrete.errors import UsageError
from accrete.lm.anatomy import anatomy
from accrete.lm.presets import PRESETS, preset

SIZES = {"nano": 5.8e6, "small": 60e6, "medium": 200e6, "large": 1e9}


def meta_model(name: str, **overrides: object):
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(preset(name, **overrides))


@pytest.mark.parametrize("name", PRESETS)
def test_size(name: str) -> None:
    model = meta_model(name)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(SIZES[name], rel=0.1)
    parts = anatomy(model)
    assert parts is not None
    assert parts.head.weight is parts.embedding.weight
    assert len(parts.layers) == PRESETS[name][0]


def test_overrides() -> None:
    assert preset("nano", vocab_size=77).vocab_size == 77
    assert preset("nano", num_hidden_layers=2).num_hidden_layers == 2


def test_an_unknown_preset_suggests() -> None:
    with pytest.raises(UsageError, match='Did you mean "medium"'):
        preset("mediun")
    with pytest.raises(UsageError, match="Known: large, medium, nano, small"):
        preset("???")
