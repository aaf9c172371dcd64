"""Dual MLPs: silent at birth, able to learn, alpha that never rescales, causal, cached as whole, exact as a wider model."""

from __future__ import annotations

import pytest
import torch
from conftest import FAMILIES, tiny_lm
from transformers import GPT2Config, GPT2LMHeadModel

from accrete.adapters.dual_mlp import DualMLPAdapter
from accrete.errors import HistoryError, ModelError
from accrete.lm.batch import Sequence, collate
from accrete.lm.model import LM, SuffixCache

LAYERS = 8


def batch(*lengths: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    rows = [tuple(torch.randint(5, 200, (n,), generator=generator).tolist()) for n in lengths or (20,)]
    return collate([Sequence(row) for row in rows])


@torch.no_grad()
def said(lm: LM, seed: int = 0) -> torch.Tensor:
    return lm.logits(batch(seed=seed))


def teach(
    adapter: DualMLPAdapter, neurons=None, steps: int = 3, optimizer=torch.optim.AdamW, rate=1e-2, seed=0
) -> None:
    """A few plain steps on random tokens."""
    lm, rows = adapter.lm, batch(12, 12, seed=seed)
    parameters = adapter.open(neurons)
    made = optimizer(parameters, lr=rate)
    for _ in range(steps):
        made.zero_grad()
        torch.nn.functional.cross_entropy(
            lm.logits(rows)[:, :-1].flatten(0, 1), rows.ids_BT[:, 1:].flatten()
        ).backward()
        made.step()
    adapter.close()


@pytest.fixture
def adapter() -> DualMLPAdapter:
    return DualMLPAdapter(tiny_lm(layers=LAYERS), alpha=0.5)


@pytest.mark.parametrize(("layers", "first"), [(1, 0), (2, 1), (3, 2), (4, 3), (8, 6), (24, 18), (28, 21)])
def test_the_last_quarter_is_a_share_of_the_depth(layers, first):
    adapter = DualMLPAdapter(tiny_lm(layers=layers), alpha=0.5)
    assert list(adapter.twins) == list(range(first, layers)) and adapter.first_layer == first


def test_a_start_that_does_not_fit_leaves_the_model_as_it_was():
    lm = tiny_lm(layers=LAYERS)
    whole = {f"{i}/{name}": torch.zeros(128, 64) for i in (6, 7) for name in ("gate", "up")}
    with pytest.raises(ModelError, match="layer 7"):
        DualMLPAdapter(lm, 0.5, start=whole | {"7/up": torch.zeros(3, 64)})
    with pytest.raises(ModelError, match="another model"):
        DualMLPAdapter(lm, 0.5, start={"20/gate": torch.zeros(128, 64), "20/up": torch.zeros(128, 64)})
    assert all(type(layer.mlp).__name__ != "DualMLP" for layer in lm.anatomy.layers)


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_silent_at_birth_and_when_opened(family):
    lm = tiny_lm(family, layers=LAYERS)
    before = said(lm)
    adapter = DualMLPAdapter(lm, alpha=0.3)
    assert torch.equal(said(lm), before)
    adapter.open()
    assert torch.equal(said(lm), before)
    adapter.remove()
    assert torch.equal(said(lm), before) and set(tiny_lm(family).model.state_dict()) <= set(lm.model.state_dict())


@pytest.mark.parametrize("family", FAMILIES)
def test_it_can_learn_and_the_base_stays_below(family):
    """Zeros in every matrix would have no gradient: it would never learn, and so never forget."""
    lm = tiny_lm(family, layers=LAYERS)
    base, adapter = said(lm), DualMLPAdapter(lm, alpha=0.95)
    frozen = {name: t.clone() for name, t in lm.model.state_dict().items() if ".opened" not in name}
    teach(adapter)
    assert not torch.equal(said(lm), base)
    for i, twin in adapter.twins.items():
        born = twin.born(twin.taught.numbers_N)
        for name, tensor in born.tensors().items():
            if name != "neurons":
                assert not torch.equal(twin.taught.tensors()[name], tensor), f"{i}: {name} did not move"
    now = lm.model.state_dict()
    assert all(torch.equal(now[name], t) for name, t in frozen.items() if ".taught" not in name)
    with adapter.off():
        assert torch.equal(said(lm), base)
    assert not torch.equal(said(lm), base)


def test_moving_alpha_changes_nothing_that_was_learned(adapter):
    teach(adapter)
    before = said(adapter.lm)
    for alpha in (0.1, 0.95, 0.5):
        adapter.move_alpha(alpha)
        torch.testing.assert_close(said(adapter.lm), before, atol=1e-5, rtol=1e-4)
        assert all(twin.strength == pytest.approx(1 - alpha) for twin in adapter.twins.values())


OPTIMIZERS = [
    torch.optim.SGD,
    lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=0.1),
    torch.optim.AdamW,
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_closed_neurons_keep_their_bits(adapter, optimizer):
    """Momentum and weight decay move what has no gradient: here there is nothing to move."""
    one, other = torch.arange(0, 60), torch.arange(40, 100, 2)
    teach(adapter, dict.fromkeys(adapter.twins, one))
    before = {i: twin.taught for i, twin in adapter.twins.items()}
    teach(adapter, dict.fromkeys(adapter.twins, other), optimizer=optimizer, seed=1)
    for i, twin in adapter.twins.items():
        assert twin.taught.numbers_N.tolist() == sorted({*one.tolist(), *other.tolist()})
        held = torch.isin(twin.taught.numbers_N, one)
        closed = ~torch.isin(one, other)
        for name in ("gate", "up", "down"):
            now, was = getattr(twin.taught, name)[held], getattr(before[i], name)
            assert torch.equal(now[closed], was[closed])
            assert not torch.equal(now[~closed], was[~closed])


def test_what_a_lesson_did_not_open_is_not_held(adapter):
    teach(adapter, dict.fromkeys(adapter.twins, torch.tensor([3, 9])))
    state = adapter.state_dict()
    assert set(state) == {"alpha", *(f"{i}/{name}" for i in (6, 7) for name in ("neurons", "gate", "up", "down"))}
    assert state["6/neurons"].tolist() == [3, 9] and state["6/down"].shape == (2, 64)
    again = DualMLPAdapter(tiny_lm(layers=LAYERS), alpha=0.9)
    again.load_state_dict(state)
    assert torch.equal(said(again.lm), said(adapter.lm)) and again.alpha == 0.5
    again.load_state_dict({"alpha": 0.9})
    assert torch.equal(said(again.lm), said(tiny_lm(layers=LAYERS)))


def test_a_state_of_another_model_is_refused_and_changes_nothing(adapter):
    teach(adapter, dict.fromkeys(adapter.twins, torch.tensor([3, 9])))
    state, before = adapter.state_dict(), said(adapter.lm)
    wrong = [
        {"alpha": 0.5, **{key.replace("6/", "5/"): t for key, t in state.items() if key != "alpha"}},
        state | {"6/gate": state["6/gate"][:, :32]},
        state | {"6/neurons": torch.tensor([3, 128])},
        state | {"6/neurons": torch.tensor([9, 3])},
        state | {"6/neurons": torch.tensor([-1, 3])},
        {key: t for key, t in state.items() if key != "7/down"},
        state | {"7/more": torch.zeros(1)},
    ]
    for bad in wrong:
        with pytest.raises(HistoryError):
            adapter.load_state_dict(bad)
        assert torch.equal(said(adapter.lm), before)


@pytest.mark.parametrize("gated", [False, True])
def test_later_tokens_change_nothing_before_them(adapter, gated):
    teach(adapter, dict.fromkeys(adapter.twins, torch.arange(0, 50, 3)) if gated else None)
    one = batch(24)
    other = one.ids_BT.clone()
    other[0, 15:] = torch.arange(9)
    with torch.no_grad():
        changed = adapter.lm.logits(collate([Sequence(tuple(other[0].tolist()))]))
        assert torch.equal(adapter.lm.logits(one)[:, :15], changed[:, :15])
        assert not torch.equal(adapter.lm.logits(one)[:, 15:], changed[:, 15:])


@pytest.mark.parametrize("family", FAMILIES)
def test_piece_by_piece_with_a_cache_is_the_whole_pass(family):
    adapter = DualMLPAdapter(tiny_lm(family, layers=LAYERS), alpha=0.5)
    teach(adapter)
    lm, rows = adapter.lm, batch(21)
    with torch.no_grad():
        hidden = lm.prefix(rows, adapter.first_layer)
        cache, pieces = SuffixCache(), []
        for start in range(0, 21, 8):
            for _ in range(2):  # a second step on the same tokens sees the same before them
                cache.crop(start)
                piece = lm.suffix(hidden.part(0, start, start + 8), cache)
            pieces.append(piece)
        torch.testing.assert_close(torch.cat(pieces, 1), lm.logits(rows), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_exactly_a_plain_model_with_a_wider_mlp(family):
    adapter = DualMLPAdapter(tiny_lm(family, layers=LAYERS), alpha=0.5)
    teach(adapter, {6: torch.arange(0, 90), 7: torch.arange(100, 128)})
    weights, changes = adapter.fuse()
    assert changes == {"intermediate_size": 128 + 90}
    plain = type(adapter.lm.model)(
        type(adapter.lm.model.config)(**(adapter.lm.model.config.to_dict() | changes))
    ).eval()
    plain.load_state_dict(weights)
    with torch.no_grad():
        theirs = plain(input_ids=batch().ids_BT).logits
    torch.testing.assert_close(theirs, said(adapter.lm), atol=1e-5, rtol=1e-4)
    assert not torch.equal(theirs, said(tiny_lm(family, layers=LAYERS)))


def test_a_base_in_bfloat16_still_takes_small_steps():
    lm = tiny_lm(layers=LAYERS)
    lm.model.to(torch.bfloat16)
    adapter = DualMLPAdapter(lm, alpha=0.5)
    parameters = adapter.open()
    assert {p.dtype for p in parameters} == {torch.float32}
    before = [p.detach().clone() for p in parameters]
    rows = batch()
    torch.nn.functional.cross_entropy(lm.logits(rows)[0, :-1].float(), rows.ids_BT[0, 1:]).backward()
    torch.optim.AdamW(parameters, lr=1e-6).step()
    assert any(not torch.equal(now, was) for now, was in zip(parameters, before, strict=True))


def test_an_architecture_without_known_parts_is_one_sentence():
    config = GPT2Config(vocab_size=100, n_positions=32, n_embd=16, n_layer=2, n_head=2)
    with pytest.raises(ModelError, match="gpt2"):
        DualMLPAdapter(LM(GPT2LMHeadModel(config), tiny_lm().tokenizer, "gpt2"), alpha=0.5)
