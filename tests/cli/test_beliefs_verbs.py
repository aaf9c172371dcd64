"""facts, history, why, expect, and what learn says of contradictions. Ends at the command line."""

from __future__ import annotations

import datetime
import json
import os
from dataclasses import replace
from types import SimpleNamespace

import pytest
import typer
from conftest import tiny_lm
from typer.testing import CliRunner

from accrete.cli.lessons import ask_about
from accrete.cli.main import app
from accrete.cli.session import Session, Ticker
from accrete.facts.contradiction import contradictions
from accrete.facts.graph import FactGraph
from accrete.types import Fact


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder, lm = tmp_path_factory.mktemp("models") / "tiny", tiny_lm(layers=1)
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def call(model, home, tmp_path):
    """Runs a verb of versioned memory; facts are read by rules, and an epoch is enough: what is learned is not looked at."""

    def run(*arguments, code=0, form="--json"):
        common = [
            "--model",
            model,
            "--home",
            home,
            "--method",
            "versioned_memory",
            "--offline",
            form,
            "--set",
            "layers=0",
        ]
        common += ["--set", "max_epochs=1"]
        found = CliRunner().invoke(app, [str(part) for part in (*arguments, *common) if part])
        assert found.exit_code == code, found.output
        if code:
            return found.stderr.strip()
        return json.loads(found.stdout.splitlines()[-1]) if form else found.stdout

    for name, since, mayor in (("old", "2018", "Tolva Griek"), ("new", "2020", "Bruno Asti")):
        (tmp_path / f"{name}.txt").write_text(
            f"In {since}, the mayor of Vonnat is {mayor}. The river of Vonnat is the Mern."
        )
    return run


@pytest.fixture
def learned(call, tmp_path):
    for name in ("old", "new"):
        commit = call("learn", tmp_path / f"{name}.txt", "--facts", "rules", "--max-forgetting", 1)
    return commit


def test_learn_says_what_is_contradicted(learned, call, tmp_path):
    assert learned["contradictions"] == [
        'contradicts "Tolva Griek" (mayor of Vonnat; old.txt, 2018): superseded from 2020'
    ]
    call("undo")
    rules = "--facts", "rules", "--max-forgetting", 1
    assert 'contradicts "Tolva Griek"' in call("learn", tmp_path / "new.txt", *rules, form="")
    call("undo")
    rejected = call("learn", tmp_path / "new.txt", *rules, "--on-conflict", "reject")
    assert rejected["facts"] == 1 and [row["value"] for row in call("history", "Vonnat", "mayor")] == ["Tolva Griek"]
    call("undo")
    assert "needs a terminal" in call("learn", tmp_path / "new.txt", *rules, "--on-conflict", "ask", code=2)
    assert "--on-conflict cannot be" in call("learn", tmp_path / "new.txt", "--on-conflict", "superseed", code=2)
    assert "--facts cannot be" in call("learn", tmp_path / "new.txt", "--facts", "modell", code=2)


def test_learn_says_what_it_read_and_what_it_did_not(call, tmp_path):
    said = [
        f"In 20{year}, the mayor of Vonnat is {name}."
        for year, name in enumerate("Al Bo Cy Di Ed Flo Gus Hal Ida Jo".split(), 10)
    ]
    (tmp_path / "long.txt").write_text(
        "# Vonnat\n" + " ".join([*said, "Everybody loved them. The river of Vonnat is the Mern."])
    )
    arguments = tmp_path / "long.txt", "--facts", "rules", "--max-forgetting", 1, "--date", "May 2009"
    shown = call("learn", *arguments, form="")
    assert "facts that were read: 11" in shown and "   mayor of Vonnat: Al (from 2010 until 2011)\n" in shown
    assert "   and 3 more (accrete facts)" in shown
    assert "   sentences of which nothing was read: 1, the first: Everybody loved them." in shown
    assert "counts from May 2009 on, as was said (--date)" in shown
    call("undo")
    found = call("learn", *arguments)
    assert len(found["stated"]) == 8 and found["unread"] == {"count": 1, "first": ["Everybody loved them."]}


def test_ask_says_where_its_answer_is_not_what_is_believed(learned, call):
    """A slot that was taught for one epoch says nothing well."""
    found = call("ask", "What is the mayor of Vonnat?")
    assert found["believed"] == ["Bruno Asti"] and found["answer"] != "Bruno Asti"
    assert "   what is believed: Bruno Asti\n" in call("ask", "What is the mayor of Vonnat?", form="")
    assert "not quite what was answered" in call("why", "What is the mayor of Vonnat?", form="")
    assert call("ask", "Who sings?")["believed"] == [] and "is believed" not in call("ask", "Who sings?", form="")


