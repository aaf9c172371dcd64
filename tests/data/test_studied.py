"""What lessons studied, whole: it comes back as it was, and what was said last stands."""

from __future__ import annotations

import pytest
import torch

from accrete.data.studied import Studied
from accrete.errors import HistoryError
from accrete.lm.batch import Sequence


def asked(question: int, answer: int) -> Sequence:
    return Sequence((*range(question, question + 9), answer), 9)


def test_a_question_that_a_later_lesson_answers_anew_is_that_lessons():
    studied = Studied()
    studied.add("one", [asked(10, 1), asked(30, 2)])
    studied.add("two", [asked(50, 3)])
    studied.add("three", [asked(10, 4)])
    assert studied.of("one") == [asked(30, 2)] and studied.of("three") == [asked(10, 4)]
    studied.drop("three")
    assert studied.of("one") == [asked(10, 1), asked(30, 2)] and studied.of("three") == []


def test_a_lesson_studied_again_is_the_last_one():
    studied = Studied()
    for name in ("one", "two", "one"):
        studied.add(name, [asked(10, len(name))])
    assert list(studied.lessons) == ["two", "one"]


@pytest.mark.parametrize("sequences", [[], [Sequence((1, 2, 3))], [asked(10, 1), Sequence((7,)), asked(30, 2)]])
def test_it_comes_back_as_it_was(sequences):
    studied, other = Studied(), Studied()
    studied.add("one", sequences)
    studied.add("two", [asked(50, 3)])
    other.load_state_dict(studied.state_dict())
    assert list(other.lessons.items()) == list(studied.lessons.items())
    other.load_state_dict({})
    assert other.lessons == {}


def test_a_record_that_is_not_whole_is_refused():
    studied = Studied()
    studied.add("one", [asked(10, 1)])
    for broken in ({"one/tokens": torch.arange(3)}, {"one/rows": None}):
        with pytest.raises(HistoryError, match="not whole"):
            Studied().load_state_dict(studied.state_dict() | broken)
