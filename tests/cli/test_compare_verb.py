"""`accrete compare` and `accrete evaluate`: one table or one JSON object, a report, and one sentence for what is wrong."""

import io
import json

import pytest
from rich.console import Console
from typer.testing import CliRunner

from accrete.cli import compare_table
from accrete.cli.main import app
from accrete.evaluate import compare as comparing

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
    settings = (
        "--model",
        model_directory,
        "--home",
        home,
        "--offline",
        "--out",
        tmp_path / "out",
        "--set",
        "max_steps=4",
    )
    result = run("compare", *chosen, *settings, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["stream"], found["lessons"]) == ("documents", 1)
    (row,) = found["rows"]
    assert set(KEYS) <= set(row) and row["error"] is None and row["floor"] is not None and row["bwt"] is None
    assert "full_finetune: " in result.stderr and "accrete: " not in result.stderr, "what goes on is said beside it"
    asked = json.loads((tmp_path / "out" / "seed-0" / "full_finetune.json").read_text())
    assert asked["study"] == "auto"  # a plain text gives no study items
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
        (("--stream", "squad", "--data", "/nowhere/at/all"), 1, "There is no file"),
        (("--stream", "identity", "--data", "/nowhere/at/all"), 2, "no use for --data; it takes --lessons"),
        (("--stream", "tofu", "--facts", 3), 2, 'The stream "tofu" has no use for --facts'),
        (("--stream", "identity", "--study", "sel"), 2, '--study cannot be "sel". Did you mean "self"'),
        (("--stream", "identity", "--study", "nonsense"), 2, "Known: auto, gold, off, self"),
        (("--stream", "identity", "--dtype", "bfloat"), 2, 'Did you mean "bfloat16"'),
        (("--stream", "identity", "--device", "gpu"), 2, 'Unknown device "gpu"'),
        (("--stream", "identity", "--on", "rey"), 2, 'Did you mean "ray"'),
        (("--stream", "identity", "--teacher", "http://x/v1"), 2, "add --study self"),
        (("--stream", "identity", "--study", "self", "--teacher", "x"), 2, "flag --teacher"),
        (("--stream", "identity", "--methods", "retrieve,lora"), 2, 'There is no method "lora"'),
        (("--stream", "identity", "--methods", "all,retriev"), 2, 'Did you mean "retrieve"'),
        (("--stream", "identity", "--methods", " , "), 2, "--methods wants names"),
        (("--stream", "identity", "--methods", "retrieve", "--method", "retrieve"), 2, "with --methods alone"),
        (("--merge", "--stream", "identity", "x"), 2, "and no --stream"),
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


SEVERAL = ("--methods", "retrieve,lora_replay_ewc")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*SEVERAL, "--set", "rate=1"), "as in --set lora_replay_ewc.rate=1"),
        ((*SEVERAL, "--set", "lora_replay_ewc.rte=1"), 'Did you mean "rate"'),
        ((*SEVERAL, "--set", "full_finetune.rate=1"), '"full_finetune" is not a method of this command'),
        ((*SEVERAL, "--set", "retreive.size=100"), 'Did you mean "retrieve"'),
        ((*SEVERAL, "--set", "retrieve.size=big"), "size"),
        (("--methods", "retrieve", "--set", "sise=100"), 'Did you mean "size"'),
        (("--methods", "retrieve", "--set", "size"), "key=value"),
        (("--methods", "retrieve", "--set", ".size=3"), "key=value"),
        (("--set", "size=100"), "as in --set retrieve.size=100"),
    ],
)
def test_an_option_of_a_method_that_will_not_do_is_one_sentence(home, arguments, said):
    result = run("compare", "--stream", "identity", *arguments, "--home", home)
    assert (result.exit_code, result.stdout) == (2, "") and said in result.stderr and result.stderr.count("\n") == 1


def test_options_reach_the_methods_that_they_are_for(home, monkeypatch):
    given = []

    def measured(comparison, *_):
        given.append({job.method: job.config for job in comparison.jobs})
        raise KeyboardInterrupt

    monkeypatch.setattr(comparing, "compare", measured)
    common = ("--stream", "identity", "--home", home)
    run("compare", *common, *SEVERAL, "--set", "retrieve.size=100", "--set", "lora_replay_ewc.rate=0.5")
    run("compare", *common, "--methods", "retrieve", "--set", "size=100", "--set", "size=200")
    run("compare", *common, "--method", "retrieve", "--set", "retrieve.size=100")
    run("evaluate", *common, "--method", "retrieve", "--set", "size=100")
    assert given == [
        {"retrieve": {"size": 100}, "lora_replay_ewc": {"rate": 0.5}},
        {"retrieve": {"size": 200}},
        {"retrieve": {"size": 100}},
        {"retrieve": {"size": 100}},
    ]


ROW = {
    "floor": 0.0, "learned": 0.9, "kept": 0.8, "ceiling": 1.0, "sentinels": 0.99, "plasticity": 0.9, "stability": 1.0,
    "token_f1": 0.9, "forgetting": 0.1, "kl_to_base": -0.0001, "tokens": 12_345, "learn_seconds": 1.5, "answer_seconds": 0.02,
    "peak_mb": 600.0, "intervals": {"learned": (0.85, 0.95)}, "error": None, "perplexity_of": "texts",
    "perplexity_before": 20.0, "perplexity_after": 22.0, "kept_questions": {"sentinels": 200, "code": 50},
    "kept_sets": {"sentinels": [1.0, None, 0.99], "code": [0.4, None, 0.3], "lost": [0.0, 0.0]},
}  # fmt: skip
FOUND = {
    "stream": {"name": "general", "score": "contains", "tasks": [{"probes": [{}, {}]}]},
    "lessons": 1,
    "rows": [
        ROW | {"method": "retrieve_logits"},
        {"method": "broken", "error": "it fell over", "intervals": {}, **dict.fromkeys(("learned", "kept", "tokens"))},
    ],
}


@pytest.mark.parametrize("width", [60, 80, 120, 250])
def test_tables_fit_the_terminal_and_nothing_in_them_is_folded(width, tmp_path):
    console = Console(width=width, file=io.StringIO(), highlight=False)
    compare_table.show(console, FOUND, tmp_path)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines[:-1])) <= width
    text = "\n".join(lines)
    assert "± is half of the 95 % interval" in text
    for word in (
        "0.90 ±0.05",
        "sentinels",
        "s/lesson",
        "12,345",
        "code (50)",
        "0.40 > 0.30",
        "20.0 > 22.0",
        "none known",
    ):
        assert text.count(word) >= 1, word
    assert "broken failed: it fell over" in text and " 0.000" in text and "-0.000" not in text
    assert sum(line.split()[:1] == ["method"] for line in lines) >= (4 if width == 60 else 2)


def test_sets_are_told_only_where_a_stream_has_them(tmp_path):
    console = Console(width=200, file=io.StringIO())
    plain = ROW | {"method": "retrieve", "kept_sets": {"sentinels": [1.0, 0.9]}, "perplexity_of": "sentinels"}
    compare_table.show(console, FOUND | {"rows": [plain]}, tmp_path)
    assert "must not be lost" not in console.file.getvalue()
