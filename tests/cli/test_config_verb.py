"""config show, set, unset: what is wrong is refused before anything is written, and no writer loses another's key."""

import json
import subprocess
import sys

import pytest
import yaml
from typer.testing import CliRunner

from accrete.cli.main import app
from accrete.methods import DEFAULT
from accrete.store.home import writing


@pytest.fixture
def config(home):
    return lambda *arguments: CliRunner().invoke(app, ["config", *map(str, arguments), "--home", str(home)])


def parsed(result):
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


def on_disk(home):
    return yaml.safe_load((home / "config.yaml").read_text("utf-8"))


def assert_one_sentence(result, code, *words):
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith("accrete: ") and result.stderr.count("\n") == 1
    assert "Internal error" not in result.stderr
    for word in words:
        assert word in result.stderr


def test_without_a_verb_there_is_help():
    result = CliRunner().invoke(app, ["config"])
    assert result.exit_code == 0 and "unset" in result.stdout and result.stderr == ""


def test_show_set_show_unset(config, home):
    before = {row["key"]: row for row in parsed(config("show", "--json"))}
    assert before["max_forgetting"] == {"key": "max_forgetting", "value": 0.05, "source": "default"}
    assert before["method"]["value"] == DEFAULT and any(key.startswith(f"{DEFAULT}.") for key in before)
    path = home / "config.yaml"
    assert config("set", "max_forgetting", "0.03").stdout == f"max_forgetting = 0.03 (was 0.05), in {path}\n"
    assert parsed(config("set", "full_finetune.rate", "1e-3", "--json")) == {
        "key": "full_finetune.rate", "value": 1e-3, "was": 3e-4, "file": str(path), "overridden_by": None,
    }  # fmt: skip
    config("set", "domain", "no")
    wanted = {"max_forgetting": 0.03, "options": {"full_finetune": {"rate": 1e-3}}, "domain": "no"}
    assert on_disk(home) == wanted
    (row,) = parsed(config("show", "full_finetune.rate", "--json"))
    assert row == {"key": "full_finetune.rate", "value": 1e-3, "source": str(path)}
    assert len(parsed(config("show", "full_finetune", "--json"))) > 5
    shown = config("show").stdout
    assert "max_forgetting" in shown and str(path) in shown and "default" in shown
    assert config("unset", "full_finetune.rate").stdout.endswith(f"(was 0.001), in {path}\n")
    assert on_disk(home) == {"max_forgetting": 0.03, "domain": "no"}
    assert "nothing was changed" in config("unset", "full_finetune.rate").stdout
    for key in ("max_forgetting", "domain"):
        config("unset", key)
    after = {row["key"]: row for row in parsed(config("show", "--json"))}
    assert after == before


def test_options_before_between_and_after(home):
    options = ["--home", str(home), "--json", "--device", "cpu"]
    lines = ([*options, "config", "show"], ["config", *options, "show"], ["config", "show", *options])
    rows = [parsed(CliRunner().invoke(app, line)) for line in lines]
    assert rows[0] == rows[1] == rows[2]
    assert {"key": "device", "value": "cpu", "source": "flag --device"} in rows[0]


def test_flags_and_variables_are_shown_and_win(config, home, monkeypatch):
    config("set", "max_forgetting", "0.03")
    monkeypatch.setenv("ACCRETE_MAX_FORGETTING", "0.5")
    monkeypatch.setenv("ACCRETE_FULL_FINETUNE__SEED", "4")
    rows = {r["key"]: r for r in parsed(config("show", "--json", "--method", "full_finetune", "--set", "rate=2e-3"))}
    assert [(rows[key]["value"], rows[key]["source"]) for key in rows if rows[key]["source"] != "default"] == [
        ("full_finetune", "flag --method"),
        (0.5, "environment ACCRETE_MAX_FORGETTING"),
        (2e-3, "flag --set"),
        (4, "environment ACCRETE_FULL_FINETUNE__SEED"),
    ]
    changed = config("set", "max_forgetting", "0.1")
    assert "(was 0.03)" in changed.stdout and "ACCRETE_MAX_FORGETTING in the environment wins" in changed.stdout
    assert on_disk(home) == {"max_forgetting": 0.1}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["set", "max_forgeting", "0.1"], ['"max_forgeting"', 'Did you mean "max_forgetting"']),
        (["set", "max_forgetting", "2"], ["max_forgetting", "less than or equal to 1"]),
        (["set", "max_forgetting", "nan"], ["max_forgetting"]),
        (["set", "options", "{}"], ['"options"']),
        (["set", "method", "ful_finetune"], ['Did you mean "full_finetune"']),
        (["set", "ful_finetune.rate", "1"], ['Did you mean "full_finetune"']),
        (["set", "full_finetune.rat", "1"], ['"rat"', 'Did you mean "rate"']),
        (["set", "full_finetune.rate", "0"], ["rate", "greater than 0"]),
        (["set", "full_finetune.rate", "inf"], ["rate", "finite"]),
        (["set", "full_finetune.rate", "[1"], ["no value"]),
        (["set", "full_finetune.", "1"], ["full_finetune"]),
        (["set", "device", "toaster"], ["toaster"]),
        (["set", "dtype", "float3"], ["float3", "float32"]),
        (["set", "model", ""], ["model"]),
        (["show", "modle"], ['"modle"', 'Did you mean "model"']),
        (["unset", "modle"], ['"modle"', 'Did you mean "model"']),
    ],
)
def test_what_is_wrong_is_refused_and_nothing_is_written(config, home, arguments, words):
    assert_one_sentence(config(*arguments), 2, *words)
    assert not home.exists()


