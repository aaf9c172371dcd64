"""chat, fed through standard input: questions and commands, and nothing that is typed ends it but /quit and the end."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from conftest import tokenizer
from transformers import AutoTokenizer
from typer.testing import CliRunner

from accrete import Learner, reader
from accrete.cli.main import app

METHOD = "lora_replay_ewc"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The tokenizer is read once, and guard questions are answered in a few tokens."""
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *_, **__: tokenizer())
    monkeypatch.setattr(reader, "SENTINEL_TOKENS", 4)


@pytest.fixture
def talk(model_directory, home, monkeypatch):
    """Run `accrete chat` on these lines."""
    monkeypatch.setenv("ACCRETE_MAX_FORGETTING", "1")

    def run(*lines, options=()):
        common = ["--model", str(model_directory), "--home", str(home), "--method", METHOD, "--offline"]
        command = ["chat", *common, "--set", "max_steps=1", "--max-new-tokens", "8", *options]
        return CliRunner().invoke(app, command, input="".join(f"{line}\n" for line in lines))

    return run


@pytest.fixture
def learner(model_directory, home):
    """What the home holds now, read by another learner."""
    return lambda: Learner(str(model_directory), method=METHOD, home=home, offline=True)


@pytest.fixture
def document(tmp_path):
    path = tmp_path / "a document.jsonl"
    rows = [{"question": f"What is part {i}?", "answer": f"Value {i}."} for i in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_question_is_answered_as_ask_answers_it(talk, learner):
    result = talk("What is part 1?", "", "   ", "Who built it?")
    assert (result.exit_code, result.stderr) == (0, "")
    asked = [learner().ask(question, max_new_tokens=8).text for question in ("What is part 1?", "Who built it?")]
    assert [line.strip() for line in result.stdout.splitlines()] == asked and all(asked)


def test_learn_log_undo(talk, learner, document):
    result = talk(f'/learn "{document}"', "/log", "What is part 1?", "/undo", "/log", "/undo")
    assert result.exit_code == 0
    assert "learned a document.jsonl as " in result.stdout and "undone: a document.jsonl (" in result.stdout
    assert "undone a " in result.stdout, "the second log shows it as undone"
    assert result.stderr.startswith("accrete: There is nothing to undo") and result.stderr.count("\n") == 1
    (commit,) = learner().log()
    assert commit.undone and commit.domain == "default"


def test_a_document_learned_in_chat_stays(talk, learner, document):
    assert talk(f"/learn '{document}'").exit_code == 0
    assert [commit.document for commit in learner().log()] == ["a document.jsonl"]
    assert "learned before" in talk(f"/learn '{document}'").stdout


def test_a_domain_is_chosen_and_left(talk, learner, document):
    result = talk(f"/learn '{document}'", "/domain default", "What is part 1?", "/domain", "/domain nowhere", "Who?")
    assert result.exit_code == 0
    assert "answering from default" in result.stdout and "answering from wherever it fits" in result.stdout
    assert 'no domain "nowhere"' in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/lern x.md", 'no command "/lern". Did you mean "learn"?'),
        ("/", 'no command "/"'),
        ("/learn", "wants the path"),
        ("/learn nowhere.md", "no file nowhere.md"),
        ("/learn 'half a quote", "No closing quotation"),
        ("/undo", "nothing to undo"),
        ("/domain ../x", "no domain"),
        ("word " * 3000, "reads at most"),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_the_talk_goes_on(talk, learner, line, words):
    result = talk(line, "What is part 1?")
    assert result.exit_code == 0 and words in result.stderr and result.stderr.count("\n") == 1
    assert result.stderr.startswith("accrete: ")
    assert result.stdout.strip() == learner().ask("What is part 1?", max_new_tokens=8).text


@pytest.mark.parametrize("end", ["/quit", "/exit"])
def test_it_ends_at_quit(talk, end):
    result = talk("/help", end, "What is part 1?")
    assert (
        result.exit_code == 0
        and "/learn PATH" in result.stdout
        and result.stdout.rstrip().endswith("end of input does)")
    )


def test_no_input_at_all(talk):
    result = talk()
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_an_interrupt_stops_the_answer_not_the_talk(talk, learner, monkeypatch):
    original, calls = Learner.stream_answer, []

    def stop(self, *arguments, **options):
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return original(self, *arguments, **options)

    monkeypatch.setattr(Learner, "stream_answer", stop)
    result = talk("What is part 1?", "What is part 1?")
    assert result.exit_code == 0 and "what was committed stands" in result.stderr
    assert result.stdout.strip() == learner().ask("What is part 1?", max_new_tokens=8).text


def test_it_is_for_people(talk):
    result = talk("Who?", options=["--json"])
    assert result.exit_code == 2 and "ask --json" in json.loads(result.stdout)["error"]


def test_bytes_that_are_no_text_are_one_sentence(model_directory, home):
    command = ["chat", "--model", str(model_directory), "--home", str(home), "--offline", "--max-new-tokens", "3"]
    result = CliRunner().invoke(app, command, input=b"Who \xff?\n/help\n")
    assert result.exit_code == 0 and "Internal error" not in result.stderr and "/learn PATH" in result.stdout


@pytest.mark.slow
def test_through_a_real_pipe(model_directory, home):
    command = [sys.executable, "-m", "accrete.cli.main", "chat", "--model", str(model_directory), "--home", str(home)]
    ran = subprocess.run([*command, "--offline"], input="/help\nWho?\n", capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0 and ran.stderr == "" and len(ran.stdout.splitlines()) >= 4
