"""The verbs: the same options before and after, JSON that scripts can rely on, and one sentence for every bad input."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from accrete import Learner
from accrete.cli.main import app
from accrete.cli.session import Ticker, _setting
from accrete.store.home import writing

ITEMS = [{"question": f"What is part {i}?", "answer": f"Value {i}."} for i in range(3)]
LESSON_KEYS = {
    "commit", "document", "tokens", "seconds", "digest_before", "digest_after", "loss_before", "loss_after",
    "kept_before", "kept_after",
}  # fmt: skip


@pytest.fixture(autouse=True)
def a_method_with_steps(monkeypatch):
    monkeypatch.setenv("ACCRETE_METHOD", "lora_replay_ewc")


@pytest.fixture
def invoke(model_directory, home):
    """Run `accrete ...` on the tiny model and the scratch home."""

    def run(*arguments, options=("--offline",)):
        common = ["--model", str(model_directory), "--home", str(home), *options]
        return CliRunner().invoke(app, [*map(str, arguments), *common])

    return run


@pytest.fixture
def learn(invoke):
    return lambda *arguments: invoke("learn", *arguments, options=["--set", "max_steps=2", "--json"])


def parsed(result):
    """The one JSON value of a command that went well."""
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


@pytest.fixture
def document(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    return path


def assert_one_sentence(result, code, *words):
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith("accrete: ") and result.stderr.endswith("\n") and result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr and "Internal error" not in result.stderr
    for word in words:
        assert word in result.stderr


# --- what the verbs print -------------------------------------------------------------------------------------------


def test_learn_ask_log_show_status_undo(learn, invoke, document):
    birth = parsed(invoke("status", options=["--json"]))
    lesson = parsed(learn(document, "--probes", document))
    assert LESSON_KEYS | {"probes_before", "probes_after"} <= lesson.keys()
    shares = [lesson[key] for key in ("kept_before", "kept_after", "probes_before", "probes_after")]
    assert all(0 <= share <= 1 for share in shares)
    assert lesson["document"] == "d.jsonl" and lesson["tokens"] > 5 and lesson["seconds"] > 0
    assert lesson["digest_before"] == birth["digest"] != lesson["digest_after"]

    asked = parsed(invoke("ask", "What is part 1?", "--max-new-tokens", 4, options=["--json"]))
    assert asked["commit"] == lesson["commit"] and asked["lessons"] == 1 and isinstance(asked["answer"], str)
    (logged,) = parsed(invoke("log", options=["--json"]))
    shown = parsed(invoke("show", lesson["commit"][:5], options=["--json"]))
    assert logged["commit"] == shown["commit"] == lesson["commit"] and logged["undone"] is None
    assert shown["config"]["max_steps"] == 2 and shown["parent"] is None
    status = parsed(invoke("status", options=["--json"]))
    assert (status["digest"], status["head"], status["lessons"]) == (lesson["digest_after"], lesson["commit"], 1)
    assert status["layers"]["total"] == 2

    undone = parsed(invoke("undo", options=["--json"]))
    assert undone["digest"] == lesson["digest_before"] and undone["undone"] == lesson["commit"]
    assert parsed(invoke("status", options=["--json"]))["digest"] == lesson["digest_before"]
    assert parsed(invoke("log", options=["--json"]))[0]["undone"]


def test_learning_again_changes_nothing(learn, document):
    first, second = parsed(learn(document)), parsed(learn(document))
    assert not first["already_learned"] and second["already_learned"]
    assert second["commit"] == first["commit"]
    assert first["probes_before"] is None


def test_every_document_is_a_line_of_json(learn, document, tmp_path):
    text = tmp_path / "text.md"
    text.write_text("The lighthouse of Morvane was built in 1871. " * 5)
    result = learn(document, text)
    one, two = map(json.loads, result.stdout.splitlines())
    assert (one["document"], two["document"]) == ("d.jsonl", "text.md")
    assert two["digest_before"] == one["digest_after"]


def test_people_get_words(invoke, document, tmp_path):
    context = tmp_path / "context.txt"
    context.write_text("The lighthouse was built by Edda Kolm.")
    few = ["--set", "max_steps=2"]
    assert "No lessons yet" in invoke("log").stdout
    learned = invoke("learn", document, options=few)
    assert learned.stdout.startswith("learned d.jsonl as ") and "loss" in learned.stdout and learned.stderr == ""
    name = learned.stdout.split()[3]
    assert "learned before" in invoke("learn", document, options=few).stdout
    assert invoke("ask", "Who built it?", "--context", context, "--max-new-tokens", 3).exit_code == 0
    assert name in invoke("log").stdout
    assert "digest_before" in invoke("show", name).stdout
    assert "2 total, 2 modified, 0 frozen" in invoke("status").stdout
    assert invoke("undo").stdout.startswith(f"undone: d.jsonl ({name})")
    assert "undone" in invoke("log").stdout


def test_a_document_learned_before_is_still_probed(invoke, learn, document):
    first = parsed(learn(document, "--probes", document))
    again = parsed(learn(document, "--probes", document))
    assert again["already_learned"] and again["commit"] == first["commit"]
    assert again["probes_before"] == again["probes_after"] == first["probes_after"]


def test_the_package_runs_as_a_module():
    told = subprocess.run([sys.executable, "-m", "accrete", "--version"], capture_output=True, text=True, check=True)
    assert told.stdout == CliRunner().invoke(app, ["--version"]).stdout


def test_version():
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0 and result.stdout.count(".") == 2


def test_methods(invoke):
    rows = parsed(invoke("methods", options=["--json"]))
    assert all(row.keys() == {"name", "summary", "capabilities"} for row in rows)
    (row,) = [row for row in rows if row["name"] == "full_finetune"]
    assert row["summary"].endswith(".") and isinstance(row["capabilities"], list)
    assert "full_finetune" in invoke("methods").stdout


def test_the_options_of_a_method_are_listed_with_what_they_mean(invoke):
    found = parsed(invoke("methods", "sparse_memory", options=["--json"]))
    options = {option["name"]: option for option in found["learn"]}
    assert options["selection"]["values"] == "tfidf | kl | random | all" and options["layers"]["default"] == [
        0.375,
        0.5,
    ]
    assert options["rate"]["values"] == "number or null" and "general questions" in options["background"]["meaning"]
    assert {"objective", "steps"} <= {option["name"] for option in found["retrofit"]}
    said = invoke("methods", "ttt").stdout
    assert "learn --set" in said and "retrofit --set" in said
    assert "retrofit" not in parsed(invoke("methods", "retrieve", options=["--json"]))
    wrong = invoke("methods", "nope")
    assert wrong.exit_code == 2 and "Known: " in wrong.stderr


def test_options_are_taken_before_and_after_the_verb(model_directory, home, tmp_path):
    options = ["--home", str(home), "--model", str(model_directory), "--method", "full_finetune", "--json", "--offline"]
    results = [CliRunner().invoke(app, line) for line in (["status", *options], [*options, "status"])]
    half = CliRunner().invoke(app, [*options[:4], "status", *options[4:]])
    assert parsed(results[0]) == parsed(results[1]) == parsed(half)
    elsewhere = CliRunner().invoke(app, [*options, "status", "--home", str(tmp_path)])
    assert parsed(elsewhere)["home"] == str(tmp_path), "what is said after the verb wins"


def test_the_home_comes_from_the_environment(model_directory, home, monkeypatch):
    monkeypatch.setenv("ACCRETE_HOME", str(home))
    result = CliRunner().invoke(app, ["status", "--json", "--model", str(model_directory)])
    assert parsed(result)["home"] == str(home)


@pytest.mark.parametrize(
    ("text", "value"),
    [("a=3", 3), ("a=0.5", 0.5), ("a=1e-4", 1e-4), ("a=-2", -2), ("a=true", True), ("a=word", "word")],
)
def test_settings_mean_what_they_say(text, value):
    _, key, found = _setting(text, ["retrieve"])
    assert key == "a" and (found == value or type(value)(found) == value)


@pytest.mark.parametrize("live", [True, False])
def test_progress_goes_to_stderr_and_only_to_a_terminal(capsys, monkeypatch, live):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: live)
    ticker = Ticker("d.md")
    ticker("learning", 3, 0.5)
    ticker.done()
    out, err = capsys.readouterr()
    assert out == "" and ("step 3" in err) == live


# --- bad input ------------------------------------------------------------------------------------------------------


BAD_DOCUMENTS = {
    "empty.md": (b"", "is empty"),
    "spaces.txt": (b" \n\t\n", "is empty"),
    "empty.jsonl": (b"\n\n", "is empty"),
    "binary.md": (b"\x7fELF\0\0\0\1", "binary"),
    "control.txt": (b"\x01\x02\x03 x", "binary"),
    "odd.txt": (b"\xff\xfeodd", "begins like UTF-16"),
    "broken.jsonl": (b'{"question": "a", "answer": "b"}\n{"question": \n', "broken.jsonl, line 2 is not valid JSON"),
    "list.jsonl": (b"[1, 2]\n", "line 1 is not an object"),
    "missing.jsonl": (b'{"question": "a"}\n', 'line 1: "answer" is missing'),
    "number.jsonl": (b'{"question": 3, "answer": "b"}\n', 'line 1: "question" is missing or is no text'),
    "short.txt": (b"a", "too little"),
}


@pytest.mark.parametrize("name", BAD_DOCUMENTS)
def test_a_bad_document_is_one_sentence(invoke, home, tmp_path, name):
    content, words = BAD_DOCUMENTS[name]
    (tmp_path / name).write_bytes(content)
    assert_one_sentence(invoke("learn", tmp_path / name), 1, name, words)
    assert not (home / "journal.sqlite").exists()


@pytest.mark.parametrize(("path", "words"), [("nowhere.md", "no file"), (".", "no document in")])
def test_a_path_that_is_no_document_is_one_sentence(invoke, tmp_path, path, words):
    assert_one_sentence(invoke("learn", tmp_path / path), 1, words)


@pytest.mark.parametrize("importance", ["nan", "0", "-1", "inf"])
def test_an_importance_that_is_none_is_one_sentence(invoke, document, importance):
    assert_one_sentence(invoke("learn", document, "--importance", importance), 2, "importance")


def test_every_verb_refuses_a_home_that_is_a_file(model_directory, document):
    for verb in ("status", "log", "undo"):
        result = CliRunner().invoke(app, [verb, "--home", str(document), "--model", str(model_directory)])
        assert_one_sentence(result, 1, "not a directory")


def test_a_bad_path_among_good_ones_costs_nothing(invoke, document, tmp_path, home):
    assert_one_sentence(invoke("learn", document, tmp_path / "nowhere.md"), 1, "no file")
    assert not home.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["status", "--method", "ful_finetune"], 2, ['no method "ful_finetune"', 'Did you mean "full_finetune"']),
        (["status", "--method", "../base"], 2, ["no method", "Known:"]),
        (["status", "--set", "max_step=3"], 2, ['"max_step"', 'Did you mean "max_steps"']),
        (["status", "--set", "max_steps=many"], 2, ["max_steps"]),
        (["status", "--set", "max_steps"], 2, ["key=value"]),
        (["status", "--set", "max_steps=[1"], 2, ["max_steps"]),
        (["status", "--set", "rate=1.2.3"], 2, ["rate"]),
        (["status", "--set", "rate=e"], 2, ["rate"]),
        (["status", "--set", "batch_size=0"], 2, ["batch_size", "greater than or equal to 1"]),
        (["status", "--set", "replay_fraction=1"], 2, ["replay_fraction"]),
        (["status", "--device", "toaster"], 2, ["toaster"]),
        (["status", "--dtype", "float3"], 2, ["float3"]),
        (["ask", "  "], 1, ["empty"]),
        (["ask", "Who?", "--context", "nowhere.md"], 1, ["no file"]),
        (["undo"], 1, ["nothing to undo"]),
        (["show", "abc"], 1, ['no commit "abc"']),
        (["learn", "nowhere.md", "--probes", "nowhere.jsonl"], 1, ["nowhere.jsonl"]),
    ],
)
def test_bad_input_is_one_sentence(invoke, arguments, code, words):
    assert_one_sentence(invoke(*arguments), code, *words)


@pytest.mark.parametrize("model", ["./nowhere", "/nowhere/at/all", "nobody/no-such-model", "{empty}", "{broken}"])
def test_a_model_that_is_none_is_one_sentence(home, tmp_path, model):
    empty, broken = tmp_path / "empty", tmp_path / "broken"
    empty.mkdir()
    broken.mkdir()
    (broken / "config.json").write_text("{")
    name = model.format(empty=empty, broken=broken)
    result = CliRunner().invoke(app, ["status", "--offline", "--home", str(home), "--model", name])
    assert_one_sentence(result, 1, name)


@pytest.mark.parametrize("arguments", [["no_such_verb"], ["learn"], ["ask"], ["status", "--no-such-option"]])
def test_wrong_usage_is_exit_code_2(arguments):
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2 and result.stdout == "" and "Traceback" not in result.stderr


def test_a_home_that_is_a_file_is_one_sentence(invoke, home, document):
    home.write_text("precious")
    for arguments in (["learn", document], ["undo"]):
        assert_one_sentence(invoke(*arguments), 1, "not a directory")
    assert home.read_text() == "precious"


def test_a_home_in_use_is_one_sentence_and_nothing_is_lost(learn, invoke, home, document, tmp_path, model_directory):
    lesson = parsed(learn(document))
    other = tmp_path / "other.txt"
    other.write_text("The lighthouse of Morvane was built in 1871.")
    with writing(home):
        for arguments in (["learn", other], ["undo"]):
            assert_one_sentence(invoke(*arguments), 1, "Another accrete (process ", "--home")
    assert Learner(str(model_directory), method="lora_replay_ewc", home=home).digest == lesson["digest_after"]


def test_with_json_the_error_is_json_too(invoke):
    result = invoke("undo", options=["--json"])
    assert result.exit_code == 1 and "nothing to undo" in json.loads(result.stdout)["error"]


def test_an_interrupt_is_one_sentence_and_nothing_is_lost(learn, invoke, home, document, monkeypatch, model_directory):
    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Ticker, "__call__", stop)
        result = invoke("learn", document)
    assert_one_sentence(result, 130, "what was committed stands")
    assert parsed(learn(document))["commit"]


def test_an_error_nobody_foresaw_is_one_sentence_unless_debugging(invoke, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("nobody\nforesaw this")

    monkeypatch.setattr(Learner, "status", fail)
    result = invoke("status")
    assert result.exit_code == 1 and result.stderr.startswith(
        "accrete: Internal error (ZeroDivisionError): nobody foresaw"
    )
    monkeypatch.setenv("ACCRETE_DEBUG", "1")
    assert isinstance(invoke("status").exception, ZeroDivisionError)
