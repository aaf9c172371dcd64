"""The gate by slots: its scores are those of the papers, computed by hand, and only the chosen rows are open."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from accrete.errors import HistoryError
from accrete.gates.slots import SlotGate, usage

SLOTS = 9


def gate(selection="kl", most=2, background=((0, 0, 1), (0, 2), (0, 0, 0, 3))) -> SlotGate:
    made = SlotGate(SLOTS, selection, most, torch.Generator().manual_seed(0))
    for reads in background:
        made.note({5: torch.tensor([reads])})
    return made


def test_tfidf_is_that_of_the_paper():
    rows, counts = torch.tensor([0, 1, 4]), torch.tensor([6, 2, 4])
    found = gate("tfidf").scores(5, counts, rows)
    by_hand = [6 / 12 * math.log(4 / (3 + 1)), 2 / 12 * math.log(4 / (1 + 1)), 4 / 12 * math.log(4 / (0 + 1))]
    assert found.tolist() == pytest.approx(by_hand, abs=1e-6)


def test_kl_is_that_of_the_paper():
    rows, counts = torch.tensor([0, 1, 4]), torch.tensor([6, 2, 4])
    found = gate("kl").scores(5, counts, rows)
    total = 9 + SLOTS  # nine background reads, and one more for every slot
    share = [(6 + 1) / total, (1 + 1) / total, (0 + 1) / total]
    by_hand = [p * math.log(p / q) for p, q in zip((6 / 12, 2 / 12, 4 / 12), share, strict=True)]
    assert sum((n + 1) / total for n in (6, 1, 1, 1, 0, 0, 0, 0, 0)) == pytest.approx(1)
    assert found.tolist() == pytest.approx(by_hand, abs=1e-6)


@pytest.mark.parametrize(("selection", "expected"), [("tfidf", [1, 4]), ("kl", [0, 4]), ("all", [0, 1, 4])])
def test_the_highest_scores_are_open(selection, expected):
    reads = torch.tensor([0] * 6 + [1] * 2 + [4] * 4)
    assert gate(selection).open(5, reads).tolist() == expected


def test_chance_follows_the_generator_and_opens_what_is_read():
    reads = torch.arange(9)
    one, other = (gate("random", most=4).open(5, reads) for _ in range(2))
    assert torch.equal(one, other) and len(one) == 4
    again = gate("random", most=4)
    assert len({tuple(again.open(5, reads).tolist()) for _ in range(20)}) > 1


@given(
    st.sampled_from(["tfidf", "kl", "random", "all"]),
    st.integers(1, 12),
    st.lists(st.integers(0, SLOTS - 1), min_size=1, max_size=60),
)
def test_what_is_open_is_read_sorted_and_no_more_than_t(selection, most, reads):
    found = gate(selection, most).open(5, torch.tensor(reads)).tolist()
    assert found == sorted(set(found)) and set(found) <= set(reads)
    assert len(found) == (len(set(reads)) if selection == "all" else min(most, len(set(reads))))


def test_a_layer_that_was_never_seen_goes_by_its_own_reads():
    assert gate("kl").open(6, torch.tensor([3, 3, 3, 1, 1, 8])).tolist() == [1, 3]


def lesson(*texts: list[int]) -> list[dict[int, torch.Tensor]]:
    return [{5: torch.tensor(reads)} for reads in texts]


@pytest.mark.parametrize(
    ("selection", "scores"),
    [
        # of slot 1 the background has 2 of 18; of the lesson's eight reads it has four, which is more
        ("kl", [6 / 12 * math.log((6 / 12) / (7 / 18)), 2 / 12 * math.log((2 / 12) / (4 / 8)), 4 / 12 * math.log(6)]),
        # the background reads slots 0 and 1 in three and one of three batches, the lesson slot 1 in both of its texts
        ("tfidf", [0.0, 0.0, 4 / 12 * math.log(4)]),
    ],
)
def test_every_earlier_lesson_is_a_background_and_the_least_surprise_counts(selection, scores):
    made = gate(selection)
    made.remember("a", lesson([1, 1, 2, 3], [1, 1, 3, 3]))
    rows, counts = torch.tensor([0, 1, 4]), torch.tensor([6, 2, 4])
    assert made.scores(5, counts, rows).tolist() == pytest.approx(scores, abs=1e-6)


@pytest.mark.parametrize("selection", ["kl", "tfidf"])
def test_a_lesson_protects_what_it_reads_however_many_come_after_it(selection):
    reads = torch.tensor([4, 4, 4, 8])
    made = gate(selection, most=1)
    assert made.open(5, reads).tolist() == [4]
    made.remember("a", lesson([4, 4, 4], [4, 4]))
    for number in range(50):
        made.remember(str(number), lesson([6, 7], [6, 7]))
    assert made.open(5, reads).tolist() == [8]
    made.drop("a")
    assert made.open(5, reads).tolist() == [4]


@pytest.mark.parametrize("selection", ["kl", "tfidf"])
def test_texts_beside_are_background_as_long_as_they_are_there(selection):
    made, reads = gate(selection, most=1), torch.tensor([4, 4, 4, 8])
    with made.beside(lesson([4, 4, 4], [4, 4])):
        assert made.open(5, reads).tolist() == [8]
    assert made.open(5, reads).tolist() == [4] and not made.lessons
    with made.beside([]):
        assert made.open(5, reads).tolist() == [4]
    with pytest.raises(ZeroDivisionError), made.beside(lesson([4])):
        raise ZeroDivisionError
    assert not made.lessons


def test_state_comes_back_and_another_size_is_refused():
    made, other = gate(), gate(background=())
    made.remember("a/b", lesson([4, 4, 8]))
    other.load_state_dict(made.state_dict())
    assert other.batches == 3 and other.totals == {5: 9}
    for name, value in made.state_dict().items():
        held = other.state_dict()[name]
        assert torch.equal(held, value) if torch.is_tensor(value) else held == value
    assert made.state_dict()["5/rows"].tolist() == [0, 1, 2, 3]
    assert other.open(5, torch.tensor([0, 4, 4, 8])).tolist() == made.open(5, torch.tensor([0, 4, 4, 8])).tolist()
    with pytest.raises(HistoryError, match="another size"):
        SlotGate(16, "kl", 2, torch.Generator()).load_state_dict(made.state_dict())
    for name in set(made.state_dict()) - {"slots"}:  # a part of it is lost
        broken = {key: value for key, value in made.state_dict().items() if key != name}
        if name not in ("5/rows", "a/b/5/slots"):  # without these nobody knows that there was more
            with pytest.raises(HistoryError, match="not whole"):
                other.load_state_dict(broken)
    made.reset()
    assert made.state_dict()["a/b/5/slots"].tolist() == [4, 8]
    made.drop("a/b")
    assert made.state_dict() == {"batches": 0, "slots": SLOTS, "lessons": []}


@pytest.mark.parametrize("selection", ["kl", "tfidf"])
def test_lessons_that_another_selection_remembered_count_as_its_own(selection):
    """--set selection=... in a home that was taught: TF-IDF counts texts, KL counts reads."""
    texts = lesson([1, 1, 2, 3], [1, 1, 3, 3])
    own, other = gate(selection), gate("kl" if selection == "tfidf" else "tfidf")
    own.remember("a", texts)
    other.remember("a", texts)
    taken = gate(selection)
    taken.load_state_dict(other.state_dict())
    rows, counts = torch.tensor([0, 1, 3, 4]), torch.tensor([6, 2, 2, 4])
    assert taken.scores(5, counts, rows).tolist() == own.scores(5, counts, rows).tolist()


def test_a_state_stays_as_it_was_saved_while_counting_goes_on():
    made = gate()
    state = made.state_dict()
    made.note({5: torch.tensor([0, 7])})
    assert state["5/rows"].tolist() == [0, 1, 2, 3] and state["5/reads"].tolist() == [6, 1, 1, 1]


def test_usage_knows_even_reads_from_hubs():
    even = usage(torch.arange(400), 400)
    assert even == {"top_1_percent": pytest.approx(0.01), "entropy": pytest.approx(1.0), "never_read": 0.0}
    hubs = usage(torch.cat([torch.zeros(99, dtype=torch.long), torch.tensor([7])]), 400)
    assert (
        hubs["top_1_percent"] == pytest.approx(1.0)
        and hubs["entropy"] < 0.02
        and hubs["never_read"] == pytest.approx(0.995)
    )