def test_learn_says_until_when_what_is_older_held(call, tmp_path):
    rules = "--facts", "rules", "--max-forgetting", 1
    call("learn", tmp_path / "new.txt", *rules)
    assert (
        call("learn", tmp_path / "old.txt", *rules)["stated"][0]
        == "mayor of Vonnat: Tolva Griek (from 2018 until 2020)"
    )


def test_a_time_of_which_nothing_is_known_is_said_with_what_is_known(learned, call):
    found = call("ask", "What is the mayor of Vonnat?", "--as-of", "2011")
    assert found["believed"] == [] and found["of_another_time"] == "mayor of Vonnat: Tolva Griek (from 2018 until 2020)"
    shown = call("why", "What is the mayor of Vonnat?", "--as-of", "2011", form="")
    assert "nothing is known of that time; of another: mayor of Vonnat: Tolva Griek (from 2018 until 2020)" in " ".join(
        shown.split()
    )
    assert call("ask", "What is the mayor of Vonnat?")["of_another_time"] is None


def test_history_says_what_is_said_again_and_what_was_replaced(learned, call, tmp_path):
    end = tmp_path / "end.txt"
    end.write_text("On 3 May 2023, Bruno Asti stepped down as mayor of Vonnat.")
    call("learn", end, "--facts", "rules", "--max-forgetting", 1)
    shown = [line.split("  ") for line in call("history", "Vonnat", "mayor", form="").splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()][2:5] for line in shown if "mayor" in "".join(line)]
    assert cells == [
        ["Tolva Griek", "2018", "2020"],
        ["Bruno Asti", "2020", "said again below"],
        ["Bruno Asti", "2020", "2023-05-03"],
    ]
    (tmp_path / "other.txt").write_text("In 2020, the mayor of Vonnat is Eve Holt.")
    call("learn", tmp_path / "other.txt", "--facts", "rules", "--max-forgetting", 1, "--date", "2024")
    assert "replaced at once" in call("history", "Vonnat", "mayor", form="")


def test_a_question_about_a_time_has_all_that_held_then(learned, call):
    found = call("why", "Who was the mayor of Vonnat between 2019 and 2021?")
    assert found["believed"] == ["Tolva Griek", "Bruno Asti"] and found["as_of"] == "2019/2021"
    assert "as of 2019 to 2021" in call("why", "Who was the mayor of Vonnat between 2019 and 2021?", form="")


@pytest.mark.parametrize("order", [("early", "late"), ("late", "early")])
def test_of_documents_without_dates_the_file_that_was_written_later_is_believed(call, tmp_path, order):
    for name, mayor, written in (("early", "Ann Bly", (2020, 3, 1)), ("late", "Cy Dorn", (2022, 5, 9))):
        (tmp_path / f"{name}.txt").write_text(f"The mayor of Pitholm is {mayor}.")
        seconds = datetime.datetime(*written).timestamp()
        os.utime(tmp_path / f"{name}.txt", (seconds, seconds))
    for name in order:
        said = call("learn", tmp_path / f"{name}.txt", "--facts", "rules", "--max-forgetting", 1, form="")
        since = {"early": "1 March 2020", "late": "9 May 2022"}[name]
        assert f"none of them has a date, so from {since} on, when the file was written (--date says otherwise)" in said
    assert ('contradicts "Ann Bly"' in said) == (order[1] == "late")
    assert [row["value"] for row in call("facts", "Pitholm")] == ["Cy Dorn"]
    assert [row["value"] for row in call("facts", "Pitholm", "--as-of", "2021")] == ["Ann Bly"]
    assert call("facts", "Pitholm", "--as-of", "2019") == []


@pytest.mark.parametrize("verb", [("ask", "Who?"), ("why", "Who?"), ("facts", "Pitholm")])
def test_a_wrong_date_is_told_before_any_model_is_loaded(call, monkeypatch, tmp_path, verb):
    monkeypatch.setattr(Session, "learner", lambda *told, **named: pytest.fail("the model was loaded"))
    for date in ("31 February 2020", "2020-13"):
        assert "is no date" in call(*verb, "--as-of", date, code=2)
    (tmp_path / "one.txt").write_text("The mayor of Pitholm is Ann Bly.")
    assert '"2020-13" is no date' in call("learn", tmp_path / "one.txt", "--date", "2020-13", code=2)


