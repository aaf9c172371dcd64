"""Training where a memory looks: it improves, is silent, goes on where it was killed, and says what it changed."""

from __future__ import annotations

import re

import pytest
import torch
from conftest import tiny_lm
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from accrete.adapters.memory_layer import MemoryAdapter
from accrete.adapters.product_keys import ProductKeys, Shape, at_random
from accrete.data.world import World
from accrete.errors import DocumentError, UsageError
from accrete.lm.batch import Sequence, collate
from accrete.memory_retrofit import measure
from accrete.memory_retrofit.options import Options
from accrete.memory_retrofit.run import retrofit
from accrete.memory_retrofit.text import Text
from accrete.memory_retrofit.wordings import Wordings, asked, pairs
from accrete.methods.sparse_memory import SparseMemory

SMALL = {
    "steps": 3,
    "layers": (0.5, 0.75),
    "slots": 64,
    "top_k": 4,
    "heads": 2,
    "key_width": 16,
    "entities": 8,
    "at_once": 6,
    "general": 4,
    "batch_size": 2,
    "window": 24,
}


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(measure, "ENTITIES", 3)


def options(**changes) -> Options:
    return Options(**(SMALL | changes))


@pytest.mark.parametrize("changes", [{}, {"objective": "text"}, {"objective": "text", "gated": True}])
def test_it_trains_what_it_says_and_gives_the_model_back(tmp_path, changes):
    lm, rows = tiny_lm(layers=4), collate([Sequence(tuple(range(5, 25)))])
    names, before = [n for n, _ in lm.model.named_parameters()], lm.logits(rows).detach()
    kind = Text if changes else Wordings
    begun = kind(tiny_lm(layers=4), options(**changes)).tensors()
    seen = []
    path, figures = retrofit(lm, tmp_path, options(**changes), lambda step, loss: seen.append((step, loss)))
    assert [n for n, _ in lm.model.named_parameters()] == names and torch.equal(lm.logits(rows), before)
    assert [step for step, _ in seen] == [1, 2, 3] and all(loss > 0 for _, loss in seen)
    start = load_file(path)
    moved = {name for name, t in start.items() if not torch.equal(t, begun[name])}
    trained = (
        {"queries", "offset", "keys"}
        | (set() if changes else {"listen"})
        | ({"gate", "gate_offset", "out"} if changes.get("gated") else set())
    )
    assert {name.split("/")[1] for name in moved} >= trained and {n.split("/")[0] for n in start} == {"2", "3"}
    for when in ("before", "after"):
        assert set(figures[when]) == {"2", "3"}
        use = {"top_1_percent", "entropy", "never_read"}
        assert set(figures[when]["2"]) == {"confused", "met"} | use | {f"{name}_if_even" for name in use}
    adapter = MemoryAdapter(lm, options().shape(), (0.5, 0.75), start=start)
    assert adapter.started and torch.equal(lm.logits(rows), before)
    assert all(memory.hearing is not None for memory in adapter.memories.values())


def test_wordings_of_a_question_meet_and_other_questions_do_not():
    """Of the questions it was trained with; that it holds for others is measured on the embedded model (LOG.md)."""
    training, found = Wordings(tiny_lm(layers=4), options(slots=256, entities=20, at_once=20, rate=1e-2)), []
    one, other = pairs(training.looks.question_N, torch.Generator().manual_seed(0))
    question = training.looks.question_N
    for steps in (1, 60):
        for number in range(steps):
            training.step(number)
        keys = ProductKeys(Shape(256, 2, 4, 16), {n[2:]: t for n, t in training.tensors().items() if n[0] == "2"})
        z_one, z_other = (training.looks.z(2, places, keys.listen) for places in (one, other))
        found.append(measure.overlap(keys, (z_one, question[one]), (z_other, question[other])))
    assert found[1]["confused"] < 0.7 * found[0]["confused"] and found[1]["met"] < 0.7 * found[0]["met"]


def dense(keys: ProductKeys, z: torch.Tensor) -> torch.Tensor:
    slots, weights = keys.look(z)
    return torch.zeros(len(z), keys.shape.slots).scatter_add_(1, slots, weights)


def test_overlap_is_that_of_whole_tables():
    """Of a million slots only those that are read are looked at; the figures are those of all of them."""
    generator = torch.Generator().manual_seed(0)
    keys = ProductKeys(Shape(64, 2, 4, 16), at_random(Shape(64, 2, 4, 16), 10, seed=1))
    studied, other = torch.randn(12, 10, generator=generator), torch.randn(9, 10, generator=generator)
    of_studied, of_other = torch.arange(12) % 6, torch.arange(9) % 6
    a, b = dense(keys, studied), dense(keys, other)
    shares = b @ a.T / (b * b).sum(1, keepdim=True)
    same = of_other[:, None] == of_studied
    others = shares.masked_fill(same, 0)
    found = measure.overlap(keys, (studied, of_studied), (other, of_other))
    assert found["met"] == pytest.approx(float(others.sum(1).mean()), rel=1e-5)
    own = shares.masked_fill(~same, -1).amax(1)
    assert found["confused"] == pytest.approx(float((own < others.amax(1)).float().mean()))


