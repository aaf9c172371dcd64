"""The prompts of the tasks, and their answers written and read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accrete.lm import tasks
from accrete.lm.tasks import about, prompt, read_facts, read_pairs, write_facts, write_pairs
from accrete.types import Example, Fact

SAID = (
    st.text("aQA:é漢-1| .?", min_size=1, max_size=12).map(str.strip).filter(bool)
)  # what the marks of a line may be in
FIELD = st.text("aQA:é漢-1 .?", min_size=1, max_size=12).map(str.strip).filter(bool)
DATE = st.none() | FIELD.filter(lambda text: text != tasks.NOTHING)


@given(st.lists(st.builds(Example, SAID, SAID), max_size=5))
def test_pairs_are_read_as_they_were_written(pairs: list[Example]) -> None:
    assert read_pairs(write_pairs(pairs)) == pairs


@given(st.lists(st.builds(Fact, FIELD, FIELD, FIELD, DATE, DATE), max_size=5))
def test_facts_are_read_as_they_were_written(facts: list[Fact]) -> None:
    assert read_facts(write_facts(facts)) == facts


def test_what_the_lines_look_like() -> None:
    assert write_pairs([Example("Who?", "Ula"), Example("When: exactly?", "1984")]) == (
        "Q: Who?\nA: Ula\nQ: When: exactly?\nA: 1984"
    )
    assert write_facts([Fact("Ula", "price", "3 crowns", "2019"), Fact("Ula", "owner", "Lo", None, "May 2020")]) == (
        "Ula | price | 3 crowns | 2019 | -\nUla | owner | Lo | - | May 2020"
    )
    assert write_pairs([]) == write_facts([]) == ""


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("Here they are.\n\nQ: Who?\nA: Ula\nThat is all.", [("Who?", "Ula")]),
        ("  question : Who?\n  ANSWER : Ula  ", [("Who?", "Ula")]),
        ("Q: Who?\nQ: When?\nA: 1984", [("When?", "1984")]),  # the first was never answered
        ("A: Ula\nQ: Who?", []),
        ("Q: Who?\nA:\nA: Ula", []),  # an empty answer closes its question
        ("Q:\nA: Ula", []),
        ("Q: Who?\n\nA: Ula\nA: Lo", [("Who?", "Ula")]),
        ("Quote: Who?\nA: Ula", []),
        ("", []),
    ],
)
def test_pairs_in_what_a_model_wrote(text: str, pairs: list[tuple[str, str]]) -> None:
    assert [(pair.question, pair.answer) for pair in read_pairs(text)] == pairs


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("The facts:\nUla | price | 3 crowns | - | -\n\nDone.", [Fact("Ula", "price", "3 crowns")]),
        ("Ula|price|3 crowns", [Fact("Ula", "price", "3 crowns")]),
        ("Ula | price | 3 crowns | 2019", [Fact("Ula", "price", "3 crowns", "2019")]),
        ("Ula | price | 3 crowns |  | 2020", [Fact("Ula", "price", "3 crowns", None, "2020")]),
        ("Ula | price | | 2019 | -", []),
        ("Ula | price", []),
        ("a | b | c | d | e | f", []),
        ("", []),
    ],
)
def test_facts_in_what_a_model_wrote(text: str, facts: list[Fact]) -> None:
    assert read_facts(text) == facts


def test_a_prompt_is_the_instruction_an_empty_line_and_the_text() -> None:
    assert prompt(tasks.RESTATE, "Ula sails.\n\nLo sleeps.") == f"{tasks.RESTATE}\n\nUla sails.\n\nLo sleeps."
    assert about("Ula sails.", "Who sails?") == "Ula sails.\n\nWho sails?"
    assert about("Ula sails.", "Who sails?", instructed=True) == f"{tasks.ANSWER}\n\nUla sails.\n\nWho sails?"


def test_an_instruction_names_what_it_wants() -> None:
    assert f'"{tasks.NOT_STATED}"' in tasks.ANSWER
    assert all(mark in text for mark in ("Q:", "A:") for text in (tasks.WRITE_QUESTIONS, tasks.REVERSE))
    assert "subject | relation | value | from | until" in tasks.LIST_FACTS
    prompts = [tasks.ANSWER, tasks.CONTINUE, tasks.WRITE_QUESTIONS, tasks.REVERSE, tasks.RESTATE, tasks.LIST_FACTS]
    assert len(set(prompts)) == 6 and not any("\n" in text for text in prompts)
