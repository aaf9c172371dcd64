"""What items say beside the text that they come with."""

from __future__ import annotations

import pytest

from accrete.facts.graph import FactGraph
from accrete.facts.questions import AS_ASKED
from accrete.facts.reading import settled
from accrete.types import Example, Fact


@pytest.fixture
def graph():
    with FactGraph() as made:
        made.add(Fact("Norvik", "mayor", "Ola Brandt", "2018"))
        made.add(Fact("Norvik", "mayor", "Siv Hauge", "2021"))
        yield made


@pytest.mark.parametrize(
    ("question", "answer", "fact"),
    [
        ("Who is the mayor of Norvik?", "Karl Nord", Fact("Norvik", "mayor", "Karl Nord", "2024")),
        ("What is Norvik's motto?", "Salt and patience.", Fact("Norvik", "motto", "Salt and patience.", "2024")),
        ("What is the motto of Norvik?", "North and true", Fact("Norvik", "motto", "North and true", "2024")),
        ("What are the colours of Norvik?", "red", Fact("Norvik", "colours", "red", "2024")),
        ("Who keeps the lighthouse of Norvik?", "Pia Lund", None),
        ("Who was the mayor of Norvik in 2019?", "Ola Brandt", None),  # a date of its own
        ("What is Norvik's motto?", "The motto is salt and patience.", None),  # a sentence
        ("Who is the mayor of Norvik?", "Nobody", None),
        ("Who is he?", "Karl Nord", None),
    ],
)
def test_an_item_is_about_what_it_plainly_asks_for(graph, question, answer, fact):
    (stated,) = settled(graph, [], [Example(question, answer)], date="2024").stated
    assert stated.fact == (fact or Fact(question, AS_ASKED, answer, "2024"))
    assert (question, answer) in {(item.question, item.answer) for item in stated.questions}


def test_an_item_contradicts_what_a_text_has_said(graph):
    item = Example("Who is the mayor of Norvik?", "Karl Nord")
    read = settled(graph, [], [item], date="2024")
    assert [(found.old.value, found.new.value) for found in read.contradictions] == [("Siv Hauge", "Karl Nord")]
    assert not settled(graph, [], [item], date="2024", on_conflict="reject").stated
