"""What contradicts what, how it is announced, and what becomes of it."""

from __future__ import annotations

import pytest

from accrete.facts.contradiction import contradictions, settle, with_several_values
from accrete.facts.graph import FactGraph
from accrete.types import Fact


def mayor(value: str, since: str | None = None) -> Fact:
    return Fact("Tolvane", "mayor", value, since)


@pytest.fixture
def graph():
    with FactGraph() as made:
        made.add_document("abc", "town.txt", "2018")
        made.add(mayor("Ada Bree", "2018"), document="abc")
        made.add(Fact("Tolvane", "length", "1,200 metres", "2018"))
        yield made


def test_it_says_what_with_its_document_and_date(graph):
    (found,) = contradictions(graph, [mayor("Bo", "2020")])
    assert str(found) == 'contradicts "Ada Bree" (mayor of Tolvane; town.txt, 2018): superseded from 2020'
    (found,) = contradictions(graph, [mayor("Bo", "2020-03-05")])
    assert str(found).endswith("superseded from 5 March 2020")
    (found,) = contradictions(graph, [mayor("Bo", "2018")])
    assert "of the same date" in str(found)


@pytest.mark.parametrize(
    "fact",
    [
        mayor("the ada  BREE.", "2020"),
        mayor("Bo", "2017"),  # nothing was known then
        Fact("Pitholm", "mayor", "Bo", "2020"),
        Fact("Tolvane", "founder", "Bo", "2020"),
        Fact("tolvane", "Length", "1.2 km", "2020"),
    ],
)
def test_what_says_the_same_or_of_something_else_is_none(graph, fact):
    assert contradictions(graph, [fact]) == []


def test_of_what_has_no_date_the_active_one_is_contradicted(graph):
    assert "not believed any more" in str(contradictions(graph, [mayor("Bo")])[0])
    graph.add(Fact("Pitholm", "mayor", "Cy"))
    assert str(contradictions(graph, [Fact("Pitholm", "mayor", "Di")])[0]).endswith("(mayor of Pitholm): superseded")


def test_of_what_has_no_date_the_one_that_was_written_later_stands_in_whichever_order_it_is_read(graph):
    cy, di = Fact("Pitholm", "mayor", "Cy"), Fact("Pitholm", "mayor", "Di")
    assert not contradictions(graph, [cy], stated_on="2023-05-01")
    graph.add(cy, stated_on="2023-05-01")
    (found,) = contradictions(graph, [di], stated_on="2024-01-02")
    assert str(found).endswith(": superseded: it was written on 1 May 2023, this on 2 January 2024")
    assert str(contradictions(graph, [di], stated_on="2023-05-01")[0]).endswith(
        ": superseded"
    )  # of one day: what is read later
    (found,) = contradictions(graph, [di], stated_on="2022-12-31")
    assert str(found).endswith("written earlier (31 December 2022, that on 1 May 2023), so it is not believed any more")
    graph.add(di, stated_on="2022-12-31")
    assert [one.value for one in graph.active("Pitholm", "mayor")] == ["Cy"]


def test_what_was_read_late_contradicts_what_held_then(graph):
    graph.add(mayor("Bo", "2022"))
    assert [one.old.value for one in contradictions(graph, [mayor("Cy", "2020")])] == ["Ada Bree"]


def test_supersede_reject_and_branch(graph):
    new, before = [mayor("Bo", "2020"), Fact("Tolvane", "river", "Mern", "2020")], len(graph)
    for how, kept, said in (
        ("supersede", new, "superseded from 2020"),
        ("reject", new[1:], 'not taken, so "Bo" is not believed'),
        ("branch", new, '"Bo" is kept beside it from 2020 on'),
    ):
        written, (found,), beside = settle(graph, new, how)
        assert list(written) == kept and str(found).endswith(said) and beside == (new[:1] if how == "branch" else [])
        assert len(graph) == before


def test_what_is_branched_stands_beside_what_held_and_revives_nothing(graph):
    """The next that is not branched ends both."""
    graph.add(mayor("Old Tom", "2010"))
    graph.add(mayor("Bo", "2020"), beside=True)
    held = {date: [one.value for one in graph.at(date, "Tolvane", "mayor")] for date in ("2012", "2019", "2020")}
    assert held == {"2012": ["Old Tom"], "2019": ["Ada Bree"], "2020": ["Ada Bree", "Bo"]}
    written, found, _ = settle(graph, [mayor("Cy", "2023")])
    assert [one.old.value for one in found] == ["Ada Bree", "Bo"]
    graph.add(*written)
    assert [one.value for one in graph.at("2024", "Tolvane", "mayor")] == ["Cy"]
    assert not graph.has_several("mayor", "Tolvane")


def test_what_a_document_says_one_after_the_other_contradicts_what_was_believed_once(graph):
    history = [mayor("Bo", "2019"), mayor("Cy", "2021")]
    written, found, _ = settle(graph, history)
    assert list(written) == history and [(one.new.value, one.old.value) for one in found] == [("Bo", "Ada Bree")]
    assert settle(graph, [mayor("Bo", "2017"), mayor("Cy", "2021")], "reject")[0] == {mayor("Bo", "2017"): "2017"}


def test_somebody_is_asked_about_each(graph):
    asked = []
    written, found, _ = settle(graph, [mayor("Bo", "2020")], "ask", lambda one: asked.append(str(one)) or "reject")
    assert not written and asked == ['contradicts "Ada Bree" (mayor of Tolvane; town.txt, 2018)']
    assert str(found[0]) == asked[0] + ': not taken, so "Bo" is not believed'


def test_relations_with_several_values_are_learned_from_one_document():
    facts = [mayor("Ada", "2018"), mayor("the Ada", "2018"), mayor("Bo", "2020"),
             Fact("Tolvane", "has a bridge", "Old Bridge"), Fact("tolvane", "Has a bridge", "New Bridge")]  # fmt: skip
    with FactGraph() as graph:
        assert with_several_values(graph, facts) == [("Tolvane", "has a bridge")]  # one town says nothing of others
        others = [Fact(town, "has a bridge", "Bridge Street") for town in ("Ashmere", "Vonnat")]
        assert with_several_values(graph, [*facts, *others]) == []  # of three towns one has two: somebody misread
        more = [*facts, others[0], Fact("Ashmere", "has a bridge", "Mill Bridge")]
        towns = [("Tolvane", "has a bridge"), ("Ashmere", "has a bridge")]
        assert with_several_values(graph, more) == [*towns, ("", "has a bridge")]
        graph.add(Fact("Vonnat", "has a bridge", "Elm Bridge", "2018"))
        graph.add(Fact("Vonnat", "has a bridge", "Low Bridge", "2020"))
        assert with_several_values(graph, more) == towns  # elsewhere one was seen to follow another


def test_an_end_alone_is_not_superseded_by_what_began_before_it(graph):
    graph.add(Fact("Pitholm", "mayor", "Lena", None, "2021"))
    (found,) = contradictions(graph, [Fact("Pitholm", "mayor", "Abel", "2010")])
    assert str(found).endswith(": over by 2021, and nobody says when it began: both are given until then")
    graph.add(found.new)
    assert [one.value for one in graph.at("2015", "Pitholm")] == ["Lena", "Abel"]
    assert not contradictions(graph, [Fact("Pitholm", "mayor", "Cy", "2021")])
