"""Grading answers: SQuAD's rules, and what each measure says at its edges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accrete.scoring import contains, exact_match, grade, normalise, token_f1

MEASURES = (exact_match, token_f1, contains)
WORDS = st.lists(
    st.sampled_from(["clock", "Clock", "the", "a", "red", "river", "12", "12,", ".", "Ä"]), max_size=8
).map(" ".join)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Brialtem works.", "brialtem works"),
        ("a an the", ""),
        ("A theatre, an anthem", "theatre anthem"),
        ("1,200 tonnes!", "1200 tonnes"),
        ("Ängström's\n café ", "ängströms café"),
        ("", ""),
    ],
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected


@given(WORDS)
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@pytest.mark.parametrize(
    ("answer", "truth", "exact", "f1", "inside"),
    [
        ("Dirsta Lo", "dirsta lo.", 1, 1, 1),
        ("It is Dirsta Lo.", "Dirsta Lo", 0, 2 * 2 / (4 + 2), 1),
        ("Dirsta", "Dirsta Lo", 0, 2 / 3, 0),
        ("Lo Dirsta", "Dirsta Lo", 0, 1, 0),
        ("red red red", "red", 0, 2 * 1 / (3 + 1), 1),
        ("redwood", "red", 0, 0, 0),
        ("1984", "198", 0, 0, 0),
        ("", "red", 0, 0, 0),
        ("red", "", 0, 0, 0),
        ("", "", 1, 1, 1),
        ("the", "", 1, 1, 1),
    ],
)
def test_measures(answer: str, truth: str, exact: float, f1: float, inside: float) -> None:
    assert exact_match(answer, truth) == exact
    assert token_f1(answer, truth) == pytest.approx(f1)
    assert contains(answer, truth) == inside


@given(WORDS, WORDS)
def test_measures_stay_between_0_and_1_and_know_themselves(one: str, other: str) -> None:
    for measure in MEASURES:
        assert 0 <= measure(one, other) <= 1
        assert measure(one, one) == 1
    assert token_f1(one, other) == token_f1(other, one)
    assert exact_match(one, other) <= min(token_f1(one, other), contains(one, other))


def test_grade_takes_the_best_truth() -> None:
    assert grade("It is red.", ["blue", "red"]) == 1
    assert grade("It is red.", ["blue"]) == 0
    assert grade("It is red.", []) == 0


def test_a_sentence_is_graded_by_overlap_and_a_name_is_not() -> None:
    sentence = "salt and tea came over the river"  # seven words, six of them after normalising
    assert grade("salt came over", [sentence]) == pytest.approx(2 * 3 / (3 + 6))
    assert grade("salt came over", ["salt and tea came over it"]) == 0
