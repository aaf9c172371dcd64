"""The learned router of scripts/learned_router.py: what it is taught, and that it learns it. Ends before any model."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from accrete.types import Fact, Probe

SCRIPT = Path(__file__).parents[2] / "scripts" / "learned_router.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("learned_router", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_asked_backwards_is_another_relation(script):
    probes = [Probe("?", ("Ada",), fact=Fact("Tolvane", "mayor", "Ada", "2018")), Probe("?", ("Bo",))]
    taught = script.supervision(script.known(probes))
    assert {relation for relation, _ in taught} == {"mayor", "mayor backwards"}
    assert ("mayor backwards", "Ada is the mayor of") in taught and ("mayor", "Name the mayor of Tolvane.") in taught


def test_a_matrix_comes_to_see_relations_through_noise(script):
    """Relations lie in four of sixteen numbers; what is held out is told apart better than before."""
    generator = torch.Generator().manual_seed(0)
    means_RD = torch.randn(20, 4, generator=generator)
    relation = torch.arange(20).repeat(12)
    noise = torch.randn(240, 12, generator=generator)
    states_QD = torch.nn.functional.normalize(torch.cat([means_RD[relation], noise], 1), dim=1)
    w_DD, before, after = script.trained(states_QD, [f"{one:02}" for one in relation.tolist()])
    assert after < 0.7 * before
    assert w_DD[:, :4].norm(dim=0).mean() > 1.5 * w_DD[:, 4:].norm(dim=0).mean()
