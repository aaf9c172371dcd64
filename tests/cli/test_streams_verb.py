"""`accrete streams`, `accrete stream` and `accrete benchmark`: results on stdout, one sentence for what is wrong."""

import json

import pytest
from typer.testing import CliRunner

from accrete.cli.main import app
from accrete.dreams import teacher as teachers
from accrete.evaluate.streams import names
from accrete.evaluate.streams._writer import INSTRUCTION

SMALL = ("--facts", 6, "--lessons", 2)


def run(*arguments, **environment):
    return CliRunner().invoke(app, [*map(str, arguments)], env={"ACCRETE_DATA": ""} | environment)


def failed(result, code, *words):
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert result.stderr.count("\n") == 1 and all(word in result.stderr for word in words), result.stderr


@pytest.fixture
def echo(monkeypatch):
    """A teacher that says the plain passage with a word before it."""

    def answer(self, prompts, *, max_new_tokens):
        return [f"Truly: {prompt.removeprefix(INSTRUCTION).strip()}" for prompt in prompts]

    monkeypatch.setattr(teachers.Teacher, "__call__", answer)


def test_every_stream_is_listed():
    rows = json.loads(run("streams", "--json").stdout)
    assert [row["name"] for row in rows] == names() and all(row["summary"].endswith(".") for row in rows)


def test_one_stream_is_told_in_full():
    """What the files hold, and where study items come from."""
    (row,) = json.loads(run("streams", "temporal", "--json").stdout)
    assert row["name"] == "temporal" and "--facts" not in row["options"] and "periods" in row["options"]["lessons"]
    for word in (
        "twiki_probes/0801-0901_changed.csv",
        "streaminqa_eval.jsonl",
        "question_ts",
        "are studied",
        "facts, passages",
    ):
        assert word in row["about"], word
    said = run("streams", "world").stdout
    assert "--facts" in said and "facts a document [20]" in said and "--data" not in said
    failed(run("streams", "wrld"), 2, 'Did you mean "world"')


def test_an_option_that_a_stream_has_no_use_for_is_refused(tmp_path):
    failed(run("stream", "world", "--out", tmp_path / "o", "--data", tmp_path), 2, "no use for --data", "--facts")
    failed(run("stream", "tofu", "--out", tmp_path / "o", "--facts", 2), 2, "no use for --facts")
    assert run("stream", "temporal", "--out", tmp_path / "o", *SMALL).exit_code == 0
    failed(run("stream", "temporal", "--out", tmp_path / "p", "--data", tmp_path / "o", "--facts", 3), 2, "--limit")


def test_a_stream_is_written_and_said_in_both_forms(tmp_path):
    out = tmp_path / "a"
    found = json.loads(run("stream", "temporal", "--out", out, *SMALL, "--json").stdout)
    assert (found["lessons"], found["questions"], found["out"]) == (2, 12, str(out))
    assert found["files"] == sorted(path.name for path in out.iterdir())
    result = run("stream", "world", "--out", tmp_path / "b", *SMALL, "--limit", 4, "--seed", 3)
    assert result.exit_code == 0 and "world: 2 lessons, 4 questions" in result.stdout
    assert "seed of the world: 9003" in result.stdout and str(tmp_path / "b") in result.stdout


def test_a_dry_run_prints_prompts_and_cost_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(teachers.Teacher, "__init__", lambda *_, **__: pytest.fail("it was going to be asked"))
    asked = ("stream", "temporal", "--dry-run", *SMALL, "--out", tmp_path / "no", "--teacher", "http://x/v1")
    found = json.loads(run(*asked, "--price-in", 1, "--price-out", 2, "--json").stdout)
    assert found["cost"] == pytest.approx((found["prompt_tokens"] + 2 * found["answer_tokens"]) / 1e6)
    assert len(found["prompts"]) == found["requests"] and not (tmp_path / "no").exists()
    told = run(*asked).stdout
    assert told.count(INSTRUCTION) == found["requests"] and "give --price-in and --price-out" in told
    assert "0.01 in all" in run(*asked, "--price-in", 1, "--price-out", 2).stdout


def test_a_teacher_writes_the_passages(tmp_path, echo):
    found = json.loads(
        run("stream", "temporal", "--out", tmp_path / "t", *SMALL, "--teacher", "http://x/v1#m", "--json").stdout
    )
    passages = [json.loads(line)["text"] for line in (tmp_path / "t" / "passages.jsonl").read_text().splitlines()]
    assert passages and all(text.startswith("Truly: ") for text in passages)
    assert found["about"]["passages by a teacher"] == found["about"]["passages"] == len(set(passages))


def test_what_is_wrong_is_one_sentence(tmp_path):
    out = ("--out", tmp_path / "o")
    failed(run("stream", "tempora", *out), 2, 'Did you mean "temporal"')
    failed(run("stream", "world"), 2, "--out")
    failed(run("stream", "world", "--out", tmp_path.parent, *SMALL), 2, "holds files already")
    failed(run("stream", "squad", *out), 1, "--data", "ACCRETE_DATA")
    failed(run("stream", "identity", *out, "--teacher", "http://x/v1#m"), 2, "no passages")
    failed(run("stream", "temporal", *out, *SMALL, "--teacher", "http://x/v1#m", "--offline"), 1, "--offline")
    failed(run("stream", "temporal", "--dry-run", *SMALL, "--price-in", 1), 2, "both prices")
    assert not (tmp_path / "o").exists()


# --- benchmark ------------------------------------------------------------------------------------------------------


@pytest.fixture
def squad(tmp_path):
    rows = [
        {"title": "T", "context": f"It is {n}.", "question": f"What is it, {n}?", "answers": [f"{n}"]} for n in range(3)
    ]
    (tmp_path / "dev-v1.1.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "dev-v1.1.jsonl"


def test_the_benchmark_measures_the_baseline_first_and_finds_it_again(squad, model_directory, home):
    asked = ("benchmark", "--model", model_directory, "--home", home, "--data", squad, "--limit", 2)
    result = run(*asked)
    assert result.exit_code == 0, result.output
    assert "before any lesson: 2 questions" in result.stdout and "No lessons yet: this is the baseline" in result.stdout
    assert "exactly right: 0 of 2 before any lesson, 0 now" in result.stdout
    assert "answers fewer than 10 of these: no ratio means anything" in result.stdout and "0.0%" not in result.stdout
    found = json.loads(run(*asked, "--json").stdout)
    assert found["baseline_was"] == "stored" and found["now"] == found["baseline"] and found["questions"] == 2
    assert found["right"] == {"now": 0, "baseline": 0} and found["few"] == {"exact_match": True, "f1": True}
    assert set(found["forgetting_ratio"]) == set(found["now"]) == {"exact_match", "f1"}


def test_without_squad_the_benchmark_says_how_to_name_it(tmp_path):
    failed(run("benchmark", "--model", "/nowhere"), 1, "--data", "ACCRETE_DATA")
    nothing = run("benchmark", "--model", "/nowhere", ACCRETE_DATA=str(tmp_path))
    failed(nothing, 1, "has none of eval/squad_v1_dev_half.jsonl.xz, dev-v1.1.json")
