"""Pretraining learns, and an interruption leaves no trace in its result."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from accrete.errors import ModelError
from accrete.lm.presets import preset
from accrete.lm.pretrain import Progress, TrainConfig, _batch_rows, _loss, _optimizers, _schedule, pretrain

SMALL = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1)
CONFIG = TrainConfig(tokens=12 * 4 * 16, length=16, batch=4, autocast="off", save_seconds=1e9)


def small_model(seed: int = 0, **overrides: int) -> PreTrainedModel:
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(preset("nano", vocab_size=50, **(SMALL | overrides)))


def repetitive(count: int = 640) -> numpy.ndarray:
    return numpy.resize(numpy.arange(3, 14, dtype="uint16"), count)


def by_hand(model: PreTrainedModel, ids_BT: torch.Tensor, weights_BT: torch.Tensor) -> torch.Tensor:
    """The weighted mean of what each next token costs, from the logits of the whole model."""
    logs = model(input_ids=ids_BT).logits[:, :-1].log_softmax(-1)
    costs = -logs.gather(2, ids_BT[:, 1:, None]).squeeze(2)
    return (costs * weights_BT[:, 1:]).sum() / weights_BT[:, 1:].sum()


class Interrupted(Exception):
    pass


def interrupt_at(step: int):
    def progress(seen: Progress) -> None:
        if seen.step == step:
            raise Interrupted

    return progress


def test_the_loss_falls(tmp_path: Path) -> None:
    seen: list[Progress] = []
    model = small_model()
    config = CONFIG.model_copy(update={"tokens": 60 * 4 * 16})
    last = pretrain(model, repetitive(), config, tmp_path / "run", seen.append)
    assert [p.step for p in seen] == list(range(1, 61))
    assert all(p.steps == 60 for p in seen)
    assert seen[0].loss == pytest.approx(numpy.log(50), rel=0.1)
    assert last == seen[-1].loss < 0.6 * seen[0].loss
    assert not model.training


# --- what a step minimises


@pytest.mark.parametrize("shape", [(3, 15), (1, 4), (4, 9)])  # 42, 3 and 32 targets, in up to eight pieces
@pytest.mark.parametrize("tied", [True, False])
def test_the_loss_is_the_weighted_mean_of_next_tokens(shape: tuple[int, int], tied: bool) -> None:
    model = small_model(tie_word_embeddings=tied)
    ids = torch.randint(50, shape, generator=torch.Generator().manual_seed(1))
    weights = torch.rand(shape, generator=torch.Generator().manual_seed(2)).round(decimals=1)
    weights[:, 0] = 99.0  # the first token of a row is nobody's target
    grads = []
    for loss in (_loss(model, ids, weights, bf16=False), by_hand(model, ids, weights)):
        loss.backward()
        grads.append((loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}))
        model.zero_grad()
    (loss, gradients), (expected, by_name) = grads
    assert torch.allclose(loss, expected, rtol=1e-5)
    assert all(torch.allclose(gradients[name], by_name[name], rtol=1e-3, atol=1e-6) for name in by_name)
    plain = torch.nn.functional.cross_entropy(model(input_ids=ids).logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    assert torch.allclose(_loss(model, ids, torch.full(shape, 0.3), bf16=False), plain, rtol=1e-5)


def test_a_batch_in_which_nothing_counts_teaches_nothing() -> None:
    model = small_model()
    loss = _loss(model, torch.randint(50, (2, 8)), torch.zeros(2, 8), bf16=False)
    loss.backward()
    assert loss == 0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_what_a_token_counts_is_asked_of_every_batch(tmp_path: Path) -> None:
    model, seen = small_model(), []

    def weigh(ids_BT: torch.Tensor) -> torch.Tensor:
        seen.append(ids_BT)
        return ids_BT == 7  # of whatever type

    still = CONFIG.model_copy(
        update={"tokens": 4 * 16, "muon_rate": 0.0, "adamw_rate": 0.0, "warmup": 0.0, "decay": 0.0}
    )
    loss = pretrain(model, repetitive(), still, tmp_path / "run", weigh=weigh)
    (ids,) = seen
    assert ids.shape == (4, 16)
    with torch.no_grad():
        assert loss == pytest.approx(by_hand(model, ids, (ids == 7).float()).item(), rel=1e-5)
        assert loss != pytest.approx(by_hand(model, ids, torch.ones(4, 16)).item(), rel=1e-3)


# --- the weights before the decay


def test_the_weights_at_the_first_step_of_the_decay_are_kept(tmp_path: Path) -> None:
    model, then = small_model(), {}

    def progress(seen: Progress) -> None:
        if seen.step == 7:  # of 12, of which the last 0.4 decay
            then.update({name: p.detach().clone() for name, p in model.named_parameters()})

    pretrain(model, repetitive(), CONFIG, tmp_path / "one" / "checkpoint", progress)
    kept = load_file(tmp_path / "one" / "undecayed" / "model.safetensors")
    assert kept.keys() == then.keys()
    assert all(torch.equal(kept[name], then[name]) for name in then)
    assert any(not torch.equal(kept[name], p) for name, p in model.named_parameters())


@pytest.mark.parametrize("stop", [6, 7, 8])
def test_an_interruption_does_not_change_what_is_kept(tmp_path: Path, stop: int) -> None:
    pretrain(small_model(), repetitive(), CONFIG, tmp_path / "whole" / "checkpoint")
    often = CONFIG.model_copy(update={"save_seconds": 0.0})
    with pytest.raises(Interrupted):
        pretrain(small_model(), repetitive(), often, tmp_path / "halved" / "checkpoint", interrupt_at(stop))
    pretrain(small_model(seed=9), repetitive(), often, tmp_path / "halved" / "checkpoint")
    whole, halved = (load_file(tmp_path / run / "undecayed" / "model.safetensors") for run in ("whole", "halved"))
    assert all(torch.equal(whole[name], halved[name]) for name in whole)


def test_without_a_decay_nothing_is_kept_apart(tmp_path: Path) -> None:
    pretrain(small_model(), repetitive(), CONFIG.model_copy(update={"decay": 0.0}), tmp_path / "checkpoint")
    assert not (tmp_path / "undecayed").exists()


# --- interruptions


@pytest.mark.parametrize("stop", [1, 7, 11])
def test_interrupted_and_resumed_is_bit_identical(tmp_path: Path, stop: int) -> None:
    whole = small_model()
    loss = pretrain(whole, repetitive(), CONFIG, tmp_path / "whole")

    often = CONFIG.model_copy(update={"save_seconds": 0.0})
    with pytest.raises(Interrupted):
        pretrain(small_model(), repetitive(), often, tmp_path / "halved", interrupt_at(stop))
    steps: list[int] = []
    resumed = small_model(seed=9)  # whatever it starts from, the checkpoint decides
    resumed_loss = pretrain(resumed, repetitive(), often, tmp_path / "halved", lambda p: steps.append(p.step))

    assert steps == list(range(stop + 1, 13))
    assert resumed_loss == loss
    for (name, a), b in zip(whole.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_a_finished_run_is_only_read(tmp_path: Path) -> None:
    first, second = small_model(), small_model(seed=1)
    loss = pretrain(first, repetitive(), CONFIG, tmp_path / "run")
    assert pretrain(second, repetitive(), CONFIG, tmp_path / "run", interrupt_at(1)) == loss
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_crash_between_the_renames_loses_nothing(tmp_path: Path) -> None:
    first, second = small_model(), small_model(seed=1)
    loss = pretrain(first, repetitive(), CONFIG, tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "run.old")
    assert pretrain(second, repetitive(), CONFIG, tmp_path / "run") == loss


def test_a_checkpoint_of_another_shape_is_refused(tmp_path: Path) -> None:
    pretrain(small_model(), repetitive(), CONFIG, tmp_path / "run")
    for other in ({"num_hidden_layers": 1}, {"intermediate_size": 48}):
        with pytest.raises(ModelError, match="another shape"):
            pretrain(small_model(**other), repetitive(), CONFIG, tmp_path / "run")


def test_too_little_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="63 tokens"):
        pretrain(small_model(), repetitive(63), CONFIG, tmp_path / "run")


@pytest.mark.parametrize("tied", [True, False])
def test_each_optimiser_has_its_own_parameters(tied: bool) -> None:
    model = small_model(tie_word_embeddings=tied)
    names = {id(p): name for name, p in model.named_parameters()}
    held = {
        kind: [names[id(p)] for group in optimizer.param_groups for p in group["params"]]
        for kind, optimizer in _optimizers(model, CONFIG).items()
    }
    assert sorted(held["muon"] + held["adamw"]) == sorted(names.values())
    assert all(name.startswith("model.layers.") and "proj.weight" in name for name in held["muon"])
    assert len(held["muon"]) == 2 * 7
    assert ("lm_head.weight" in held["adamw"]) is not tied
    assert "model.embed_tokens.weight" in held["adamw"]


def test_every_epoch_reads_every_row_once_in_another_order() -> None:
    config = CONFIG.model_copy(update={"batch": 4})
    drawn = torch.cat([_batch_rows(step, 10, config) for step in range(5)])  # two epochs of ten rows
    first, second = drawn[:10].tolist(), drawn[10:].tolist()
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert (
        first != torch.cat([_batch_rows(s, 10, config.model_copy(update={"seed": 1})) for s in range(5)])[:10].tolist()
    )


def test_the_rate_rises_holds_and_falls() -> None:
    config = TrainConfig(warmup=0.1, decay=0.4)
    shares = [_schedule(done / 100, config) for done in range(101)]
    assert shares[0] == pytest.approx(0.05)
    assert shares[:10] == sorted(shares[:10])
    assert set(shares[10:60]) == {1.0}
    assert shares[60:] == sorted(shares[60:], reverse=True)
    assert shares[80] == pytest.approx(0.5)
    assert shares[100] == pytest.approx(0.0)