def test_a_directory_is_kept_whole(config, home, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    config("set", "model", "mine")
    assert on_disk(home) == {"model": str(tmp_path / "mine")}


@pytest.mark.parametrize("content", ["a: [", "- a\n", "modle: x\nmax_forgetting: 0.1\n", "options: 3\n", "1: x\n"])
def test_a_wrong_file_is_named_and_left_alone(config, home, content):
    home.mkdir()
    (home / "config.yaml").write_text(content)
    assert_one_sentence(config("show"), 2, str(home / "config.yaml"))
    assert_one_sentence(config("set", "full_finetune.seed", "1"), 2, str(home / "config.yaml"))
    assert (home / "config.yaml").read_text() == content


def test_a_wrong_key_can_be_taken_out(config, home):
    home.mkdir()
    (home / "config.yaml").write_text("modle: x\noptions: {gone: {rate: 1}, full_finetune: 3}\n")
    for key in ("modle", "gone.rate", "options.full_finetune"):
        assert "no longer set" in config("unset", key).stdout
    assert on_disk(home) == {} and config("show").exit_code == 0


def test_a_home_that_is_a_file(config, home):
    home.write_text("precious")
    for arguments in (["show"], ["set", "domain", "x"], ["unset", "domain"]):
        assert_one_sentence(config(*arguments), 1, "not a directory")
    assert home.read_text() == "precious"


def test_verbs_go_by_the_settings(config, home, model_directory, monkeypatch):
    config("set", "model", model_directory)
    config("set", "method", "full_finetune")
    config("set", "full_finetune.max_steps", "2")
    config("set", "offline", "true")
    monkeypatch.setenv("ACCRETE_FULL_FINETUNE__SEED", "9")

    def run(*more):
        return CliRunner().invoke(app, ["status", "--json", "--home", str(home), *more])

    found = parsed(run("--set", "kl_batch=3"))
    assert found["model"] == str(model_directory) and found["home"] == str(home)
    options = found["method"]["config"]
    assert (options["max_steps"], options["seed"], options["kl_batch"]) == (2, 9, 3)
    assert parsed(run("--set", "max_steps=5"))["method"]["config"]["max_steps"] == 5
    monkeypatch.setenv("ACCRETE_FULL_FINETUNE__SEEED", "9")
    assert_one_sentence(CliRunner().invoke(app, ["log", "--home", str(home)]), 2, "ACCRETE_FULL_FINETUNE__SEEED")


def test_two_at_once_both_count(home):
    program = "from accrete.cli.main import main; main()"
    line = [sys.executable, "-c", program, "--home", str(home), "config", "set"]
    pairs = {"domain": "work", "max_forgetting": "0.5", "clean": "false", "offline": "true"}
    running = [subprocess.Popen([*line, *pair], stdout=subprocess.DEVNULL) for pair in pairs.items()]
    assert [process.wait() for process in running] == [0] * len(pairs)
    assert on_disk(home) == {"domain": "work", "max_forgetting": 0.5, "clean": False, "offline": True}


def test_a_home_that_is_learning_is_left_alone(config, home, monkeypatch):
    monkeypatch.setattr("accrete.cli.config.PATIENCE", 0.1)
    with writing(home):
        assert_one_sentence(config("set", "domain", "x"), 1, "Another accrete (process ")
    assert not (home / "config.yaml").exists()


def test_setting_something_light_stays_light(home):
    program = (
        "import sys, atexit; from accrete.cli.main import main\n"
        "atexit.register(lambda: print('torch' in sys.modules)); main()"
    )
    arguments = ["--home", str(home), "config", "set", "max_forgetting", "0.1"]
    result = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    assert result.stdout.endswith("False\n")
