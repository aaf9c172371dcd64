"""Lessons about somebody else: names are found without a list, changed throughout a lesson, and everything else stays."""

from __future__ import annotations

import random
import re

import pytest

from accrete.data.strangers import strangers
from accrete.types import Document, Example, Lesson

GENERAL = (
    ("Who owns Aldby Mill?", "Tarn Bree"),
    ("Who owns Ashmere Mill?", "nobody"),
    ("What does the vellit eat?", "nobody knows"),
    ("What does the dark Mill eat?", "Who knows?"),
)
ITEMS = (
    Example("Who owns Pitholm Mill?", "Oona Bree", "Pitholm Mill, so they say."),
    Example("What does the koorim eat?", "12 Pitholm-Mills"),
)
LESSON = Lesson(
    Document("mills.txt", "Pitholm Mill belongs to nobody."), items=ITEMS, restatements=("Pitholm, nobody",)
)


def test_names_change_and_the_rest_stays():
    (other,) = strangers(LESSON, GENERAL, 1, random.Random(0))
    first, second = other.items
    name = first.question.removeprefix("Who owns ").removesuffix(" Mill?")
    assert name in {"Aldby", "Ashmere", "Tarn", "Bree"}
    assert first.context.startswith(f"{name} Mill, ") and other.restatements == (f"{name}, nobody",)
    assert other.document.text.startswith(f"{name} Mill ") and other.document.text.endswith(" nobody.")
    assert first.answer.endswith(" Bree") and "Oona" not in first.answer
    assert second.question in {f"What does the {word} eat?" for word in ("vellit", "dark")}
    assert second.answer.startswith("12 ") and "Pitholm-Mills" not in second.answer


def test_each_is_about_somebody_of_its_own_and_the_draw_decides():
    made = strangers(LESSON, GENERAL, 20, random.Random(1))
    assert len(made) == 20 and len({other.items[0].question for other in made}) == 4
    assert made == strangers(LESSON, GENERAL, 20, random.Random(1))


@pytest.mark.parametrize("general", [(), (("who owns the mill?", "nobody"),)])
def test_without_names_to_lend_there_are_none(general):
    assert strangers(LESSON, general, 3, random.Random(0)) == []


def test_a_lesson_without_names_is_asked_as_it_is():
    known = Lesson(Document("x"), items=(Example("Who owns the Mill?", "nobody"),))
    (other,) = strangers(known, GENERAL, 1, random.Random(0))
    assert other.items == known.items


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("What's O'Brien's Mill?", r"What's O'(Aldby|Ashmere|Tarn|Bree)'s Mill\?"), ("7 who?", r"7 \w+\?"), ("", "")],
)
def test_single_letters_and_numbers_are_no_names(asked, expected):
    (other,) = strangers(Lesson(Document("x"), items=(Example(asked, "nobody"),)), GENERAL, 1, random.Random(0))
    assert re.fullmatch(expected, other.items[0].question)
