"""A bank of slots: silent at birth, each row its own, written rows alone, handed on to an heir."""

from __future__ import annotations

import pytest
import torch
from conftest import FAMILIES, tiny_lm

from accrete.adapters.slot_bank import SlotBank
from accrete.errors import HistoryError
from accrete.lm import batch
from accrete.lm.decode import Conditioning, generate
from accrete.lm.forced import log_likelihoods
from accrete.lm.prompts import prompt_ids, study_sequence
from accrete.optim.rows import RowAdam

WIDTH = 64  # of the tiny model


def bank(lm=None, slots: int = 8) -> SlotBank:
    return SlotBank(lm or tiny_lm(), slots, 4, (0.5, 0.75))


def rows(lm) -> batch.Batch:
    return batch.collate([study_sequence(lm, f"Who is number {n}?", str(n)) for n in range(3)], pad=lm.pad)


def write(made: SlotBank, slots: list[int | None], steps: int = 2) -> None:
    optimizer = RowAdam(made.parameters(), lr=0.5)
    with made.writing({slot for slot in slots if slot is not None}):
        for _ in range(steps):
            with made.reading(slots):
                loss = made.lm.target_logits(rows(made.lm)).float().logsumexp(-1).mean()
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
            optimizer.step()


def put(made: SlotBank, values: torch.Tensor) -> None:
    """Into slots 1, 2 and 3."""
    made.load_state_dict(
        {"lessons": ["put"]}
        | {f"{i}/put/slots": torch.arange(1, 4) for i in made.mlps}
        | {f"{i}/put/values": values for i in made.mlps}
    )


def held(made: SlotBank) -> list[torch.Tensor]:
    """Layer by layer what every slot holds."""
    return [mlp.table.holds(torch.arange(made.slots)) for mlp in made.mlps.values()]


@pytest.mark.parametrize("family", FAMILIES)
def test_at_birth_no_row_feels_it(family):
    lm = tiny_lm(family)
    before = lm.logits(rows(lm))
    made = bank(lm)
    with made.reading([0, 1, None]):
        assert torch.equal(lm.logits(rows(lm)), before)
    made.remove()
    assert torch.equal(lm.logits(rows(lm)), before)


def test_only_the_slots_that_are_read_are_written_and_only_their_readers_feel_it():
    made = bank()
    before = made.lm.logits(rows(made.lm))
    write(made, [3, 5, None])
    for values in held(made):
        assert [int(row) for row in torch.nonzero(values.abs().sum(1)).flatten()] == [3, 5]
    assert torch.equal(made.lm.logits(rows(made.lm)), before)
    with made.reading([None, 3, 0]):
        now = made.lm.logits(rows(made.lm))
    assert torch.equal(now[0], before[0]) and torch.equal(now[2], before[2]) and not torch.equal(now[1], before[1])
    assert not any(values.requires_grad for values in made.parameters())


def test_rows_read_their_own_slots_while_they_are_written_together():
    """Whichever row ends first, the others keep their slots."""
    made = bank()
    put(made, torch.randn(3, 4 * WIDTH, generator=torch.Generator().manual_seed(1)))
    prompts = [prompt_ids(made.lm, f"Who is number {n}, and why is it so?" * (n + 1)) for n in range(3)]
    reading = made.reading
    beside = [Conditioning(beside=n + 1, reading=reading) for n in range(3)]
    together = generate(made.lm, prompts, 12, conditionings=beside)
    alone = [generate(made.lm, [prompts[n]], 12, conditionings=[beside[n]])[0] for n in range(3)]
    assert together == alone and alone[0] != generate(made.lm, [prompts[0]], 12)[0]


def test_likelihoods_are_those_of_each_row_in_its_slot():
    made = bank()
    write(made, [1, 2, 3])
    sequences = [study_sequence(made.lm, f"Who is number {n}?", str(n)) for n in range(3)]
    reading = made.reading
    beside = [Conditioning(beside=n + 1, reading=reading) for n in range(3)]
    together = log_likelihoods(made.lm, sequences, beside)
    assert together == pytest.approx(
        [log_likelihoods(made.lm, [sequences[n]], [beside[n]])[0] for n in range(3)], abs=1e-4
    )
    assert together != pytest.approx(log_likelihoods(made.lm, sequences), abs=1e-3)


def test_state_goes_and_comes_back_and_a_slot_can_change_hands():
    made = bank()
    write(made, [1, 2, 3])
    made.note("first", [1, 2])
    made.note("second", [3])
    state = made.state_dict()
    assert state["lessons"] == ["first", "second"]
    other = bank()
    other.load_state_dict(state)
    for mine, theirs in zip(held(made), held(other), strict=True):
        assert torch.equal(mine, theirs)
    made.forget("first", {"second": [2]})
    for mine, theirs in zip(held(made), held(other), strict=True):
        assert not mine[1].any() and torch.equal(mine[2:], theirs[2:])
    assert made.state_dict()["lessons"] == ["second"]
    with pytest.raises(HistoryError, match="another shape"):
        SlotBank(tiny_lm(), 8, 2, (0.5, 0.75)).load_state_dict(state)
    with pytest.raises(HistoryError, match=r"--set layers=(.*) opens them") as refused:
        SlotBank(tiny_lm(), 8, 4, (0.0,)).load_state_dict(state)
    depths = str(refused.value).split("layers=")[1].split(" ")[0].split(",")
    SlotBank(tiny_lm(), 8, 4, [float(depth) for depth in depths]).load_state_dict(state)
    with pytest.raises(HistoryError, match="are missing"):
        bank().load_state_dict({name: found for name, found in state.items() if "first/values" not in name})
    with pytest.raises(HistoryError, match="slots that this bank has not"):
        bank(slots=3).load_state_dict(state)
