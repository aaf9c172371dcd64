"""`accrete compare` and `accrete evaluate`: one table or one JSON object, a report, and one sentence for what is wrong."""

import json

import pytest
from typer.testing import CliRunner

from accrete.cli.main import app

KEYS = """method learned kept sentinels plasticity stability token_f1 versioned op bwt fwt forgetting floor ceiling kl_to_base
learn_seconds answer_seconds tokens bytes peak_mb error""".split()


def run(verb, *arguments, **environment):
    return CliRunner().invoke(app, [verb, *map(str, arguments)], env=environment)


def test_one_document_and_its_questions_in_a_process_of_its_own(model_directory, home, tmp_path):
    (tmp_path / "note.txt").write_text("The lighthouse of Norvik was built in 1874. Edda Kolm keeps it.")
    (tmp_path / "asked.jsonl").write_text(
        '{"question": "Who keeps the lighthouse of Norvik?", "answer": "Edda Kolm"}\n'
    )
    chosen = ("--document", tmp_path / "note.txt", "--probes", tmp_path / "asked.jsonl", "--methods", "full_finetune")
    settings = ("--model", model_directory, "--home", home, "--offline", "--out", tmp_path / "out")
    result = run("compare", *chosen, *settings, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["stream"], found["lessons"]) == ("documents", 1)
    (row,) = found["rows"]
    assert set(KEYS) <= set(row) and row["error"] is None and row["floor"] is not None and row["bwt"] is None
    assert result.stderr == ""  # --json says nothing on the way
    again = run("compare", *chosen, *settings)  # everything is there: nothing is measured anew
    assert again.exit_code == 0 and "full_finetune" in again.stdout and "report.html" in again.stdout
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Who keeps the lighthouse of Norvik?" in page
    assert not list((tmp_path / "out").rglob("*.home"))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "Name a stream with --stream"),
        (("--stream", "temporl"), 2, 'Did you mean "temporal"'),
        (("--stream", "identity", "--methods", "lora"), 2, 'There is no method "lora"'),
        (("--stream", "squad"), 1, "ACCRETE_DATA"),
        (("--stream", "identity", "--data", "/nowhere/at/all"), 1, "There is no file"),
        (("--stream", "identity", "--document", "x.txt"), 2, "takes the place of --stream"),
    ],
)
def test_what_is_wrong_is_one_sentence_before_anything_runs(home, arguments, code, said):
    result = run("compare", *arguments, "--home", home, ACCRETE_DATA="")
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr and result.stderr.count("\n") == 1
    assert not home.exists()


def test_evaluate_takes_the_method_of_the_settings(model_directory, home):
    result = run("evaluate", "--stream", "identity", "--home", home, "--model", model_directory, "--method", "none")
    assert result.exit_code == 2 and 'There is no method "none"' in result.stderr
