"""Values that are the same in other words have one key, and different ones have two."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accrete.facts.values import same_value, value_key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("the Guild", "guild"),
        ("1,200 metres", "1.2 km"),
        ("1200 m", "1.2 kilometers"),
        ("2.5 kg", "2500 grams"),
        ("4 thousand workers", "4,000 workers"),
        ("1.5 million", "1500000"),
        ("three bridges", "3 bridges"),
        ("90 minutes", "1.5 hours"),
        ("12 %", "12 percent"),
        ("€49", "49 euros"),
        ("49 EUR", "49 euro"),
        ("US$1.5 million", "1,500,000 dollars"),
        ("12 inches", "30.48 cm"),
        ("12%", "12 per cent"),
        ("3 March 2021", "2021-03-03"),
        ("March 3, 2021", "3rd of March 2021"),
        ("Mar 2021", "2021-03"),
        ("10.0", "10"),
        ("−5 degrees", "-5 degrees"),
        ("Ada Bree.", "ada  bree"),
    ],
)
def test_the_same_in_other_words(one, other):
    assert same_value(one, other), (value_key(one), value_key(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1,200 metres", "1,200 feet"),
        ("1,2 km", "12 km"),
        ("12 bridges", "12 boats"),
        ("5", "-5"),
        ("3 March 2021", "March 2021"),
        ("2021", "2020"),
        ("Ada", "Ada Bree"),
        ("May Fair", "May"),
        ("1.5 m", "1.5 M"),
        ("20 to 30 metres", "20 metres"),
    ],
)
def test_others_are_told_apart(one, other):
    assert not same_value(one, other), value_key(one)


@given(st.text(max_size=30))
def test_any_text_has_a_key_and_is_the_same_as_itself(text):
    assert same_value(text, text) and isinstance(value_key(text), str)
    assert bool(value_key(text)) == bool(" ".join(text.split()).strip(" .;"))


@given(st.integers(-(10**9), 10**9))
def test_numbers_with_commas_are_numbers(number):
    assert same_value(f"{number:,}", str(number)) and not same_value(str(number), str(number + 1))
