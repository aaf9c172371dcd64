"""`accrete pretrain`: from a recipe to a model directory, resumed after a kill, and plain about what is wrong."""

import json
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoTokenizer
from typer.testing import CliRunner

from accrete import Answer, Learner, load, recipe
from accrete.cli.main import app
from accrete.data.corpus import WorldCorpus

MODEL = {"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 96, "vocab_size": 600}
TRAIN = {"tokens": 8_192, "length": 64, "batch": 8, "autocast": "off", "save_seconds": 0.0}
RECIPE = {"preset": "nano", "model": MODEL, "world": {"entities": 300}, "train": TRAIN}


def write_recipe(path, **changes):
    path.write_text(yaml.safe_dump(RECIPE | changes))
    return str(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One whole run: the folder it lives in and what the command printed."""
    folder = tmp_path_factory.mktemp("pretrain")
    path = write_recipe(folder / "tiny.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("accrete.recipe.TOKENIZER_DOCUMENTS", 500)  # most of the time of a run this small
        result = CliRunner().invoke(app, ["pretrain", path, "--out", str(folder / "run"), "--json"])
    assert result.exit_code == 0, result.output
    return folder, result


def weights(folder):
    return load_file(folder / "model" / "model.safetensors")


def test_it_says_what_it_made(run):
    folder, result = run
    printed = json.loads(result.stdout)
    assert printed["model"] == str(folder / "run" / "model") and printed["tokens"] == 8_192
    assert 0 < printed["loss"] < 10
    assert "tokens/s" in result.stderr and "step 16/16" in result.stderr


def test_the_model_can_be_loaded_and_taught(run, tmp_path):
    folder, _ = run
    lm = load(str(folder / "run" / "model"), offline=True)
    assert lm.context_length == 256  # its rows are shorter than any question
    assert lm.layers == 2 and len(lm.tokenizer) == lm.model.config.vocab_size == 600
    assert all((folder / "run" / "model" / f"{name}.jsonl").exists() for name in ("sentinels", "background"))
    learner = Learner(lm, method="lora_replay_ewc", home=tmp_path, config={"max_steps": 1}, max_forgetting=1.0)
    commit = learner.learn_from_text("The ship Ula sails from Morvane.")
    assert commit.digest_before != commit.digest_after


def test_a_run_can_start_from_the_weights_before_the_decay(run, tmp_path, monkeypatch):
    """With its tokenizer; nothing of either changes where nothing is learned."""
    folder, _ = run
    start = folder / "run" / "start"
    assert not (start / "sentinels.jsonl").exists()  # it is no model to be used
    undecayed = {
        name: w.to(torch.bfloat16) for name, w in load_file(folder / "run/undecayed/model.safetensors").items()
    }
    begun = load_file(start / "model.safetensors")
    assert begun.keys() == undecayed.keys() and all(torch.equal(begun[name], undecayed[name]) for name in begun)
    assert any(not torch.equal(begun[name], weight) for name, weight in weights(folder / "run").items())

    monkeypatch.setenv("FIRST_RUN", str(folder / "run"))
    monkeypatch.setattr(recipe, "write_world", lambda *_: None)  # decoding is most of the time
    still = TRAIN | {"tokens": 512, "muon_rate": 0.0, "adamw_rate": 0.0, "weight_decay": 0.0, "decay": 0.0}
    changes = {"start": "$FIRST_RUN/start", "world": {"entities": 300, "part": 1}, "model": {"vocab_size": 999}}
    path = write_recipe(tmp_path / "longer.yaml", **changes, train=still)
    result = CliRunner().invoke(app, ["pretrain", path, "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    after = weights(tmp_path / "run")
    assert after.keys() == begun.keys() and all(torch.equal(after[name], begun[name]) for name in begun)
    assert not (tmp_path / "run" / "tokenizer").exists() and not (tmp_path / "run" / "start").exists()
    first, second = (AutoTokenizer.from_pretrained(out / "run" / "model") for out in (folder, tmp_path))
    assert first.get_vocab() == second.get_vocab()
    text = "Ula's ship, the 1,984th: <|im_start|>user\n Ja?"
    assert first(text)["input_ids"] == second(text)["input_ids"]


def test_a_start_that_is_not_there_is_one_sentence(tmp_path):
    path = write_recipe(tmp_path / "recipe.yaml", start="/nowhere/start")
    result = CliRunner().invoke(app, ["pretrain", path, "--out", str(tmp_path / "run")])
    assert result.exit_code == 1 and "/nowhere/start" in result.stderr.splitlines()[-1]
    assert "Internal error" not in result.stderr


def test_sentinels_are_what_the_model_knows_in_every_taught_wording_and_apart_from_the_background(
    tmp_path, monkeypatch
):
    corpus = WorldCorpus(0, 300)
    facts = [probe.fact for half in corpus.sentinels() for probe in half]
    known, by_luck = facts[::2], facts[1::4]
    answers = {corpus.world.question(fact, phrasing): fact.value for fact in known for phrasing in (0, 1, 2)}
    answers |= {corpus.world.question(fact, 0): fact.value for fact in by_luck}
    background = {item.question: item.answer for item in corpus.background(1_200)}
    answers |= (known_background := dict(sorted(background.items())[::3]))

    def recited(lm, queries, **_):
        return [Answer(answers.get(query.question, "no idea")) for query in queries]

    monkeypatch.setattr(recipe, "answer", recited)
    recipe.write_world(recipe.Recipe(**RECIPE), tmp_path, None)
    rows = [json.loads(line) for line in (tmp_path / "sentinels.jsonl").read_text().splitlines()]
    assert {row["question"] for row in rows} == {corpus.world.question(fact, 0) for fact in known}
    assert {row["split"] for row in rows} == {"guard", "scored"}
    kept = [json.loads(line) for line in (tmp_path / "background.jsonl").read_text().splitlines()]
    assert {item["question"]: item["answer"] for item in kept} == known_background and len(kept) > 100
    sentinels = {corpus.world.question(fact, phrasing) for fact in facts for phrasing in range(-2, 6)}
    assert not {item["question"] for item in kept} & sentinels


def test_a_finished_run_is_not_trained_again(run):
    folder, _ = run
    before = weights(folder / "run")
    result = CliRunner().invoke(app, ["pretrain", str(folder / "tiny.yaml"), "--out", str(folder / "run")])
    assert result.exit_code == 0 and "step" not in result.stderr
    after = weights(folder / "run")
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_another_recipe_in_the_same_place_is_refused(run):
    folder, _ = run
    other = write_recipe(folder / "other.yaml", train=TRAIN | {"seed": 1})
    result = CliRunner().invoke(app, ["pretrain", other, "--out", str(folder / "run")])
    assert result.exit_code == 2 and "another recipe" in result.stderr and result.stderr.count("\n") == 1
    assert json.loads((folder / "run" / "recipe.json").read_text())["train"]["seed"] == 0


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"prset": "nano"}, 2, 'Did you mean "preset"'),
        ({"train": {"token": 5}}, 2, 'Did you mean "tokens"'),
        ({"train": {"tokens": "many"}}, 2, "train.tokens"),
        ({"preset": "nanno"}, 2, 'Did you mean "nano"'),
        ({"text": {"paths": ["/nowhere/text.jsonl"]}}, 1, "/nowhere/text.jsonl"),
    ],
)
def test_a_wrong_recipe_is_one_sentence(tmp_path, changes, code, words):
    path = write_recipe(tmp_path / "wrong.yaml", **changes)
    result = CliRunner().invoke(app, ["pretrain", path, "--out", str(tmp_path / "run")])
    assert (result.exit_code, result.stdout) == (code, "")
    assert words in result.stderr.splitlines()[-1] and "Internal error" not in result.stderr


@pytest.mark.parametrize(
    ("content", "words"), [(None, "No such file"), (b"\xff", "UTF-8"), (b"a: [", "YAML"), (b"3", "keys")]
)
def test_a_file_that_is_no_recipe_is_one_sentence(tmp_path, content, words):
    path = tmp_path / "recipe.yaml"
    if content is not None:
        path.write_bytes(content)
    result = CliRunner().invoke(app, ["pretrain", str(path), "--out", str(tmp_path / "run")])
    assert result.exit_code in (1, 2) and words in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_recipe_that_failed_at_once_may_be_mended(tmp_path):
    for text in ("/nowhere/one", "/nowhere/two"):
        path = write_recipe(tmp_path / "recipe.yaml", text={"paths": [text]})
        result = CliRunner().invoke(app, ["pretrain", path, "--out", str(tmp_path / "run")])
        assert result.exit_code == 1 and text in result.stderr


def written(path):
    """When `path` was last written; None while it is not there."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_as_if_never_killed(tmp_path):
    """Killed once per stage of the run; the weights are those of the run that was left alone, bit for bit."""
    path, alone = write_recipe(tmp_path / "tiny.yaml"), tmp_path / "alone"
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "accrete.cli.main", "pretrain", path, "--out"]
    subprocess.run([*command, str(alone)], check=True, capture_output=True)
    command.append(str(out))
    for stage in ("tokenizer", "tokens/00000.npy", "checkpoint/step.json", "checkpoint/step.json"):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        before = written(out / stage)
        while written(out / stage) == before and process.poll() is None:
            time.sleep(0.002)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    subprocess.run(command, check=True, capture_output=True)
    left_alone, killed = weights(alone), weights(out)
    assert left_alone.keys() == killed.keys()
    assert all(torch.equal(left_alone[name], killed[name]) for name in left_alone)
