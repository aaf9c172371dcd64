"""scripts/trials.py: small recipes differ in one thing and cost alike."""

import importlib.util
from pathlib import Path

import pytest

from accrete.lm.presets import preset
from accrete.recipe import read_recipe

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("trials", ROOT / "scripts" / "trials.py")
trials = importlib.util.module_from_spec(spec)
spec.loader.exec_module(trials)
WHOLE = read_recipe(ROOT / "recipes" / "embedded.yaml")
BUDGET = 2_000_000 * trials.weights_used(WHOLE.model)


@pytest.mark.parametrize("name", trials.TRIALS)
def test_every_trial_is_a_model_and_costs_the_same(name):
    recipe = trials.varied(WHOLE, name, BUDGET)
    config = preset("nano", **recipe.model)
    assert config.hidden_size % config.num_attention_heads == 0
    assert recipe.train.tokens * trials.weights_used(recipe.model) == pytest.approx(BUDGET, rel=1e-5)
    assert recipe.model_copy(update={"model": {}, "train": None, "text": None}) == WHOLE.model_copy(
        update={"model": {}, "train": None, "text": None}
    )


def test_the_operations_are_those_of_the_matrices():
    from transformers import AutoModelForCausalLM

    fields = dict(
        num_hidden_layers=2, hidden_size=64, intermediate_size=96, num_attention_heads=4, num_key_value_heads=2
    )
    model = AutoModelForCausalLM.from_config(preset("nano", **fields, vocab_size=128))
    matrices = sum(
        p.numel() for p in model.parameters() if p.ndim == 2
    )  # the tied embedding once: it is the output layer
    assert trials.weights_used(fields | {"vocab_size": 128}) == matrices
