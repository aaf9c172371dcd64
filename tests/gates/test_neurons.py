"""The neuron gate: TF-IDF as the formula has it, general neurons closed, causal because it never touches a forward pass."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from conftest import tiny_lm

from accrete.adapters.dual_mlp import DualMLPAdapter
from accrete.errors import HistoryError, UsageError
from accrete.gates.neurons import NeuronGate
from accrete.lm.batch import Sequence


def gate(threshold: float = 0.3) -> NeuronGate:
    adapter = DualMLPAdapter(tiny_lm(layers=8), alpha=0.5)
    return NeuronGate(adapter.lm, {i: (twin.frozen, twin.active) for i, twin in adapter.twins.items()}, threshold)


def texts(count: int, seed: int = 0, low: int = 5, high: int = 200) -> list[Sequence]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(4, 12, (count,), generator=generator).tolist()
    return [Sequence(tuple(torch.randint(low, high, (n,), generator=generator).tolist())) for n in lengths]


def alone(made: NeuronGate, sequence: Sequence) -> dict[int, torch.Tensor]:
    """Mean |a_j| of one text, from the frozen MLP itself, without padding."""
    seen: dict[int, torch.Tensor] = {}
    hooks = [
        module.down_proj.register_forward_pre_hook(lambda _, x, i=i: seen.__setitem__(i, x[0][0].abs().mean(0)))
        for i, (module, _) in made.neurons.items()
    ]
    with torch.no_grad():
        made.lm.model(input_ids=torch.tensor([sequence.ids]))
    for hook in hooks:
        hook.remove()
    return seen


def test_it_counts_and_scores_as_the_formula_says():
    made, corpus, lesson = gate(), texts(20), texts(3, seed=9)
    made.calibrate(corpus)
    opened = made.open(lesson)
    means = [alone(made, sequence) for sequence in corpus]
    for i in made.neurons:
        df = torch.stack([m[i] > m[i].mean() for m in means]).sum(0)
        assert made.counts[i].tolist() == df.tolist() and 0 < float(df.float().mean()) < 20
        mean = torch.stack([alone(made, s)[i] for s in lesson]).mean(0)
        score = mean / mean.max() * torch.tensor([max(0.0, math.log(20 / (1 + int(n)))) for n in df])
        assert opened[i].tolist() == torch.nonzero(score >= 0.3 * score.max()).flatten().tolist()
        assert 0 < len(opened[i]) < len(df)


def test_a_higher_threshold_leaves_fewer_open_and_none_leaves_all():
    opened = []
    for threshold in (0.0, 0.3, 0.6, 1.0):
        made = gate(threshold)
        made.calibrate(texts(20))
        opened.append({int(j) for j in made.open(texts(3, seed=9))[7]})
    assert len(opened[0]) == 128 > len(opened[1]) > len(opened[-1]) == 1
    assert all(more >= fewer for more, fewer in itertools.pairwise(opened))


def test_what_every_text_uses_stays_closed():
    made = gate()
    made.calibrate(texts(20))
    made.counts[6][:64] = 20.0
    assert min(made.open(texts(3, seed=9))[6].tolist()) >= 64


def test_without_calibration_all_are_open_and_too_little_is_none():
    made = gate()
    assert made.open(texts(3)) is None
    with pytest.raises(UsageError, match="at least 8 texts"):
        made.calibrate(texts(7))
    assert made.texts == 0


def test_its_state_comes_back_and_one_of_other_layers_does_not():
    made, again = gate(), gate()
    made.calibrate(texts(20))
    again.load_state_dict(made.state_dict())
    assert again.texts == 20 and {i: t.tolist() for i, t in again.open(texts(3)).items()} == {
        i: t.tolist() for i, t in made.open(texts(3)).items()
    }
    with pytest.raises(HistoryError, match="other layers"):
        again.load_state_dict({"texts": 20, "3/counts": torch.zeros(128)})
