"""scripts/validate_jitrl.py: what it asks the comparison for, and what it says of the answer."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "validate_jitrl.py"
spec = importlib.util.spec_from_file_location("validate_jitrl", SCRIPT)
validate = importlib.util.module_from_spec(spec)
spec.loader.exec_module(validate)


def row(method, learned, error=None):
    figures = dict.fromkeys(("floor", "ceiling", "learn_seconds", "answer_seconds", "tokens"), 1.0)
    return {"method": method, "learned": learned, "error": error} | figures


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the script on made-up rows; gives the exit code, what was printed, and what was asked for."""

    def run(rows, *options):
        asked = []

        def app(arguments):
            asked.extend(arguments)
            print(json.dumps({"rows": rows} if rows else {"error": "no"}))
            raise SystemExit(0)

        monkeypatch.setattr(validate, "app", app)
        monkeypatch.setattr(sys, "argv", ["validate_jitrl.py", *options])
        return validate.main(), capsys.readouterr().out, asked

    return run


def test_two_of_three_are_enough(run):
    code, printed, _ = run([row("retrieve", 2 / 3), row("retrieve_logits", 1.0), row("full_finetune", 0.0)])
    assert code == 0 and "at least two of three" in printed and "0.67" in printed


@pytest.mark.parametrize("learned", [1 / 3, 0.0, None])
def test_fewer_fail_and_are_named(run, learned):
    code, printed, _ = run(
        [row("retrieve", 1.0), row("retrieve_logits", learned, "it broke" if learned is None else None)]
    )
    assert code == 1 and "fewer than two of three: retrieve_logits" in printed


def test_json_and_what_is_asked_for(run):
    code, printed, asked = run(
        [row("retrieve", 1.0)], "--json", "--model", "somewhere", "--methods", "retrieve", "--study", "off"
    )
    assert code == 0 and json.loads(printed)["holds"] is True
    for option, value in (("--model", "somewhere"), ("--methods", "retrieve"), ("--study", "off")):
        assert asked[asked.index(option) + 1] == value


def test_a_comparison_that_gives_no_rows_is_a_failure(run):
    with pytest.raises(SystemExit) as stopped:
        run([])
    assert stopped.value.code == 1


def test_its_questions_are_not_those_that_are_studied():
    assert not set(validate.ASKED) & set(validate.STUDIED)
    assert all(answer in validate.TEXT for answer in [*validate.ASKED.values(), *validate.STUDIED.values()])


@pytest.mark.slow
def test_it_holds_on_the_embedded_model(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["validate_jitrl.py", "--methods", "retrieve,retrieve_logits", "--json"])
    assert validate.main() == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["holds"]
