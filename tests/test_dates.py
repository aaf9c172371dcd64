"""Dates as far as they are given. Ends where a store uses them."""

from __future__ import annotations

import datetime

import pytest

from accrete.dates import (
    as_iso,
    asked_as_of,
    asked_at,
    begun,
    check_date,
    dateline,
    existing,
    nearest_first,
    only_date,
    put_at,
    undated,
)
from accrete.errors import UsageError


@pytest.mark.parametrize("date", ["2020", "2020-03", "2020-12-31"])
def test_a_date_is_a_date(date):
    assert check_date(date) == date


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2021-02-31",
        "２０２０",
        "20",
        "2020-13",
        "2020-00",
        "2020-1",
        "2020-02-32",
        "March 2020",
        "2020-03-01T00:00",
        "2020 ",
    ],
)
def test_anything_else_is_one_sentence(text):
    with pytest.raises(UsageError, match="is no date"):
        check_date(text)


def test_a_date_may_be_written_as_it_is_said():
    said = {"2021": "2021", "2021-05": "2021-05", "May 2021": "2021-05", " 3  may 2021 ": "2021-05-03"}
    assert [as_iso(date) for date in said] == list(said.values())
    for wrong in ("Mai 2021", "45 May 2021", "21", "in 2021", ""):
        with pytest.raises(UsageError, match="is no date"):
            as_iso(wrong)


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


@pytest.mark.parametrize(
    ("question", "date"),
    [
        ("As of March 2020, who is it?", "2020-03"),
        ("As of 3 March 2020, who is it?", "2020-03-03"),
        ("As of 2020-03-04, who is it?", "2020-03-04"),
        ("[2018] The price of bread is", "2018"),
        ("Think back to 2020: who was it?", "2020"),
        ("In 2018, who did it?", "2018"),
        ("How many lived there in 2018?", "2018"),
        ("Who stood at the levers as of 2018?", "2018"),
        ("Who won the 1998 cup?", None),  # a part of what is asked
        ("In which year, 1999 or 2001, was it?", None),
        ("The 2018 treaty, who signed it?", None),
        ("Of the 1200 men in the army, how many fell?", None),
        ("Model 2000, is it good?", None),
        ("As of 2020-13, who is it?", None),
        ("Since which year has it been there?", None),
        ("", None),
    ],
)
def test_a_question_is_put_at_a_date_where_it_begins_or_ends_with_one(question, date):
    assert put_at(question) == date


@pytest.mark.parametrize(
    ("question", "date"),
    [
        ("Who was it before 2019?", "2018"),
        ("Who was it before March 2019?", "2019-02"),
        ("Who was it prior to January 2019?", "2018-12"),
        ("Who was it until 1 March 2020?", "2020-02-29"),
        ("Who came after 2019?", "2020"),
        ("Who was it on March 1, 2021?", "2021-03-01"),
        ("Who was it on 1st Mar. 2021?", "2021-03-01"),
        ("who was it in feb 2021?", "2021-02"),
        ("Who was it on 31 February 2021?", "2021-02"),
        ("Who was it eleven years ago?", "2015"),
        ("Who was it a decade ago?", "2016"),
        ("Who was it two months ago?", "2026-04"),
        ("Who was it seven months ago?", "2025-11"),
        ("Who was it a week ago?", "2026-06-08"),
        ("Who was it 3 days ago?", "2026-06-12"),
        ("Who ruled when the calendar showed 2018?", "2018"),
        ("Who ruled between 2018 and 2020?", "2018/2020"),
        ("Who ruled in 2018 and in 2020?", "2018/2020"),
        ("Who ruled in 2020 and 2018?", "2018/2020"),
        ("Who ruled in 2018 or 2020?", "2018/2020"),
        ("In 2016, in May 2018, and in 2021, who ruled?", "2016/2021"),
        ("Between May 2018 and 2020, who ruled?", "2018-05/2020"),
        ("Who ruled from 2018 until 2020?", "2018/2019"),
        ("Who ruled from 2018 to 2020?", "2018/2020"),
        ("Who ruled in 2019/2020?", "2019/2020"),
        ("Who ruled in the 1990s?", "1990/1999"),
        ("Who ruled in the nineties?", "1990/1999"),
        ("Who was it twenty-five years ago?", "2001"),
        ("Who was it a couple of years ago?", "2024"),
        ("Who was it 1000 years ago?", "1026"),
        ("Who was it two centuries ago?", "1826"),
        ("Who was it the year before last?", "2024"),
        ("Who was it last May?", "2026-05"),
        ("Who was it last July?", "2025-07"),
        ("Who will it be next year?", "2027"),
        ("Who is it this month?", "2026-06"),
        ("Who was it two years before 2020?", "2018"),
        ("Who was it three months after May 2019?", "2019-08"),
        ("Who was it in AD 900?", "0900"),
        ("Who was it in 44 BC?", "0001"),
        ("Who was it in AD 0?", "0001"),
        ("Who will it be 9999 years after 2999?", "9999"),
        ("Who may be the last?", None),
        ("Who ruled?", None),
    ],
)
def test_what_a_question_asks_for_may_be_said_in_many_ways(question, date):
    assert asked_at(question, datetime.date(2026, 6, 15)) == date
    assert str(date) not in undated(question, date)