def test_facts_and_history_know_dates(learned, call):
    assert call("facts") == [{"subject": "Vonnat", "statements": 4}]
    now = {row["relation"]: row["value"] for row in call("facts", "Vonnat")}
    assert now == {"mayor": "Bruno Asti", "river": "the Mern"}
    then = {row["relation"]: row["value"] for row in call("facts", "Vonnat", "--as-of", "2019")}
    assert then == {"mayor": "Tolva Griek", "river": "the Mern"}
    assert [
        (row["value"], row["from"], row["until"], row["document"]) for row in call("history", "Vonnat", "mayor")
    ] == [
        ("Tolva Griek", "2018", "2020", "old.txt"),
        ("Bruno Asti", "2020", None, "new.txt"),
    ]
    assert "Tolva Griek" in call("history", "Vonnat", form="") and "Vonnat" in call("facts", form="")
    assert 'Did you mean "Vonnat"?' in call("facts", "Vonat", code=2)
    assert 'Did you mean "mayor"?' in call("history", "Vonnat", "major", code=2)
    assert "is no date" in call("facts", "Vonnat", "--as-of", "soon", code=2)


def test_why_names_facts_documents_and_lessons(learned, call):
    found = call("why", "As of 2019, what is the mayor of Vonnat?")
    (row,) = found["statements"]
    assert (row["value"], row["document"], row["start"]) == ("Tolva Griek", "old.txt", 0) and row["lesson"]
    assert found["as_of"] == "2019" and found["asked_as"]
    assert call("why", "What is the mayor of Vonnat?", "--as-of", "2018")["statements"][0]["value"] == "Tolva Griek"
    assert call("why", "Who sings?")["statements"] == [] and "nothing that was learned says it" in call(
        "why", "Who sings?", form=""
    )
    assert "taken for" in call("why", "What is the mayor of Vonnat?", form="")
    assert "is empty" in call("why", " ", code=1)


def test_before_anything_is_believed(call):
    assert call("facts") == [] and "Nothing is believed yet" in call("facts", form="")
    for verb in ("history", "facts"):
        assert "versioned_memory has read no facts here" in call(verb, "Vonnat", code=2)


def test_what_is_expected_is_said_listed_and_taken_back(call):
    assert call("expect") == [] and "Nothing is expected yet" in call("expect", form="")
    (row,) = call("expect", "Who are you?", "--not-contains", "spam")
    assert row["met"] is True and row["answer"] is not None
    (row,) = call("expect", "Who are you?", "--contains", "the one and only")
    assert row["met"] is False and "NOT MET" in call("expect", form="")
    assert "Say what is expected" in call("expect", "Hello?", code=2)
    assert call("expect", "Who are you?", "--remove") == {"removed": "Who are you?"} and call("expect") == []
    assert "Nothing is expected of" in call("expect", "Who are you?", "--remove", code=2)


