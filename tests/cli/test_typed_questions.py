"""Questions typed in or piped in: by turns, up to an empty line; what will not do is asked again or named."""

import io
import json
import sys

import pytest

from accrete.cli import typed_questions
from accrete.cli.session import Session
from accrete.errors import DocumentError, UsageError


class Keyboard(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def document(tmp_path):
    path = tmp_path / "notes" / "note.txt"
    path.parent.mkdir()
    path.write_text("The lighthouse of Norvik was built in 1874. Edda Kolm keeps it.")
    return path


@pytest.fixture
def ask(document, home, monkeypatch):
    """The rows that come of what is typed, or piped."""

    def ask(text, terminal=False):
        monkeypatch.setattr(sys, "stdin", Keyboard(text) if terminal else io.StringIO(text))
        path = typed_questions.questions_about(document, Session(home=home))
        return [tuple(json.loads(line).values()) for line in path.read_text().splitlines()]

    return ask


@pytest.mark.parametrize("terminal", [True, False])
def test_questions_and_answers_by_turns_and_an_empty_line_ends(ask, terminal, capsys):
    rows = ask("Who keeps it?\nEdda Kolm\n  When was it built? \n1874\n\nnot read\nat all\n", terminal)
    assert rows == [("Who keeps it?", "Edda Kolm"), ("When was it built?", "1874")]
    printed = capsys.readouterr()
    assert printed.out == "" and "asks them again" in printed.err
    assert ("question 2: " in printed.err) == terminal


def test_on_a_terminal_what_will_not_do_is_asked_again(ask, capsys):
    rows = ask("Who?\n\n \nEdda\nWho?\nbad\0\nWhen?\n1874\n\n", terminal=True)
    assert rows == [("Who?", "Edda"), ("When?", "1874")]
    said = capsys.readouterr().err
    assert said.count("A question needs its answer.") == 2
    assert "asked already" in said and "are no text" in said


def test_an_input_that_ends_in_the_middle_leaves_half_a_question_out(ask):
    assert ask("Who?\nEdda\nWhen?\n", terminal=True) == [("Who?", "Edda")]
    with pytest.raises(UsageError, match=r'Line 3 .*"When\?", is a question without an answer'):
        ask("Who?\nEdda\nWhen?\n")


@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_is_an_error_that_names_the_other_way(ask, terminal, home):
    with pytest.raises(UsageError, match=r"Nothing to ask: .*--probes"):
        ask("\n", terminal)
    assert not home.exists()


def test_a_probes_file_may_be_piped_in_as_it_is(ask):
    assert ask('{"question": "Who?", "answer": "Edda"}\n{"question": "When?", "answer": "1874"}\n') == [
        ("Who?", "Edda"),
        ("When?", "1874"),
    ]


def test_what_is_piped_in_must_be_text(ask, document, home, monkeypatch):
    with pytest.raises(DocumentError, match="Line 2 of what was piped in"):
        ask("Who?\nEd\0da\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Who?\nEdda\xff\n"), "utf-8"))
    with pytest.raises(DocumentError, match="not UTF-8"):
        typed_questions.questions_about(document, Session(home=home))


def test_probes_beside_the_document_are_taken_and_nothing_is_read(ask, document, home, monkeypatch):
    beside = document.parent / "probes.jsonl"
    beside.write_text('{"question": "Who?", "answer": "Edda Kolm"}\n')
    monkeypatch.setattr(sys, "stdin", None)
    assert typed_questions.questions_about(document, Session(home=home)) == beside


def test_a_document_that_cannot_be_read_is_said_before_anything_is_asked(home, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    (tmp_path / "empty.txt").write_text(" ")
    for name, said in (("no.txt", "There is no file"), ("empty.txt", "is empty")):
        with pytest.raises(DocumentError, match=said):
            typed_questions.questions_about(tmp_path / name, Session(home=home))