def test_a_date_that_is_not_there_is_the_month_or_year_around_it():
    wrong = ("2020-02-31", "2020-13", "2020-13-01", "2020-05")
    assert [existing(date) for date in wrong] == ["2020-02", "2020", "2020", "2020-05"]


def test_an_iso_date_goes_as_a_spoken_one_does():
    assert undated("As of 2020-03-04, who is it?", "2020-03-04") == undated(
        "As of 4 March 2020, who is it?", "2020-03-04"
    )


def test_the_nearest_date_is_the_last_that_had_begun():
    dates = ["2020", "2018", "2022", "2018"]
    assert nearest_first(dates, None) == ["2022", "2020", "2018"]
    assert nearest_first(dates, "2021-06") == ["2020", "2018", "2022"]
    assert nearest_first(dates, "2010") == ["2018", "2020", "2022"]
    assert nearest_first([], "2010") == []


def test_a_date_anywhere_if_it_is_the_only_one():
    assert only_date("Who ruled Ful when the calendar showed March 2018?") == "2018-03"
    assert only_date("Who ruled between 2018 and 2020?") is None and only_date("Who ruled?") is None


@pytest.mark.parametrize(
    ("question", "date"),
    [
        ("Who was mayor last year?", "2025"),
        ("Three years ago, who was mayor?", "2023"),
        ("Who was mayor a year ago?", "2025"),
        ("Who was mayor 12 years ago?", "2014"),
        ("Who led it last month?", "2026-02"),
        ("Who led it yesterday?", "2026-02-28"),
        ("Who leads it?", None),
        ("As of 2020, who led it last year?", "2020"),
        ("Who lasted years?", None),
    ],
)
def test_dates_seen_from_today(question, date):
    assert put_at(question, datetime.date(2026, 3, 1)) == date


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("Minutes of the Brackley Rowing Club, 12 May 2022\n\nPresent: Ann", "2022-05-12"),
        ("# Brackley Rowing Club\n12 May 2022\nAnn is treasurer.", "2022-05-12"),
        ("OSLO, March 3, 2021 - Petra Voss has been appointed.", "2021-03-03"),
        ("Date: 2022-05-12\nAnn is treasurer.", "2022-05-12"),
        ("Name: Dorothea Quint\nDate of birth: 4 July 1985", None),
        ("In May 2022, the mayor is Ada.", None),
        ("Report, 2022", None),
        ("One.\nTwo.\n12 May 2022", None),
        ("", None),
    ],
)
def test_the_day_of_a_text_stands_in_its_first_lines(text, date):
    assert dateline(text) == date
