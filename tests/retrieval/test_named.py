"""Whom a question names, and how much of that a text speaks of."""

import pytest
import torch

from accrete.retrieval.names import asked, capitalised, marks, spoken_of


def share(question: str, text: str, weigh=lambda word: 1.0) -> float:
    said = marks(spoken_of(text))
    return float(asked(question, weigh).shares(said, torch.tensor([len(said)])))


@pytest.mark.parametrize(
    ("question", "text", "expected"),
    [
        ("Who keeps the lighthouse of Norvik?", "The lighthouse of NORVIK is old.", 1.0),
        ("Who keeps the lighthouse of Norvik?", "The lighthouse of Zorvania is old.", 0.0),
        ("Who wrote the Green Elmholm?", "A green book.", 0.25),  # half of a name, squared
        ("Did Anna meet Zeno?", "Anna was there.", 0.5),
        ("who keeps it?", "Anything.", 1.0),  # nobody is named
        ("Who keeps Norvik's lighthouse?", "It is in Norvik.", 1.0),
        ("Wer wohnt in Köln?", "Koeln liegt am Rhein.", 0.0),
        ("Wer wohnt in Köln?", "KÖLN liegt am Rhein.", 1.0),
    ],
)
def test_a_text_speaks_of_so_much_of_what_is_named(question, text, expected):
    assert share(question, text) == pytest.approx(expected)


def test_a_rare_name_weighs_more_than_a_common_one():
    assert share("Was Zorvania in May?", "It was May.", lambda word: 3.0 if word[0] == "z" else 1.0) < 0.3


def test_the_shares_of_several_texts_are_their_own():
    texts = ["Norvik", "", "nobody", "Norvik and Elmholm"]
    said = [marks(spoken_of(text)) for text in texts]
    names = asked("Is Norvik near Elmholm?", lambda word: 1.0)
    assert names.shares(torch.cat(said), torch.tensor([len(one) for one in said])).tolist() == [0.5, 0.0, 0.0, 1.0]


def test_of_a_long_text_what_has_capitals_is_kept_and_all_of_one_without():
    assert capitalised("The keeper of Norvik has 3 boats.") == ["the", "norvik", "3"]
    assert capitalised("the keeper of norvik") == spoken_of("the keeper of norvik")


def test_marks_stay_the_same_and_differ():
    assert marks(["norvik", "elmholm"]).tolist() == marks(["norvik", "elmholm"]).tolist()
    assert len(set(marks(map(str, range(10_000))).tolist())) == 10_000