def test_who_is_asked_about_a_contradiction_is_asked_until_it_is_said(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    said = iter(("maybe", "Branch "))
    monkeypatch.setattr(typer, "prompt", lambda *told, **options: next(said))
    with FactGraph() as graph:
        graph.add(Fact("Vonnat", "mayor", "Ada", "2018"))
        (found,) = contradictions(graph, [Fact("Vonnat", "mayor", "Bo", "2020-03")])
    assert ask_about(Ticker("new.txt"), replace(found, decided="ask")) == "branch"
    shown = capsys.readouterr().err
    assert 'contradicts "Ada" (mayor of Vonnat; 2018)\n   new: Bo, from March 2020 on\n' in shown
    assert '"maybe" is none of them.' in shown and "superseded" not in shown


def test_a_beginning_is_forgotten_with_the_document_that_said_it(call, tmp_path):
    """A document that says an end alone has its beginning from another, and names both while that is there."""
    rules = "--facts", "rules", "--max-forgetting", 1
    (tmp_path / "first.txt").write_text("The harbourmaster of Wexport is Abel Roe.")
    (tmp_path / "then.txt").write_text("The harbourmaster of Wexport is Lena Orr.")
    (tmp_path / "end.txt").write_text("In 2021, Lena Orr stepped down as harbourmaster of Wexport.")
    call("learn", tmp_path / "first.txt", *rules, "--date", "2010")
    call("learn", tmp_path / "then.txt", *rules, "--date", "2015-04-01")
    said = call("learn", tmp_path / "end.txt", *rules)
    assert said["stated"] == ["harbourmaster of Wexport: Lena Orr (from 1 April 2015 until 2021)"]
    assert "contradictions" not in said
    asked = "What is the harbourmaster of Wexport?", "--as-of", "2018"
    found = call("why", *asked)
    assert [(row["document"], row["from"]) for row in found["statements"]] == [
        ("then.txt", "2015-04-01"),
        ("end.txt", "2015-04-01"),
    ]
    assert call("why", *asked[:1])["of_another_time"] == said["stated"][0]
    assert len(call("ask", *asked)["sources"]) == 2
    call("forget", "then.txt")
    terms = [(row["value"], row["from"], row["until"]) for row in call("history", "Wexport")]
    assert terms == [("Abel Roe", "2010", "2021"), ("Lena Orr", None, "2021")]
    assert call("why", *asked)["believed"] == ["Abel Roe", "Lena Orr"]  # nobody says any more since when
    assert call("ask", *asked)["since_unknown"] == ["harbourmaster of Wexport: Lena Orr (until 2021)"]
    for verb in ("ask", "why"):
        assert "nobody says since when: harbourmaster of Wexport: Lena Orr (until 2021)" in call(verb, *asked, form="")
    call("undo")
    assert call("why", *asked)["believed"] == ["Lena Orr"]


def test_an_end_alone_contradicts_who_held_before_it(call, tmp_path):
    rules = "--facts", "rules", "--max-forgetting", 1
    (tmp_path / "first.txt").write_text("The harbourmaster of Wexport is Abel Roe.")
    (tmp_path / "end.txt").write_text("In 2021, Lena Orr stepped down as harbourmaster of Wexport.")
    call("learn", tmp_path / "first.txt", *rules, "--date", "2010")
    said = call("learn", tmp_path / "end.txt", *rules)
    assert said["contradictions"] == [
        'contradicts "Abel Roe" (harbourmaster of Wexport; first.txt, 2010): over before 2021, when "Lena Orr" ended;'
        " nobody says when that began"
    ]


def test_what_is_rejected_whole_is_in_the_log(call, tmp_path):
    rules = "--facts", "rules", "--max-forgetting", 1
    call("learn", tmp_path / "old.txt", *rules)
    (tmp_path / "una.txt").write_text("In 2021, the mayor of Vonnat is Una Kedge.")
    refused = call("learn", tmp_path / "una.txt", *rules, "--on-conflict", "reject", code=2)
    assert refused.endswith(
        'Nothing of una.txt is taken (on conflict: reject): "Una Kedge" contradicts "Tolva Griek" (mayor of Vonnat; old.txt,'
        " 2018)."
    )
    assert [("refused" in row, row["document"]) for row in call("log")] == [(True, "una.txt"), (False, "old.txt")]
    assert "refused una.txt" in call("log", form="")
    assert "Nothing of una.txt is taken" in call("show", call("log")[0]["commit"], form="")


def test_undo_and_forget_say_what_is_not_as_expected_any_more(learned, call):
    call("expect", "What is the river of Vonnat?", "--contains", "Mern")
    undone = call("undo")
    assert undone["expected_unmet"] == [] and undone["commit"] == call("log")[1]["commit"]
    (lost,) = call("forget", "old.txt")["expected_unmet"]
    assert lost.startswith('"What is the river of Vonnat?" has "Mern", but the answer is "')
    assert "not as expected now" not in call("undo", form="")
    shown = call("undo", form="")
    assert "the state is again that before any lesson, bit for bit" in shown and "not as expected now: " in shown


def test_forget_says_that_another_document_of_the_name_is_there(learned, call, tmp_path):
    (tmp_path / "old.txt").write_text("In 2018, the mayor of Vonnat is Eve Holt.")
    first = call("log")[1]["commit"]
    call("learn", tmp_path / "old.txt", "--facts", "rules", "--max-forgetting", 1)
    assert f"another lesson of old.txt is still there: {first}" in call("forget", tmp_path / "old.txt", form="")


def test_expectations_are_shown_and_say_what_is_missing(call):
    call("expect", "Who?", "--judge", "is polite")
    assert "Say of which prompt" in call("expect", "--contains", "Ada", code=2)
    assert "Say of which prompt" in call("expect", "--remove", code=2)
    assert "Say what is expected" in call("expect", "Where?", code=2)
    assert [row["prompt"] for row in call("expect", "Who?")] == ["Who?"]
    assert "not judged (no teacher)" in call("expect", form="")
