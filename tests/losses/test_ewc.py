"""EWC: the Fisher is that of single examples under the model's own labels, and the penalty holds where it says."""

from __future__ import annotations

import pytest
import torch
from conftest import tiny_lm
from torch import nn
from torch.nn import functional

from accrete.errors import HistoryError
from accrete.lm.batch import Sequence, collate
from accrete.lm.model import LM
from accrete.losses.ewc import EWC

SEQUENCES = [
    Sequence((5, 900, 31, 44, 8), target_from=2),
    Sequence((7, 8, 9)),
    Sequence((12, 30, 31, 900, 17, 6), target_from=5),
]


def ewc(weight: float = 1.0, decay: float = 0.9, seed: int = 7) -> EWC:
    return EWC(weight, decay, torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def lm() -> LM:
    return tiny_lm(layers=1)


@pytest.fixture
def parameters(lm: LM) -> dict[str, nn.Parameter]:
    chosen = {n: p for n, p in lm.model.named_parameters() if n.endswith(("norm.weight", "k_proj.weight"))}
    before = {name: parameter.detach().clone() for name, parameter in chosen.items()}
    for parameter in chosen.values():
        parameter.requires_grad_(True)
    yield chosen
    for name, parameter in chosen.items():
        parameter.data.copy_(before[name])
        parameter.requires_grad_(False)
        parameter.grad = None


def gradients_by_hand(lm: LM, parameters, seed: int = 7) -> list[dict[str, torch.Tensor]]:
    """Of every example by itself: the gradient of the log-likelihood of labels drawn from the model."""
    generator, found = torch.Generator().manual_seed(seed), []
    for sequence in SEQUENCES:
        lm.model.zero_grad()
        output_TV = lm.logits(collate([sequence]))[0]
        asked = output_TV[max(1, sequence.target_from) - 1 : len(sequence.ids) - 1]
        labels = torch.multinomial(asked.detach().softmax(-1), 1, generator=generator)[:, 0]
        (-functional.cross_entropy(asked, labels, reduction="sum")).backward()
        found.append({name: parameter.grad.clone() for name, parameter in parameters.items()})
    return found


# --- the Fisher -----------------------------------------------------------------------------------------------------


def test_the_fisher_is_the_mean_of_the_squared_gradients_of_single_examples(lm, parameters) -> None:
    by_hand = gradients_by_hand(lm, parameters)
    anchor = ewc()
    anchor.consolidate(lm, parameters, SEQUENCES)
    assert anchor.fisher.keys() == parameters.keys()
    for name, fisher in anchor.fisher.items():
        mean_of_squares = sum(g[name] ** 2 for g in by_hand) / len(by_hand)
        square_of_mean = (sum(g[name] for g in by_hand) / len(by_hand)) ** 2
        torch.testing.assert_close(fisher, mean_of_squares, rtol=1e-3, atol=1e-9)
        assert float((fisher - square_of_mean).norm() / fisher.norm()) > 0.2
        assert float(fisher.min()) >= 0 < float(fisher.max())


def test_its_labels_are_the_models_own(lm, parameters) -> None:
    """The last token of a sequence is a label only: what stands there in the data must not count."""
    one, other = ewc(), ewc()
    one.consolidate(lm, parameters, [Sequence((5, 900, 31, 44))])
    other.consolidate(lm, parameters, [Sequence((5, 900, 31, 45))])
    assert all(torch.equal(fisher, other.fisher[name]) for name, fisher in one.fisher.items())
    redrawn = ewc(seed=8)
    redrawn.consolidate(lm, parameters, [Sequence((5, 900, 31, 44))])
    assert not all(torch.equal(fisher, redrawn.fisher[name]) for name, fisher in one.fisher.items())


def test_only_targets_count(lm, parameters) -> None:
    """With one target the Fisher is that of one prediction: smaller than that of all of them."""
    whole, part = ewc(), ewc()
    whole.consolidate(lm, parameters, [Sequence((5, 900, 31, 44, 8))])
    part.consolidate(lm, parameters, [Sequence((5, 900, 31, 44, 8), target_from=4)])
    assert all(float(fisher.sum()) < float(whole.fisher[name].sum()) for name, fisher in part.fisher.items())


def test_consolidating_changes_no_weight_and_leaves_no_gradient(lm, parameters) -> None:
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    anchor = ewc()
    anchor.consolidate(lm, parameters, SEQUENCES)
    assert all(torch.equal(parameter, before[name]) for name, parameter in parameters.items())
    assert all(parameter.grad is None for parameter in parameters.values())
    assert all(not t.requires_grad for t in (*anchor.fisher.values(), *anchor.anchor.values()))


def test_the_fisher_decays_online_and_the_anchor_moves(lm, parameters) -> None:
    anchor, second = ewc(decay=0.25), ewc()
    anchor.consolidate(lm, parameters, SEQUENCES)
    first = {name: fisher.clone() for name, fisher in anchor.fisher.items()}
    with torch.no_grad():
        for parameter in parameters.values():
            parameter += 0.1
    second.generator.set_state(anchor.generator.get_state())
    second.consolidate(lm, parameters, SEQUENCES)
    anchor.consolidate(lm, parameters, SEQUENCES)
    for name, parameter in parameters.items():
        torch.testing.assert_close(anchor.fisher[name], 0.25 * first[name] + second.fisher[name])
        assert torch.equal(anchor.anchor[name], parameter)


# --- the penalty ----------------------------------------------------------------------------------------------------


def held(weight: float = 3.0) -> tuple[EWC, dict[str, nn.Parameter], dict[str, torch.Tensor]]:
    """A penalty on two small parameters in double precision, and a direction away from the anchor."""
    generator = torch.Generator().manual_seed(0)
    parameters = {n: nn.Parameter(torch.randn(3, 2, generator=generator, dtype=torch.float64)) for n in ("a", "b")}
    anchor = ewc(weight)
    anchor.fisher = {n: torch.rand(3, 2, generator=generator, dtype=torch.float64) for n in parameters}
    anchor.anchor = {n: p.detach().clone() for n, p in parameters.items()}
    anchor.guard(parameters)
    return anchor, parameters, {n: torch.randn(3, 2, generator=generator, dtype=torch.float64) for n in parameters}


def move(parameters, direction, length: float) -> None:
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter += length * direction[name]


def test_it_is_zero_at_the_anchor_and_quadratic_away_from_it() -> None:
    anchor, parameters, direction = held(weight=3.0)
    assert float(anchor.penalty().detach()) == 0
    by_hand = 1.5 * sum(float((anchor.fisher[n] * direction[n] ** 2).sum()) for n in parameters)
    for length, factor in ((1.0, 1.0), (1.0, 4.0), (-4.0, 4.0)):  # at 1, at 2 and at -2
        move(parameters, direction, length)
        assert float(anchor.penalty().detach()) == pytest.approx(factor * by_hand, rel=1e-9)
    assert by_hand > 0.1


def test_its_gradient_is_that_of_finite_differences() -> None:
    anchor, parameters, direction = held()
    move(parameters, direction, 0.7)
    anchor.penalty().backward()
    for parameter in parameters.values():
        for place in ((0, 0), (2, 1)):
            values = []
            for step in (1e-4, -2e-4):
                with torch.no_grad():
                    parameter[place] += step
                values.append(float(anchor.penalty().detach()))
            with torch.no_grad():
                parameter[place] += 1e-4
            assert float(parameter.grad[place]) == pytest.approx((values[0] - values[1]) / 2e-4, rel=1e-6)


def test_what_was_never_consolidated_is_free() -> None:
    anchor, parameters, direction = held()
    new = nn.Parameter(torch.zeros(4))
    anchor.guard({"new": new})
    move(parameters, direction, 1.0)
    assert float(anchor.penalty().detach()) == 0
    anchor.guard({"new": new, "a": parameters["a"]})
    alone = 1.5 * float((anchor.fisher["a"] * direction["a"] ** 2).sum())
    assert float(anchor.penalty().detach()) == pytest.approx(alone, rel=1e-9)
    anchor.forget(["a", "never known"])
    anchor.guard(parameters)
    assert float(anchor.penalty().detach()) == pytest.approx(
        1.5 * float((anchor.fisher["b"] * direction["b"] ** 2).sum())
    )


def test_as_a_loss_it_is_the_penalty(lm) -> None:
    anchor, parameters, direction = held()
    move(parameters, direction, 1.0)
    batch = collate([Sequence((1, 2, 3))])
    assert float(anchor(lm, batch, torch.zeros(1, 3, 5)).detach()) == float(anchor.penalty().detach())
    assert float(ewc()(lm, batch, torch.zeros(1, 3, 5))) == 0


# --- state ----------------------------------------------------------------------------------------------------------


def test_state_comes_back(lm, parameters) -> None:
    anchor = ewc()
    assert anchor.state_dict() == {}
    anchor.consolidate(lm, parameters, SEQUENCES)
    state = {key: tensor.clone() for key, tensor in anchor.state_dict().items()}
    again = ewc()
    again.load_state_dict(state)
    for one in (anchor, again):
        one.guard(parameters)
    with torch.no_grad():
        for parameter in parameters.values():
            parameter += 0.3
    assert float(again.penalty().detach()) == float(anchor.penalty().detach()) > 0
    state[next(iter(state))].zero_()
    assert float(again.penalty().detach()) == float(anchor.penalty().detach()), (
        "it shares no tensor with what it was loaded from"
    )
    again.load_state_dict({})
    again.guard(parameters)
    assert float(again.penalty().detach()) == 0 and again.state_dict() == {}


def test_a_state_that_is_none_is_refused() -> None:
    with pytest.raises(HistoryError, match='"weight/a" is unknown'):
        ewc().load_state_dict({"weight/a": torch.zeros(2)})


def test_a_loaded_state_follows_the_parameters_to_their_device() -> None:
    """A journal gives tensors on the CPU. The meta device stands in for an accelerator: mixing the two raises there too."""
    anchor, parameter = ewc(), nn.Parameter(torch.zeros(3, device="meta"))
    anchor.load_state_dict({"fisher/p": torch.ones(3), "anchor/p": torch.zeros(3)})
    anchor.guard({"p": parameter})
    assert anchor.penalty().device.type == "meta"
