"""scripts/validate_gpu.py: each milestone can fail, and on the embedded model all of them hold."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from conftest import tiny_lm

from accrete import Learner

SCRIPT = Path(__file__).parents[1] / "scripts" / "validate_gpu.py"
spec = importlib.util.spec_from_file_location("validate_gpu", SCRIPT)
validate = importlib.util.module_from_spec(spec)
spec.loader.exec_module(validate)


def learner(home, layers=28, **config) -> Learner:
    options = {"calibration": 0, "max_steps": 2} | config
    return Learner(tiny_lm(layers=layers), method="ttt", home=home, config=options, max_forgetting=1.0)


def test_twenty_eight_layers_have_seven_modified(home):
    passed, figures = validate.architecture(learner(home))
    assert passed and (figures["layers"], figures["modified"]) == (28, 7) and figures["silent_at_birth"]


def test_other_layers_or_a_loud_birth_fail(home):
    assert not validate.architecture(learner(home, depth=0.5))[0]
    loud = learner(home.with_name("loud"))
    loud.method.adapter.open()
    loud.method.adapter.twins[27].opened.down.data += 0.1
    assert not validate.architecture(loud)[0]


def test_learning_is_seen_and_so_is_none(home):
    passed, figures = validate.learning(learner(home, layers=8))
    assert passed and figures["loss_after"] < figures["loss_before"] and figures["neurons_taught"] > 0
    assert figures["tokens"] > 100, "the text was read"
    idle = learner(home.with_name("idle"), layers=8, read_rate=1e-12, rate=1e-12)
    assert not validate.learning(idle)[0]


def test_nothing_forgotten_without_anything_learned_fails(home):
    passed, figures = validate.gates(learner(home, layers=8), 1.0)
    assert not passed and figures["learned"] < validate.LEARNED


def test_what_was_lost_before_the_gates_counts(home, monkeypatch):
    """Everything is learned and the gate is calibrated; the guard questions fell to a half since birth."""
    taught = learner(home, layers=8)
    monkeypatch.setattr(validate, "LEARNED", 0.0)
    monkeypatch.setattr(taught, "kept", lambda domain=None, split="guard": 0.5)
    taught.method.gate.texts = 8
    monkeypatch.setattr(taught.method, "_open_neurons", lambda sequences: None)
    assert validate.gates(taught, 0.5)[0]
    passed, figures = validate.gates(taught, 1.0)
    assert not passed and figures["forgetting_ratio"] == 0.5


@pytest.mark.slow
def test_all_milestones_hold_on_the_embedded_model(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["validate_gpu.py", "--json", "--device", "cpu"])
    torch.manual_seed(0)
    assert validate.main() == 0
    found = json.loads(capsys.readouterr().out)
    assert found["holds"] and all(found[name]["passed"] for name in ("architecture", "learning", "gates", "page"))
