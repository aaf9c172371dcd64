"""`accrete evaluate-base`: figures on stdout, progress on stderr, and one sentence for what is wrong."""

import json

import pytest
from typer.testing import CliRunner

from accrete.cli.main import app


def run(*arguments, **environment):
    return CliRunner().invoke(app, ["evaluate-base", *map(str, arguments)], env=environment)


@pytest.fixture
def measured(model_directory, home):
    return ("--model", model_directory, "--home", home, "--limit", 1, "--only", "in_context")


def test_json_holds_figures_and_nothing_else_is_on_stdout(measured):
    result = run(*measured, "--only", "closed_book", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert set(found) == {"model", "base_digest", "in_context", "closed_book", "n", "interval", "seconds"}
    assert found["n"] == {"in_context": 1, "closed_book": 1}
    assert [line.split()[0] for line in result.stderr.splitlines()] == ["in_context", "closed_book"]


def test_the_table_shows_value_bar_and_number(measured):
    result = run(*measured)
    (row,) = [line for line in result.stdout.splitlines() if line.strip().startswith("in_context")]
    assert row.split() == ["in_context", "0.000", "0.88", "(full", "0.95)", "1"]


def test_real_sets_are_left_out_with_a_word_or_looked_for_where_the_environment_says(measured, tmp_path):
    asked = (*measured, "--only", "squad_em")
    result = run(*asked, ACCRETE_DATA="")
    assert result.exit_code == 0 and "ACCRETE_DATA" in result.stderr and "squad" not in result.stdout
    for result in (run(*asked, ACCRETE_DATA=str(tmp_path / "no")), run(*asked, "--data", tmp_path / "no")):
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.count("\n") == 1 and str(tmp_path / "no") in result.stderr


def test_an_unknown_figure_is_refused_before_the_model_is_loaded():
    result = run("--only", "extraction_F1", "--model", "/nowhere")
    assert (result.exit_code, result.stdout) == (2, "")
    assert 'Did you mean "extraction_f1"' in result.stderr and result.stderr.count("\n") == 1


def test_no_model_is_one_sentence():
    result = run("--model", "/nowhere")
    assert result.exit_code == 1 and "/nowhere" in result.stderr and result.stderr.count("\n") == 1
