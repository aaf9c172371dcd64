"""Which pairs are worth studying: each reason alone, the fair choice between many, and what a restatement must hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accrete.dreams.keep import choose, marks, restates, settle, why_not
from accrete.types import Example


def pair(question: str, answer: str) -> Example:
    return Example(question, answer)


def kept(*pairs: Example, per_fact: int = 3, most: int = 40) -> list[tuple[str, str]]:
    return [(p.question, p.answer) for p in choose(SAYS, pairs, per_fact=per_fact, most=most).pairs]


SAYS = "Quorv's works, Brota, 1871, 46,700 people, Edda Kolm, Ragna and Ull."
GOOD = pair("Who leads the works of Quorv?", "Edda Kolm")


@pytest.mark.parametrize(
    ("question", "answer", "reason"),
    [
        ("", "Edda", "empty"),
        ("?!", "Edda", "empty"),
        ("Who leads Quorv?", "...", "empty"),
        ("Who leads Quorv?", "Not stated.", "not stated"),
        ("Who leads Quorv? " * 20, "Edda", "too long"),
        ("Who leads Quorv?", "word " * 50, "too long"),
        ("Does Edda Kolm lead Quorv?", "edda kolm", "answer in the question"),
        ("Who leads it?", "Edda", "unclear"),
        ("What is its motto?", "silk", "unclear"),
        ("What does the passage say about Quorv?", "little", "unclear"),
        ("What is the text about?", "Quorv", "unclear"),
        ("Who is the author of the Vale?", "Edda", ""),
        ("Which town is known for its silk?", "Quorv", ""),
        ("Who leads it, Quorv or Brota?", "both", ""),
        ("How many people live in Quorv?", "46,700 inhabitants", ""),
        ("In 1871, who led it?", "Edda", ""),
    ],
)
def test_every_reason_alone(question: str, answer: str, reason: str) -> None:
    assert why_not(pair(question, answer)) == reason


def test_a_pair_written_twice_counts_once() -> None:
    chosen = choose(SAYS, [GOOD, pair("who leads the works of quorv", "Edda Kolm.")], per_fact=3, most=9)
    assert chosen.pairs == [GOOD] and not chosen.left_out


@pytest.mark.parametrize(
    ("question", "answer", "whole"),
    [
        ("Who leads Quorv?", "the first Edda", True),
        ("Who leads QUORV's works?", "a woman", True),
        ("Who leads Vale?", "Edda", False),
        ("Who leads Quorv?", "Edda Vale", False),
        ("How many live in Brota?", "46,700 people", True),
        ("How many live in Brota?", "46,800 people", False),
        ("Who led Quorv in 1872?", "Edda", False),
    ],
)
def test_names_and_numbers_are_those_of_the_passage(question: str, answer: str, whole: bool) -> None:
    chosen = choose(SAYS, [pair(question, answer)], per_fact=3, most=9)
    assert bool(chosen.pairs) is whole and chosen.left_out == ({} if whole else {"made up": 1})


def test_of_two_answers_the_one_written_more_often_counts() -> None:
    other = pair(GOOD.question, "Ragna")
    assert kept(other, GOOD, GOOD) == [(GOOD.question, "Edda Kolm")]
    assert kept(other, GOOD) == [(GOOD.question, "Ragna")], "the first of equals"
    assert choose(SAYS, [other, GOOD, GOOD], per_fact=3, most=9).left_out == {"outvoted": 1}


def test_a_fact_keeps_a_few_questions_that_differ() -> None:
    same = [
        pair("What is the population of Brota?", "46,700"),
        pair("What is the whole population of Brota?", "46,700"),
        pair("How many people live in Brota?", "46,700"),
    ]
    assert [question for question, _ in kept(*same, per_fact=2)] == [same[0].question, same[2].question]
    assert len(kept(*same, per_fact=1)) == 1


def test_questions_all_but_equal_are_one_even_where_there_is_room() -> None:
    long = "What was the name of the man who in the end led the great works of Quorv"
    chosen = choose(SAYS, [pair(long + "?", "Edda"), pair(long + " then?", "Edda")], per_fact=5, most=9)
    assert len(chosen.pairs) == 1 and chosen.left_out == {"alike": 1}


def test_facts_of_one_answer_are_told_apart_by_names_and_numbers() -> None:
    asked = ["Who leads Quorv?", "Who leads Brota?", "Who was born in 1871?"]
    assert len(kept(*(pair(question, "Edda") for question in asked), per_fact=1)) == 3


def test_every_fact_keeps_its_first_before_any_its_second() -> None:
    pairs = [pair(q, "Edda") for q in ("Who leads Quorv?", "What is the name of the head of Quorv?")]
    pairs += [pair("Where does Quorv lie?", "by a spring")]
    assert [answer for _, answer in kept(*pairs, most=2)] == ["Edda", "by a spring"]
    assert choose(SAYS, pairs, per_fact=3, most=2).left_out == {"too many": 1}


@given(
    st.lists(st.tuples(st.sampled_from(["Who?", "Who leads Quorv?", "it", "A 7?"]), st.sampled_from(["", "x", "y"])))
)
def test_what_was_written_is_kept_or_left_out(written: list[tuple[str, str]]) -> None:
    chosen = choose("Quorv 7", [pair(*row) for row in written], per_fact=1, most=2)
    assert len(chosen.pairs) + sum(chosen.left_out.values()) == len({(q, a) for q, a in written})
    assert all(count > 0 for count in chosen.left_out.values())


def test_a_question_that_two_passages_answer_differently_goes() -> None:
    other, third = pair(GOOD.question, "Ragna"), pair("Who else leads Quorv?", "Ull")
    settled = settle([[GOOD, third], [other], []])
    assert settled.pairs == [third] and sum(settled.left_out.values()) == 2
    assert settle([[GOOD], [GOOD]]).pairs == [GOOD] and settle([[GOOD], [GOOD]]).left_out == {"known": 1}


@pytest.mark.parametrize(
    ("other", "may"),
    [
        ("Edda Kolm built it in 1871.", True),
        ("It was built in 1871 by Edda Kolm.", False),
        ("Edda Kolm built it.", False),
        ("Edda Kolm built it in 1872.", False),
        ("Edda Kolm built it in Quorv in 1871.", False),
        ("", False),
        ("Edda Kolm built it in 1871 " + "and so on " * 20, False),
    ],
)
def test_a_restatement_has_the_names_and_numbers_and_no_others(other: str, may: bool) -> None:
    assert restates("It was built in 1871 by Edda Kolm.", other) is may


def test_marks_are_numbers_and_names_within_a_sentence() -> None:
    assert marks("Where did Edda's ship lie in 1,871? Nobody knows (Ünal).") == {"Edda", "1,871", "Ünal"}
    assert marks("Who leads it? Where?") == marks("") == frozenset()