def test_drawing_wordings_together_makes_them_read_more_of_each_other():
    shares = []
    for align in (0.0, 20.0):
        training = Wordings(tiny_lm(layers=4), options(align=align, rate=1e-2, entities=20))
        for number in range(30):
            training.step(number)
        keys = ProductKeys(Shape(64, 2, 4, 16), {n[2:]: t for n, t in training.tensors().items() if n[0] == "2"})
        one, other = pairs(training.looks.question_N, torch.Generator().manual_seed(0))
        a, b = (dense(keys, training.looks.z(2, places, keys.listen)) for places in (one, other))
        shares.append(float(((a * b).sum(1) / (a * a).sum(1)).mean()))
    assert shares[1] > shares[0] + 0.02


def test_another_date_is_another_question():
    undated = asked(World(7), 6, 3)
    assert [row for row in asked(World(7), 1, 3, 4)][: len(asked(World(7), 1, 3))] == asked(World(7), 1, 3)
    dated = [
        said for _, said in asked(World(7), 6, 3, 4) if any(re.search(r"\b20\d\d\b", question) for question, _ in said)
    ]
    assert len(asked(World(7), 6, 3, 4)) > len(undated) and len(dated) >= 12
    for said in dated:
        years = [re.findall(r"\b20\d\d\b", question) for question, _ in said]
        assert (
            all(len(found) == 1 and found == years[0] for found in years) and len({answer for _, answer in said}) == 1
        )


@given(st.lists(st.integers(0, 6), max_size=40), st.integers(0, 99))
def test_pairs_are_two_members_of_every_group_that_has_two(groups, seed):
    one, other = pairs(torch.tensor(groups, dtype=torch.long), torch.Generator().manual_seed(seed))
    assert sorted(groups[i] for i in one.tolist()) == sorted(g for g in set(groups) if groups.count(g) > 1)
    assert all(groups[i] == groups[j] and i != j for i, j in zip(one.tolist(), other.tolist(), strict=True))


def test_what_reads_where_another_question_was_written_is_confused():
    keys = ProductKeys(Shape(64, 2, 4, 16), at_random(Shape(64, 2, 4, 16), 10, 0))
    a, b = torch.randn(2, 10, generator=torch.Generator().manual_seed(1))
    studied = torch.stack([a, b]), torch.tensor([0, 1])
    right = measure.overlap(keys, studied, (torch.stack([a, b]), torch.tensor([0, 1])))
    wrong = measure.overlap(keys, studied, (torch.stack([a, b]), torch.tensor([1, 0])))
    half = measure.overlap(keys, studied, (torch.stack([a, a]), torch.tensor([0, 1])))
    assert (right["confused"], wrong["confused"], half["confused"]) == (0.0, 1.0, 0.5)
    assert right["met"] < 0.6 and wrong["met"] == pytest.approx(1.0, abs=0.01)


def test_the_balance_makes_the_use_of_half_keys_more_even():
    uneven = []
    for balance in (0.0, 50.0):
        training = Text(tiny_lm(layers=4), options(objective="text", balance=balance, rate=1e-2, keys_rate=1e-2))
        for number in range(10):
            training.step(number)
        of_T = torch.ones(len(training.memories[2].z_TQ), dtype=torch.bool)
        uneven.append(float(training.memories[2].imbalance(of_T).detach()))
    assert uneven[1] < 0.8 * uneven[0]


@pytest.mark.parametrize("objective", ["wordings", "text"])
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
    assert steps == [2, 3] and figures["before"] != figures["after"]
    one, other = load_file(whole), load_file(again)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    for changed in ({"objective": objective, "seed": 1}, {"objective": objective, "rate": 0.5}):
        with pytest.raises(UsageError, match="other options or on another model"):
            retrofit(tiny_lm(layers=4), tmp_path / "killed", options(**changed))
    with pytest.raises(UsageError, match="other options or on another model"):
        retrofit(tiny_lm(layers=4, seed=3), tmp_path / "killed", chosen)


def test_text_is_read_from_files(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "one.txt").write_text("The harbour was built in 1703 by the guild. " * 20)
    training = Text(tiny_lm(layers=4), options(objective="text", texts=str(folder)))
    assert len(training.texts) > 4
    chosen = options(objective="text", texts=str(folder), steps=1)
    retrofit(tiny_lm(layers=4), tmp_path / "run", chosen)
    _, figures = retrofit(tiny_lm(layers=4), tmp_path / "run", chosen)
    assert figures["steps_before"] == 1
    (folder / "one.txt").write_text("The harbour was built in 1704 by the guild. " * 20)
    lm = tiny_lm(layers=4)
    names = [name for name, _ in lm.model.named_modules()]
    with pytest.raises(UsageError, match="another model or text"):
        retrofit(lm, tmp_path / "run", chosen)
    assert [name for name, _ in lm.model.named_modules()] == names
    (folder / "one.txt").unlink()
    with pytest.raises(DocumentError):
        Text(tiny_lm(layers=4), options(objective="text", texts=str(folder)))


def test_the_method_begins_with_it(tmp_path):
    path, _ = retrofit(tiny_lm(layers=4), tmp_path, options())
    config = {name: SMALL[name] for name in ("layers", "slots", "top_k", "heads", "key_width")}
    made = SparseMemory(tiny_lm(layers=4), SparseMemory.Config(**config, start=str(path)))
    assert made.adapter.started and made.about()["looks"].startswith("as the model's start")
