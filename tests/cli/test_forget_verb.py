"""The verb forget, and dates: what is taken out, when it counts, and what cannot be done. Ends at the command line."""

from __future__ import annotations

import json

import pytest
from conftest import tiny_lm
from typer.testing import CliRunner

from accrete.cli.main import app


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder, lm = tmp_path_factory.mktemp("models") / "tiny", tiny_lm(layers=1)
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def call(model, home, tmp_path):
    def run(*arguments, method="retrieve", code=0):
        common = ["--model", model, "--home", home, "--method", method, "--offline", "--json"]
        found = CliRunner().invoke(app, [str(part) for part in (*arguments, *common)])
        assert found.exit_code == code, found.output
        return json.loads(found.stdout.splitlines()[-1]) if code == 0 else found.stderr.strip()

    for name, mayor in (("old", "Tolva Griek"), ("new", "Bruno Asti")):
        (tmp_path / f"{name}.txt").write_text(f"The mayor of Vonnat is {mayor}. The town of Vonnat likes {mayor}.")
    return run


def read(answer) -> list[str]:
    return [source["document"] for source in answer["sources"]]


@pytest.mark.parametrize("told", ["file", "name", "commit"])
def test_a_document_is_taken_out_and_comes_back_by_undo(call, tmp_path, told):
    learned = [call("learn", tmp_path / f"{name}.txt") for name in ("old", "new")]
    names = {"file": tmp_path / "old.txt", "name": "old.txt", "commit": learned[0]["commit"][:6]}
    probes = tmp_path / "probes.jsonl"
    probes.write_text('{"question": "Who is the mayor of Vonnat?", "answers": ["Tolva Griek"]}\n')
    without = call("forget", names[told], "--probes", probes)
    assert without["document"] == "without old.txt" and without["probes"] == 1 and without["probes_after"] is not None
    assert read(call("ask", "Who is the mayor of Vonnat?")) == ["new.txt"]
    assert call("learn", tmp_path / "new.txt")["already_learned"]
    assert "Nothing that is known here is called" in call("forget", names["name"], code=1)
    again = call("learn", tmp_path / "old.txt")
    assert not again["already_learned"] and sorted(read(call("ask", "Who is the mayor of Vonnat?"))) == [
        "new.txt",
        "old.txt",
    ]
    call("undo"), call("undo")
    assert sorted(read(call("ask", "Who is the mayor of Vonnat?"))) == ["new.txt", "old.txt"]


def test_the_state_without_a_document_is_that_of_never_having_read_it(call, tmp_path):
    alone = call("learn", tmp_path / "new.txt")["digest_after"]
    call("undo")
    call("learn", tmp_path / "old.txt"), call("learn", tmp_path / "new.txt")
    assert call("forget", "old.txt")["digest_after"] == alone


def test_two_documents_of_one_name_are_told_apart_by_their_commits(call, tmp_path):
    first = call("learn", tmp_path / "old.txt")
    (tmp_path / "old.txt").write_text("The mayor of Vonnat is nobody at all.")
    call("learn", tmp_path / "old.txt")
    said = call("forget", "old.txt", code=1)
    assert "More than one" in said and first["commit"] in said and said.count("\n") == 0
    call("forget", first["commit"])
    assert len(read(call("ask", "Who is the mayor of Vonnat?"))) == 1


def test_a_method_that_cannot_says_so(call, tmp_path):
    said = call("forget", "old.txt", method="full_finetune", code=2)
    assert said == "accrete: full_finetune cannot take one document out; undo takes back the last lesson."


def test_what_is_of_a_later_date_is_not_read(call, tmp_path):
    call("learn", tmp_path / "old.txt", "--date", "2018"), call("learn", tmp_path / "new.txt", "--date", "2021-05")
    asked = "Who is the mayor of Vonnat?"
    assert read(call("ask", asked, "--as-of", "2017")) == []
    assert read(call("ask", asked, "--as-of", "2021-04")) == ["old.txt"]
    assert sorted(read(call("ask", asked, "--as-of", "2021-05-01"))) == ["new.txt", "old.txt"]
    assert "is no date" in call("ask", asked, "--as-of", "yesterday", code=2)
    assert "is no date" in call("learn", tmp_path / "new.txt", "--date", "5/2021", code=2)


def test_forgetting_tells_of_lessons_and_not_of_what_was_loaded_or_taken_out(call, model, home, tmp_path):
    """Commits that are no lessons have no figures of a lesson: the last known ones are shown, and what came since."""
    call("learn", tmp_path / "old.txt")
    before = call("forgetting")
    call("save", "mark")
    call("learn", tmp_path / "new.txt")
    call("load", "mark"), call("learn", tmp_path / "new.txt"), call("forget", "old.txt")
    found = call("forgetting")
    assert (before["lessons"], found["lessons"]) == (1, 3) and before["since"] == []
    assert [row["what"] for row in found["since"]] == ["without old.txt"]
    assert found["last"]["tokens"] and found["worst"] and found["domains"][0]["lessons"] == 3
    told = CliRunner().invoke(
        app, ["forgetting", "--model", str(model), "--home", str(home), "--method", "retrieve", "--offline"]
    )
    assert told.exit_code == 0 and "default: 3 lessons, guard questions kept" in told.stdout
    assert "since then: without old.txt" in told.stdout
    for _ in range(5):
        call("undo")
    call("load", "mark")
    found = call("forgetting")
    assert (found["lessons"], found["domains"], [row["what"] for row in found["since"]]) == (0, [], ["checkpoint mark"])


@pytest.mark.parametrize(
    ("method", "known"), [("retrieve", "read: given.jsonl"), ("retrieve_logits", "from: given.jsonl")]
)
def test_an_answer_says_what_it_came_from_or_that_it_is_the_base_models(model, home, tmp_path, method, known):
    (tmp_path / "given.jsonl").write_text('{"question": "Who is the mayor of Vonnat?", "answer": "Tolva Griek"}\n')
    options = ["--model", model, "--home", home, "--method", method, "--offline"]
    options += ["--set", "sure=0.0"] if method == "retrieve_logits" else []

    def say(*arguments) -> str:
        found = CliRunner().invoke(app, [str(part) for part in (*arguments, *options)])
        assert found.exit_code == 0, found.output
        return found.stdout

    say("learn", tmp_path / "given.jsonl")
    assert known in say("ask", "Who is the mayor of Vonnat?")
    assert "from: the base model; nothing that was learned says it" in say("ask", "Who is the mayor of Zorvania?")
