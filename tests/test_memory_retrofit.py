"""Training where a memory looks: it improves, is silent, goes on where it was killed, and says how slots are used."""

from __future__ import annotations

import random

import pytest
import torch
from conftest import tiny_lm
from safetensors.torch import load_file

from accrete.adapters.memory_layer import MemoryAdapter
from accrete.errors import DocumentError, UsageError
from accrete.lm.batch import Sequence, collate
from accrete.memory_retrofit import Options, Retrofit, retrofit
from accrete.methods.sparse_memory import SparseMemory

SMALL = {
    "steps": 3,
    "layers": (0.5, 0.75),
    "slots": 64,
    "top_k": 4,
    "heads": 2,
    "key_width": 16,
    "entities": 1,
    "written": 6,
    "asked": 4,
    "general": 3,
    "batch_size": 2,
    "window": 24,
}


def options(**changes) -> Options:
    return Options(**(SMALL | changes))


@pytest.mark.parametrize("changes", [{}, {"gated": True}, {"objective": "text"}, {"objective": "text", "gated": True}])
def test_it_trains_what_it_says_and_gives_the_model_back(tmp_path, changes):
    lm, rows = tiny_lm(layers=4), collate([Sequence(tuple(range(5, 25)))])
    names, before = [n for n, _ in lm.model.named_parameters()], lm.logits(rows).detach()
    begun = Retrofit(tiny_lm(layers=4), options(**changes)).tensors()
    seen = []
    path, figures = retrofit(lm, tmp_path, options(**changes), lambda step, loss: seen.append((step, loss)))
    assert [n for n, _ in lm.model.named_parameters()] == names and torch.equal(lm.logits(rows), before)
    assert [step for step, _ in seen] == [1, 2, 3] and all(loss > 0 for _, loss in seen)
    start = load_file(path)
    moved = {name for name, t in start.items() if not torch.equal(t, begun[name])}
    trained = {"queries", "offset", "keys"} | ({"gate", "gate_offset", "out"} if changes.get("gated") else set())
    assert {name.split("/")[1] for name in moved} >= trained and {n.split("/")[0] for n in start} == {"2", "3"}
    for when in ("usage_before", "usage_after"):
        assert set(figures[when]) == {"2", "3"} and set(figures[when]["2"]) == {
            "top_1_percent",
            "entropy",
            "never_read",
        }
    shape = options().shape()
    adapter = MemoryAdapter(lm, shape, (0.5, 0.75), start=start)
    assert adapter.started and torch.equal(lm.logits(rows), before)


def test_writing_helps_other_wordings_once_it_was_trained():
    """On one episode again and again: the answers in other words cost less when the addresses and the rate have learned it."""
    training = Retrofit(tiny_lm(layers=4), options(steps=1_000, anchor=0.0, inner_rate=5.0, rate=1e-2, keys_rate=1e-2))
    losses = [training._questions(random.Random(4)) for _ in range(1)]
    first = float(losses[0][0].detach())
    for _ in range(12):
        training.optimizer.zero_grad()
        loss, _ = training._questions(random.Random(4))
        loss.backward()
        training.optimizer.step()
    assert float(loss.detach()) < first - 0.05
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in training.parameters().values())
    assert all(float(rate.detach().exp()) != 5.0 for rate in training.log_rates.values())


def test_the_balance_makes_the_use_of_slots_more_even():
    """With nothing else to go by, a heavy balance alone spreads what is read."""
    entropies = []
    for balance in (0.0, 50.0):
        training = Retrofit(tiny_lm(layers=4), options(steps=1_000, balance=balance, rate=1e-2, keys_rate=1e-2))
        for number in range(10):
            training.step(number)
        entropies.append(training.usage()["2"]["entropy"])
    assert entropies[1] > entropies[0]


@pytest.mark.parametrize("objective", ["questions", "text"])
def test_killed_and_called_again_it_ends_where_it_would_have(tmp_path, objective):
    class Killed(Exception):
        pass

    def kill(step, loss):
        if step == 2:
            raise Killed

    chosen = options(objective=objective, save_seconds=0.0)
    whole, _ = retrofit(tiny_lm(layers=4), tmp_path / "whole", chosen)
    with pytest.raises(Killed):
        retrofit(tiny_lm(layers=4), tmp_path / "killed", chosen, kill)
    steps = []
    again, figures = retrofit(tiny_lm(layers=4), tmp_path / "killed", chosen, lambda step, loss: steps.append(step))
    assert steps == [2, 3] and figures["usage_before"] != figures["usage_after"]
    one, other = load_file(whole), load_file(again)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(UsageError, match="other options or on another model"):
        retrofit(tiny_lm(layers=4), tmp_path / "killed", options(objective=objective, balance=0.5))
    with pytest.raises(UsageError, match="other options or on another model"):
        retrofit(tiny_lm(layers=4, seed=3), tmp_path / "killed", chosen)


def test_text_is_read_from_files(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "one.txt").write_text("The harbour was built in 1703 by the guild. " * 20)
    training = Retrofit(tiny_lm(layers=4), options(objective="text", texts=str(folder)))
    assert len(training.texts) > 4
    (folder / "one.txt").unlink()
    with pytest.raises(DocumentError):
        Retrofit(tiny_lm(layers=4), options(objective="text", texts=str(folder)))


def test_the_method_begins_with_it(tmp_path):
    path, _ = retrofit(tiny_lm(layers=4), tmp_path, options())
    config = {name: SMALL[name] for name in ("layers", "slots", "top_k", "heads", "key_width")}
    made = SparseMemory(tiny_lm(layers=4), SparseMemory.Config(**config, start=str(path)))
    assert made.adapter.started and made.about()["looks"].startswith("as the model's start")
    assert all(group["lr"] > 100 for group in made._optimizer().param_groups)
