"""Beliefs as state: back bit for bit, stored once where nothing changed; expectations; what is watched in a lesson."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from accrete.beliefs import Beliefs
from accrete.errors import HistoryError, UsageError
from accrete.facts.reading import Stated, fitting, settled
from accrete.facts.simple_sentences import Found
from accrete.store.expectations import Expectation, Expectations
from accrete.store.guard import harm
from accrete.store.watch import Watch
from accrete.types import Example, Fact, Probe


def stated(value: str, since: str | None = None, relation: str = "mayor") -> Stated:
    return Stated(
        Fact("Tolvane", relation, value, since), (3, 9), (Example("Who?", value), Example("Where?", "Tolvane"))
    )


def rows(beliefs: Beliefs):
    graph = beliefs.graph
    return [(one.fact, one.start, one.slot, one.lesson, one.contradicts, graph.questions_of([one.id]))
            for one in graph.history("Tolvane")]  # fmt: skip


def test_state_brings_the_graph_back():
    beliefs = Beliefs()
    assert not beliefs
    (ada,) = beliefs.state_of("a", "a.txt", "2018", [stated("Ada", "2018")])
    beliefs.assign(ada, 4)
    before, first = rows(beliefs), {name: entry for name, entry in beliefs.state_dict().items()}
    beliefs.state_of(
        "b", "b.txt", None, [stated("Bo", "2020"), stated("x", relation="bridge")], several=[("", "bridge")]
    )
    whole, after = rows(beliefs), beliefs.state_dict()
    assert after["lessons"] == ["a", "b"] and torch.equal(first["a"], after["a"])
    beliefs.load_state_dict(first)
    assert rows(beliefs) == before and not beliefs.graph.has_several("bridge")
    beliefs.load_state_dict(after)
    assert rows(beliefs) == whole and beliefs.graph.has_several("bridge")
    assert beliefs.graph.slots() == {4: "a"} and beliefs.graph.document("a") == ("a.txt", "2018")
    assert beliefs.forget("b") == 2 and rows(beliefs) == before and not beliefs.graph.has_several("bridge")
    beliefs.load_state_dict({})
    assert not beliefs and rows(beliefs) == []


def test_what_is_no_state_changes_nothing():
    beliefs = Beliefs()
    beliefs.state_of("a", "a.txt", None, [stated("Ada")])
    before = rows(beliefs)
    with pytest.raises(HistoryError, match="cannot be read"):
        beliefs.load_state_dict({"lessons": ["x"], "x": torch.tensor([1, 2], dtype=torch.uint8)})
    assert rows(beliefs) == before


def test_what_a_document_says_is_settled_with_what_is_believed():
    beliefs = Beliefs()
    beliefs.state_of("a", "a.txt", None, [stated("Ada", "2018")])
    new = [Found(Fact("Tolvane", "mayor", "Bo", "2020"), 0, 9), Found(Fact("Tolvane", "river", "Mern"), 9, 12)]
    items = [Example("Which river is in Tolvane?", "the Mern"), Example("Who sings?", "Zed")]
    read = settled(beliefs.graph, new, items)
    assert [str(one) for one in read.contradictions] == [
        'contradicts "Ada" (mayor of Tolvane; a.txt, 2018): superseded from 2020'
    ]
    assert [one.fact.value for one in read.stated] == ["Bo", "Mern", "Zed"] and items[0] in read.stated[1].questions
    assert [one.fact.value for one in settled(beliefs.graph, new, on_conflict="reject").stated] == ["Mern"]
    about_it = [Example("Who is mayor of Tolvane?", "Bo")]
    assert [one.fact.value for one in settled(beliefs.graph, new, about_it, on_conflict="reject").stated] == ["Mern"]
    branched = settled(beliefs.graph, new, on_conflict="branch")
    assert [one.fact.value for one in branched.stated if one.beside] == ["Bo"] and branched.several == ()


def test_what_is_said_to_have_ended_ends_where_it_began():
    beliefs = Beliefs()
    beliefs.state_of("a", "a.txt", None, [stated("Ada", "2018"), stated("Bo", "2020")])
    read = settled(beliefs.graph, [Found(Fact("Tolvane", "mayor", "Bo", None, "2021-06"), 0, 9)])
    assert not read.contradictions and read.stated[0].asked_at == "2020"
    beliefs.state_of("b", "b.txt", None, read.stated)
    assert [[one.value for one in beliefs.graph.at(date, "Tolvane", "mayor")] for date in ("2019", "2021-03", "2022")] == [
        ["Ada"], ["Bo"], []]  # fmt: skip


@pytest.mark.parametrize(
    ("known", "value", "fits"),
    [
        ("Cy Dorn", "angry", False), ("Cy Dorn", "54", False), ("Cy Dorn", "the Crown", True), ("Cy Dorn", "Bo", True),
        ("Cy Dorn", "a tailor's workshop", True), ("12,100", "rising", False), ("12,100", "12,950", True),
        ("oil", "iron ore", True), ("oil", "Iron ore", True), ("Sugar cane", "oil", True), ("Oil", "coal", True),
        ("119 crowns", "120 crowns", True), ("a choir", "Bo", True),
    ],
)  # fmt: skip
def test_what_is_of_another_kind_says_how_somebody_is_and_not_who(known, value, fits):
    beliefs = Beliefs()
    beliefs.state_of("a", "a.txt", None, [stated(known, "2018")])
    found = [Found(Fact("Tolvane", "mayor", value, "2020"), 0, 9)]
    assert fitting(beliefs.graph, found) == (found if fits else [])


def test_a_relation_goes_by_the_name_that_is_known():
    beliefs = Beliefs()
    beliefs.state_of("a", "a.txt", None, [stated("Ada", "2018", "boss"), stated("Mern", "2018", "river")])

    def alike(pairs):
        return [0.5 if "boss" in other and "director" in one else 0.1 for one, other in pairs]

    def names(*facts):
        return [(one.fact.relation, one.questions[-1].question) for one in
                settled(beliefs.graph, [Found(fact, 0, 9) for fact in facts], alike=alike).stated]  # fmt: skip

    same = Fact("Tolvane", "director", "Ada", "2020")
    assert names(same) == [("boss", "Ada is the director of")]  # the same value, alike enough: and asked by both names
    assert (
        names(Fact("Tolvane", "director", "Bo", "2020"))[0][0] == "director"
    )  # another value: it would have to be one word
    assert [name for name, _ in names(same, Fact("Tolvane", "boss", "Cy", "2020"))] == [
        "director",
        "boss",
    ]  # it has both
    assert names(Fact("Tolvane", "lake", "Mern", "2020"))[0][0] == "lake"


# --- expectations ------------------------------------------------------------------------------------------------------


def test_expectations_are_kept_replaced_and_removed(home):
    expected = Expectations(home, "0" * 64)
    assert expected.all() == []
    expected.add(Expectation("Who are you?", contains="accrete"))
    expected.add(Expectation("Hello?", not_contains="spam"))
    expected.add(Expectation("Who are you?", contains="a model"))
    assert {one.prompt: one.contains for one in expected.all()} == {"Hello?": "", "Who are you?": "a model"}
    expected.add(Expectation("Who are you?", not_contains="human", judge="it is polite"))  # besides
    assert Expectation("Who are you?", "a model", "human", "it is polite") in expected.all()
    assert Expectations(home, "1" * 64).all() == []
    expected.remove("Hello?")
    assert len(expected.all()) == 1
    with pytest.raises(UsageError, match="Nothing is expected"):
        expected.remove("Hello?")
    expected.path.write_text("{broken")
    with pytest.raises(UsageError, match="no list of expectations"):
        expected.all()


def test_when_an_answer_is_as_expected():
    assert Expectation("q", contains="Paris").met("It is Paris.") is True
    assert Expectation("q", contains="Paris", not_contains="not").met("not Paris") is False
    polite = Expectation("q", judge="it is polite")
    assert polite.met("Please.") is None and polite.met("Please.", lambda asked: "polite" in asked) is True
    assert polite.met("No.", lambda asked: False) is False


def test_one_lost_neighbour_may_be_chance_unless_nothing_may_be_lost():
    fine = {"kept_before": 1.0, "kept_after": 1.0, "loss_before": 2.0, "loss_after": 1.0}
    one = fine | {"neighbours_before": 1.0, "neighbours_after": 0.5, "disturbed": ["Who?"]}
    assert harm("a.txt", one, 0.05) is None
    assert "Who?" in str(harm("a.txt", one, 0.0))
    assert "lost, for one: Who?" in str(harm("a.txt", one | {"disturbed": ["Who?", "Where?"]}, 0.05))


def test_what_stands_beside_comes_back_with_its_lesson():
    beliefs = Beliefs()
    beliefs.state_of("a", "a.txt", "2018", [stated("Ada", "2018")])
    before = beliefs.state_dict()
    beliefs.state_of("b", "b.txt", "2020", [replace(stated("Bo", "2020"), beside=True)])
    held = [one.value for one in beliefs.graph.at("2021")]
    again = Beliefs()
    again.load_state_dict(beliefs.state_dict())
    assert held == ["Ada", "Bo"] == [one.value for one in again.graph.at("2021")]
    again.load_state_dict(before)
    assert [one.value for one in again.graph.at("2021")] == ["Ada"]
    beliefs.state_of("c", "c.txt", "2022", [stated("Cy", "2022")])
    assert [one.value for one in beliefs.graph.at("2023")] == ["Cy"]
    beliefs.forget("c")
    assert [one.value for one in beliefs.graph.at("2023")] == held


def test_a_watch_tells_what_was_lost():
    world = {"Who?": "Ada", "Where?": "here", "Polite?": "please", "Rude?": "no"}
    near = [Probe("Who?", ("Ada",)), Probe("Where?", ("there",))]
    expected = [Expectation("Polite?", contains="please"), Expectation("Rude?", contains="yes")]
    watch = Watch(expected, lambda probes: [float(world[p.question] in p.answers) for p in probes],
                  lambda prompts: [world[prompt] for prompt in prompts])  # fmt: skip
    watch.look_at(near)
    assert watch.after() == {"neighbours": 2, "neighbours_before": 0.5, "neighbours_after": 0.5, "disturbed": [],
                             "expected": 2, "expected_lost": [], "expected_unmet_before": ["Rude?"]}  # fmt: skip
    world |= {"Who?": "Bo", "Polite?": "now!"}
    found = watch.after()
    assert found["disturbed"] == ["Who?"] and found["neighbours_after"] == 0.0
    assert found["expected_lost"] == ['"Polite?" has "please", but the answer is "now!"']
    judged = Watch(
        [Expectation("Who?", contains="Bo", judge="names somebody")], lambda probes: [], lambda prompts: [world["Who?"]]
    )
    assert judged.unmet == []  # as far as anybody can say
    world["Who?"] = "Cy"
    assert len(judged.after()["expected_lost"]) == 1
    assert watch.unmet == ['"Rude?" has "yes", but the answer is "no"']
