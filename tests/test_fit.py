"""The training loop: it learns, a kept prefix changes nothing, and a broken loss stops it."""

from __future__ import annotations

import inspect

import pytest
import torch
from conftest import tiny_lm

from accrete.adapters.full import FullAdapter
from accrete.errors import AccreteError
from accrete.fit import fit
from accrete.gates.entries import EntryGate
from accrete.lm.batch import Batch, Sequence, collate
from accrete.lm.model import LM
from accrete.losses.next_token import next_token

TEXTS = [Sequence((5, 900, 31, 44, 8, 120)), Sequence((7, 8, 9, 10), target_from=2), Sequence((50, 60, 70, 80, 90))]


def batches(steps: int) -> list[Batch]:
    """Of changing composition, every text again and again."""
    return [collate([TEXTS[i % 3], TEXTS[(i // 2 + 1) % 3]]) for i in range(steps)]


def late(lm: LM) -> list[torch.nn.Parameter]:
    """Everything from the last quarter on, trainable."""
    last = lm.anatomy.last_quarter
    found = [*lm.anatomy.layers[last:].parameters(), *lm.anatomy.final_norm.parameters(), *lm.anatomy.head.parameters()]
    for parameter in found:
        parameter.requires_grad_(True)
    return found


def adamw(parameters: list[torch.nn.Parameter], rate: float = 3e-3) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=rate)


def test_the_loss_falls() -> None:
    lm, seen = tiny_lm(layers=2), []
    adapter = FullAdapter(lm)
    report = fit(
        lm,
        iter(batches(30)),
        losses=[next_token],
        optimizer=adamw(adapter.parameters()),
        progress=lambda step, loss: seen.append((step, loss)),
    )
    assert report.steps == 30
    assert report.tokens == sum(batch.targets for batch in batches(30))
    assert report.loss_after < 0.2 * report.loss_before
    assert [step for step, _ in seen] == list(range(1, 31))
    assert (seen[0][1], seen[-1][1]) == (report.loss_before, report.loss_after)
    assert lm.mean_loss(TEXTS) < 0.2 * report.loss_before
    assert all(parameter.grad is None for parameter in adapter.parameters())


def test_short_rows_are_trained_with_plain_attention_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels are the same again afterwards, and those of long rows."""

    def kernels() -> tuple[bool, ...]:
        return torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.math_sdp_enabled()

    def seen(longest: int) -> tuple[bool, ...]:
        monkeypatch.setattr("accrete.fit.SHORT", longest)
        lm, found = tiny_lm(layers=1), []

        def loss(*given):
            found.append(kernels())
            return next_token(*given)

        fit(lm, batches(1), losses=[loss], optimizer=adamw(FullAdapter(lm).parameters()))
        return found[0]

    assert kernels() == (True, True)
    assert seen(longest=6) == (False, True) and seen(longest=5) == (True, True) == kernels()


def test_a_kept_prefix_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    results, calls = [], []
    for reuse in (True, False):
        lm = tiny_lm(layers=4)
        embedding = lm.anatomy.embedding.weight.clone()
        prefix = lm.prefix
        monkeypatch.setattr(
            lm, "prefix", lambda batch, layer, prefix=prefix: calls.append(layer) or prefix(batch, layer)
        )
        first = lm.anatomy.last_quarter if reuse else 0
        # SGD: where a gradient is nothing but rounding, as on a key's bias, Adam would blow it up to a full step.
        report = fit(
            lm,
            batches(12),
            losses=[next_token],
            optimizer=torch.optim.SGD(late(lm), lr=0.3, momentum=0.5),
            first_layer=first,
        )
        assert torch.equal(lm.anatomy.embedding.weight, embedding)
        results.append((report, [p.detach().clone() for p in lm.model.parameters()]))
    (with_reuse, weights), (without, expected) = results
    assert with_reuse.loss_after == pytest.approx(without.loss_after, rel=1e-3)
    assert without.loss_after < 0.95 * without.loss_before
    assert (with_reuse.steps, with_reuse.tokens) == (without.steps, without.tokens)
    for a, b in zip(weights, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)
    assert calls == [3, 3]  # once for the first two texts, once for the third; never without reuse


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops(value: float) -> None:
    lm = tiny_lm(layers=1)
    adapter = FullAdapter(lm)

    def bad(lm: LM, batch: Batch, output: torch.Tensor) -> torch.Tensor:
        return output.sum() * value

    with pytest.raises(AccreteError, match=f"{value} after 0 steps"):
        fit(lm, batches(2), losses=[next_token, bad], optimizer=adamw(adapter.parameters()))
    assert adapter.state_dict() == {}


def test_the_gate_takes_the_steps() -> None:
    lm, taken = tiny_lm(layers=1), []
    weight = FullAdapter(lm)._parameters["lm_head.weight"]
    before = weight.detach().clone()
    mask = torch.zeros_like(weight, dtype=torch.bool)
    mask[:100] = True

    class Counting(EntryGate):
        def step(self, optimizer: torch.optim.Optimizer) -> None:
            taken.append(optimizer)
            super().step(optimizer)

    optimizer = adamw([weight])
    fit(lm, batches(3), losses=[next_token], optimizer=optimizer, gate=Counting({weight: mask}))
    assert taken == [optimizer] * 3
    assert torch.equal(weight[100:], before[100:])
    assert not torch.equal(weight[:100], before[:100])


def test_losses_add_up_and_the_first_is_reported() -> None:
    def gradient(count: int) -> tuple[torch.Tensor, float]:
        lm = tiny_lm(layers=1)
        weight = FullAdapter(lm)._parameters["lm_head.weight"]
        before = weight.detach().clone()
        optimizer = torch.optim.SGD([weight], lr=1.0)
        report = fit(lm, batches(1), losses=[next_token] * count, optimizer=optimizer, clip=0.0)
        return weight.detach() - before, report.loss_before

    (once, loss), (twice, same) = gradient(1), gradient(2)
    torch.testing.assert_close(twice, 2 * once, atol=1e-6, rtol=1e-4)
    assert loss == same


@pytest.mark.parametrize("clip", [0.0, 0.01])
def test_gradients_are_clipped(clip: float) -> None:
    lm = tiny_lm(layers=1)
    adapter = FullAdapter(lm)
    before = [p.detach().clone() for p in adapter.parameters()]
    optimizer = torch.optim.SGD(adapter.parameters(), lr=1.0)
    fit(lm, batches(1), losses=[next_token], optimizer=optimizer, clip=clip)
    moved = torch.stack([(p - b).norm() for p, b in zip(adapter.parameters(), before, strict=True)]).detach().norm()
    assert float(moved) == pytest.approx(0.01, rel=0.01) if clip else float(moved) > 0.1


def test_nothing_to_learn_from() -> None:
    lm = tiny_lm(layers=1)
    report = fit(lm, [], losses=[next_token], optimizer=adamw(FullAdapter(lm).parameters()))
    assert (report.steps, report.tokens, report.loss_before, report.loss_after) == (0, 0, None, None)


def test_it_stays_one_screen() -> None:
    assert len(inspect.getsource(fit).splitlines()) <= 80
