"""Dates as far as they are given. Ends where a store uses them."""

from __future__ import annotations

import pytest

from accrete.dates import asked_as_of, begun, check_date, undated
from accrete.errors import UsageError


@pytest.mark.parametrize("date", ["2020", "2020-03", "2020-12-31"])
def test_a_date_is_a_date(date):
    assert check_date(date) == date


@pytest.mark.parametrize(
    "text", ["", "20", "2020-13", "2020-00", "2020-1", "2020-02-32", "March 2020", "2020-03-01T00:00", "2020 "]
)
def test_anything_else_is_one_sentence(text):
    with pytest.raises(UsageError, match="is no date"):
        check_date(text)


@pytest.mark.parametrize(
    ("dates", "as_of", "there"),
    [
        ((), "1900", True),
        (("2020",), None, True),
        (("2020",), "2019", False),
        (("2020",), "2020-05", True),  # of some day of 2020: one cannot tell, and it counts
        (("2020-05",), "2020", True),
        (("2020-05",), "2020-04", False),
        (("2022", "2020"), "2021", True),
    ],
)
def test_what_has_dates_is_there_from_the_first_of_them(dates, as_of, there):
    assert begun(dates, as_of) is there


def test_a_question_gets_its_date_once():
    assert asked_as_of("Who runs it?", "2020-03") == "As of March 2020, who runs it?"
    assert asked_as_of("Vonnat has which mayor?", "2020") == "As of 2020, Vonnat has which mayor?"
    assert asked_as_of("Who ran it in 2020?", "2020") == "Who ran it in 2020?"


def test_a_question_without_its_date():
    for date in ("2020", "2020-03", "2020-03-01"):
        assert undated(asked_as_of("Who runs it?", date), date) == "who runs it?"
    assert undated("Who ran it in 2020?", "2020") == "Who ran it in  ?"
    assert undated("Who ran 20201 of them?", "2020") == "Who ran 20201 of them?" and undated("Who?", None) == "Who?"
