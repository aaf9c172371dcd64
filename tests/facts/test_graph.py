"""The memory graph against a naive list: dates of any length, any order of reading, closing, reopening, taking back."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accrete.errors import HistoryError, UsageError
from accrete.facts.graph import FactGraph
from accrete.types import Fact

YEARS = st.sampled_from(["2018", "2019", "2020"])
MONTHS = st.builds("{}-{:02}".format, YEARS, st.integers(1, 3))
DATES = st.one_of(YEARS, MONTHS, st.builds("{}-{:02}".format, MONTHS, st.integers(1, 3)))
STATEMENTS = st.tuples(
    st.sampled_from(["Ada", "Bo"]),
    st.sampled_from(["mayor", "price"]),
    st.sampled_from(["one", "two", "three"]),
    st.one_of(st.none(), DATES),
    st.one_of(st.none(), DATES),
)


def said(value: str, since: str | None = None, until: str | None = None) -> Fact:
    return Fact("Tolvane", "mayor", value, since, until)


def values(statements) -> list[str]:
    return [one.value for one in statements]


def naive(statements, date: str, subject: str, relation: str) -> list[str]:
    """A walk through the statements up to a date, with what holds in mind; and those that say an end alone.

    Such one belongs to the last of its value that is not over by then; else it began with what was last heard before it, and
    when it ends nobody is left.
    """

    def begun(when: str) -> bool:
        return when[: len(date)] <= date

    rows = [row[2:] for row in statements if row[:2] == (subject, relation)]
    walk, held = [], []
    for place, (value, since, until) in enumerate(rows):
        if since or not until:
            walk.append((bool(since), since or "", 1, place))
            continue
        same = [(s or "", -p) for p, (v, s, u) in enumerate(rows)
                if v == value and (s or "") < until and (s or not u) and not (u and u < until)]  # fmt: skip
        start = max(same, default=(None,))[0]
        if start is not None and not any(v != value and s and start < s < until for v, s, _ in rows):
            walk.append((bool(start), start, 2, place))
            continue
        over = min([until, *(s for _, s, _ in rows if s and until.startswith(s))])
        heard = max(
            (when for p, row in enumerate(rows) if p != place for when in row[1:] if when and when < over), default=""
        )
        walk.append((bool(heard), over, 0, place))
        if begun(heard) and not begun(over):
            held.append(place)
    holding, end, said = None, None, -1
    for _, when, rank, place in sorted(walk):
        value, _, until = rows[place]
        if not begun(when):
            continue
        if not rank or holding is None or rows[holding][0] != value or (end and when and end <= when and rank != 2):
            end, said = None, -1
        if until and place > said:
            end, said = until, place
        holding = place if rank else None
    if holding is not None and not (end and begun(end)):
        held.append(holding)
    return [rows[place][0] for place in sorted(held)]


@given(st.lists(STATEMENTS, max_size=12), DATES)
def test_it_knows_what_a_naive_list_knows(statements, date):
    statements = [row for row in statements if not (row[3] and row[4] and row[4] <= row[3])]
    with FactGraph() as graph:
        for subject, relation, value, since, until in statements:
            graph.add(Fact(subject, relation, value, since, until))
        for subject in ("Ada", "Bo"):
            for relation in ("mayor", "price"):
                held = graph.at(date, subject, relation)
                assert values(held) == naive(statements, date, subject, relation)
                known = [one for one in graph.history(subject, relation) if one.holds(date)]
                assert sorted(known, key=lambda one: one.id) == held
        for value in ("one", "two", "three"):
            held = graph.at(date, relation="mayor", value=value)
            assert held == [one for one in graph.at(date, relation="mayor") if one.value == value]


@given(st.lists(STATEMENTS, min_size=1, max_size=10), st.lists(STATEMENTS, max_size=6))
def test_a_lesson_taken_back_leaves_no_trace(kept, undone):
    def state(graph):
        rows = graph._database.execute(
            "SELECT subject, relation, value, valid_from, valid_until FROM facts ORDER BY id"
        )
        return rows.fetchall()

    kept, undone = ([row for row in rows if not (row[3] and row[4] and row[4] <= row[3])] for rows in (kept, undone))
    with FactGraph() as graph, FactGraph() as other:
        for row in kept:
            graph.add(Fact(*row), lesson="kept")
            other.add(Fact(*row), lesson="kept")
        for row in undone:
            graph.add(Fact(*row), lesson="undone")
        assert graph.remove_lesson("undone") == len(undone)
        assert state(graph) == state(other)


@given(st.permutations([said("Ada", "2018"), said("Bo", "2020-03"), said("Ada", "2022"), said("Cy", "2022-06-15")]))
def test_the_order_of_reading_does_not_matter_where_dates_say_it(order):
    with FactGraph() as graph:
        for fact in order:
            graph.add(fact)
        asked = (
            "2017",
            "2018",
            "2020-02",
            "2020-03",
            "2020",
            "2021",
            "2022",
            "2022-05",
            "2022-06-14",
            "2022-06-15",
            "2030",
        )
        found = [values(graph.at(date)) for date in asked]
        assert found == [[], ["Ada"], ["Ada"], ["Bo"], ["Bo"], ["Bo"], ["Cy"], ["Ada"], ["Ada"], ["Cy"], ["Cy"]]
        history = graph.history("tolvane", "The mayor")
        assert [(one.valid_from, one.valid_until) for one in history] == [
            ("2018", "2020-03"), ("2020-03", "2022"), ("2022", "2022-06-15"), ("2022-06-15", None)]  # fmt: skip
        assert [one.parent for one in history] == [None, *(one.id for one in history[:3])]
        assert [one.contradicts for one in history] == [one.parent for one in history]


def test_the_same_value_again_is_no_contradiction_and_reopening_is_seen():
    with FactGraph() as graph:
        first, again = graph.add(said("Ada", "2018")), graph.add(said("the  ada", "2019"))
        assert (again.parent, again.contradicts) == (first.id, None)
        other = graph.add(said("Bo", "2020"))
        assert other.contradicts == again.id and values(graph.active()) == ["Bo"]
        graph.remove_lesson("")
        assert not len(graph) and graph.active() == []


def test_of_one_date_the_later_stated_stands_then_the_later_read():
    with FactGraph() as graph:
        graph.add(said("Ada", "2020"), stated_on="2021")
        graph.add(said("Bo", "2020"), stated_on="2020")
        assert values(graph.at("2020")) == ["Ada"]
        graph.add(said("Cy", "2020"), stated_on="2021")
        assert values(graph.at("2020")) == ["Cy"] and values(graph.active()) == ["Cy"]


def test_what_has_no_date_always_was_until_a_date_ends_it():
    with FactGraph() as graph:
        graph.add(said("Ada"))
        assert values(graph.at("1066")) == ["Ada"]
        graph.add(said("Bo"))
        assert values(graph.at("1066")) == ["Bo"]
        graph.add(said("Cy", "2000"))
        assert [values(graph.at(date)) for date in ("1999-12-31", "2000")] == [["Bo"], ["Cy"]]


def test_an_end_that_is_stated_leaves_a_gap():
    with FactGraph() as graph:
        graph.add(said("Ada", "2010", "2014"))
        graph.add(said("Bo", "2020"))
        assert [values(graph.at(date)) for date in ("2013", "2014", "2019", "2020")] == [["Ada"], [], [], ["Bo"]]


def test_relations_with_several_values_do_not_end_each_other():
    with FactGraph() as graph:
        graph.add(Fact("Tolvane", "has a bridge", "Old Bridge", "1900"))
        graph.add(Fact("Tolvane", "has a bridge", "New Bridge", "2000"))
        assert values(graph.active()) == ["New Bridge"]
        graph.declare_several("Has a Bridge")
        assert values(graph.at("2001")) == ["Old Bridge", "New Bridge"] and graph.has_several("has a bridge")
        assert {one.contradicts for one in graph.active()} == {None}
        graph.declare_several("has a bridge", False)
        assert values(graph.active()) == ["New Bridge"]


def test_neighbours_are_of_the_history_the_subject_the_relation_and_what_names_it():
    with FactGraph() as graph:
        one = graph.add(said("Ada", "2018"))
        later, size = graph.add(said("Bo", "2020")), graph.add(Fact("tolvane", "size", "large"))
        other, born = graph.add(Fact("Pitholm", "mayor", "Cy")), graph.add(Fact("Ada", "born in", "Pitholm"))
        graph.add(Fact("Pitholm", "size", "small"))
        found = graph.neighbours(one.id)
        assert found == {
            "history": [graph[later.id]], "same_subject": [size], "same_relation": [other], "named": [born]}  # fmt: skip
        assert graph.neighbours(born.id)["named"] == [graph[one.id], other, graph[6]]
        assert graph.neighbours(other.id, limit=1)["same_relation"] == [graph[later.id]]


def test_where_it_was_said_is_kept_and_reading_is_counted():
    with FactGraph() as graph:
        graph.add_document("abc", "mills.txt", "2020-03", "lesson 1")
        one = graph.add(
            said("Ada", "2020"), document="abc", span=(3, 9), lesson="lesson 1", slot=4, stated_on="2020-03"
        )
        assert (one.start, one.end, one.slot, one.stated_on) == (3, 9, 4, "2020-03")
        assert graph.document("abc") == ("mills.txt", "2020-03") and graph.subjects() == [("Tolvane", 1)]
        graph.count_use([("tolvane", "mayor", "ada", "2020", 2), ("tolvane", "mayor", "ada", "", 7)])
        assert graph[one.id].usage == 2 and one.fact == said("Ada", "2020")
        graph.remove_lesson("lesson 1")
        assert graph.document("abc") is None
        with pytest.raises(KeyError):
            graph[one.id]


@pytest.mark.parametrize(
    "fact",
    [
        said(""),
        said("Ada", "20"),
        said("Ada", "2020", "2020"),
        said("Ada", "2021", "2020-05"),
        Fact("The", "mayor", "x"),
    ],
)
def test_what_is_no_fact_is_refused_and_nothing_is_written(fact):
    with FactGraph() as graph, pytest.raises(UsageError):
        graph.add(fact)
    assert not len(FactGraph())


def test_a_transaction_stands_or_falls_whole(tmp_path):
    path = tmp_path / "graph.sqlite"
    with FactGraph(path) as graph:
        graph.add(said("Ada", "2018"))
        with pytest.raises(ZeroDivisionError), graph.transaction():
            graph.add(said("Bo", "2020"))
            raise ZeroDivisionError
        with graph.transaction():
            graph.add(said("Cy", "2020"))
            assert values(FactGraph(path).active()) == ["Ada"], "readers see what was there before"
    with FactGraph(path) as graph:
        assert values(graph.active()) == ["Cy"] and len(graph) == 2


def test_other_files_are_refused_in_a_sentence(tmp_path):
    path = tmp_path / "graph.sqlite"
    path.write_text("this is no database, however long it is " * 40)
    with pytest.raises(HistoryError, match="cannot be opened"):
        FactGraph(path)
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(HistoryError, match="another version"):
        FactGraph(path)


def test_an_end_alone_takes_its_beginning_from_whoever_says_it_and_gives_it_back():
    """Forgetting who said the beginning leaves the end, and no beginning."""
    with FactGraph() as graph:
        graph.add(said("Abel", "2010"))
        graph.add(said("Lena", "2015-04"), lesson="first")
        end = graph.add(said("Lena", None, "2021"), lesson="end")
        (held,) = graph.at("2020")
        assert (held.id, held.since, held.valid_until, held.stated_from) == (end.id, "2015-04", "2021", None)
        assert [one.lesson for one in graph.with_beginnings([held])] == ["first", "end"]
        assert values(graph.at("2014")) == ["Abel"] and not graph.at("2021")
        graph.remove_lesson("first")
        assert graph[end.id].since is None and [one.since for one in graph.with_beginnings([graph[end.id]])] == [None]
        assert values(graph.at("2020")) == values(graph.at("2014")) == ["Abel", "Lena"]  # nobody says since when
        assert not graph.at("2021") and not graph.at("2009")
        graph.add(said("Bo", "2021"))
        assert values(graph.at("2021")) == ["Bo"] and values(graph.history("Tolvane")) == ["Abel", "Lena", "Bo"]
        graph.remove_lesson("end")
        assert values(graph.at("2020")) == ["Abel"] and graph[1].valid_until == "2021"


@pytest.mark.parametrize(
    "statements, expected",
    [
        ([("Lena", None, "2021")], {"2020": ["Lena"], "2021": []}),
        ([("Abel", "2021", None), ("Lena", None, "2021-03")], {"2020": ["Lena"], "2021": ["Abel"], "2022": ["Abel"]}),
        ([("Lena", None, "2021"), ("Abel", None, None)], {"2020": ["Lena", "Abel"], "2021": []}),  # it was said before
        ([("Abel", "2010", "2014"), ("Lena", None, "2021")], {"2013": ["Abel"], "2014": ["Lena"], "2021": []}),
        (
            [("Lena", "2015", None), ("Abel", "2018", None), ("Lena", None, "2021")],
            {"2016": ["Lena"], "2020": ["Abel", "Lena"], "2021": []},
        ),
    ],
)
def test_what_held_where_only_an_end_is_said(statements, expected):
    with FactGraph() as graph:
        for row in statements:
            graph.add(said(*row))
        assert {date: values(graph.at(date)) for date in expected} == expected


def test_an_undated_statement_that_is_made_after_an_end_goes_on():
    with FactGraph() as graph:
        for fact in (said("Abel"), said("Lena", None, "2021")):
            graph.add(fact, stated_on="2024-05-02")
        assert values(graph.at("2020")) == ["Abel", "Lena"] and values(graph.at("2022")) == ["Abel"]


def test_of_several_values_an_end_alone_ends_that_one():
    with FactGraph() as graph:
        graph.declare_several("mayor")
        for row in (("Abel", "2010"), ("Lena", "2015"), ("Lena", None, "2021"), ("Bo", None, "2012")):
            graph.add(said(*row))
        assert values(graph.at("2016")) == ["Abel", "Lena"] and values(graph.at("2011")) == ["Abel", "Bo"]
        assert values(graph.at("2022")) == ["Abel"]


@pytest.mark.parametrize(
    "statements, expected",
    [
        ([("Ada", "2018", "2020"), ("Ada", "2019", None)], {"2019": ["Ada"], "2020": []}),  # said again, and no longer
        ([("Ada", "2018", "2020"), ("Ada", "2018", None)], {"2019": ["Ada"], "2020": []}),
        ([("Ada", "2018", "2020"), ("Ada", "2021", None)], {"2019": ["Ada"], "2020": [], "2022": ["Ada"]}),  # once more
        ([("Ada", "2014", None), ("Ada", None, "2019"), ("Ada", None, "2025")], {"2018": ["Ada"], "2020": ["Ada"]}),
        (
            [
                ("Ada", "2018", None),
                ("Bo", "2020", None),
                ("Ada", None, "2023"),
            ],  # Ada was it again, nobody says since when
            {"2019": ["Ada"], "2021": ["Bo", "Ada"], "2023": []},
        ),
    ],
)
def test_what_is_said_again_keeps_its_end(statements, expected):
    with FactGraph() as graph:
        for number, row in enumerate(statements):
            graph.add(said(*row), stated_on=f"202{number}-01-01")
        assert {date: values(graph.at(date)) for date in expected} == expected


def test_a_value_beside_another_ends_alone():
    with FactGraph() as graph:
        graph.add(said("Ada", "2018"))
        graph.add(said("Bo", "2019"), beside=True)
        graph.add(said("Bo", None, "2021"))
        assert values(graph.at("2020")) == ["Ada", "Bo"] and values(graph.at("2022")) == ["Ada"]


@pytest.mark.parametrize(
    "statements, years",
    [
        ([("2010", None), ("2012", None), (None, "2018")], {"2011": 1, "2013": 1, "2019": 0}),
        ([("2010", "2018"), ("2012", None)], {"2011": 1, "2013": 1, "2019": 0}),
        ([(None, None), (None, "2020")], {"2013": 1, "2022": 0}),
    ],
)
def test_one_of_several_values_ends_however_often_it_was_said(statements, years):
    with FactGraph() as graph:
        graph.declare_several("mayor")
        graph.add(said("Bo"))
        for row in statements:
            graph.add(said("Ada", *row))
        assert {date: values(graph.at(date)).count("Ada") for date in years} == years
        assert all("Bo" in values(graph.at(date)) for date in years)
