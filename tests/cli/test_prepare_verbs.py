"""The verbs calibrate and retrofit, and what status says of them. Ends at the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import tiny_lm
from typer.testing import CliRunner

from accrete.cli.main import app


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder, lm = tmp_path_factory.mktemp("models") / "tiny", tiny_lm(layers=4)
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    (folder / "sentinels.jsonl").write_text(
        "".join(json.dumps({"question": q, "answers": list(a), "split": s}) + "\n" for q, a, s in lm.sentinels)
    )
    return folder


@pytest.fixture
def call(model, home):
    def run(*arguments, method="ttt", code=0, form="--json"):
        common = ["--model", model, "--home", home, "--method", method, "--offline", form]
        found = CliRunner().invoke(app, [str(part) for part in (*arguments, *common) if part])
        assert found.exit_code == code, found.output
        if code:
            assert found.stderr.count("\n") == 1
            return found.stderr.strip()
        return json.loads(found.stdout.splitlines()[-1]) if form else found.stdout

    return run


def given(*options):
    return [part for one in options for part in ("--set", one)]


@pytest.fixture
def texts(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in ("one", "two"):
        words = (
            f"The {name} of number {n} is larger than that of number {n + 1}, as everybody knows." for n in range(60)
        )
        (folder / f"{name}.txt").write_text(" ".join(words))
    return folder


def test_a_folder_calibrates_the_gate_and_undo_takes_it_back(call, texts):
    assert "gate" in call("status")["method"]["about"]
    found = call("calibrate", texts, "--texts", "12")
    assert found["texts"] == 12 < found["of"] and "calibrated on 12 texts" in found["about"]["gate"]
    assert "calibrated on 12 texts" in call("status", form="")
    assert call("log")[0]["document"] == "calibration on 12 texts"
    call("undo")
    assert "not calibrated" in call("status")["method"]["about"]["gate"]


def test_what_cannot_calibrate_is_one_sentence(call, texts, tmp_path):
    assert "came with no sentences of its own" in call("calibrate", code=1)
    assert "nothing to calibrate" in call("calibrate", texts, method="retrieve", code=2)
    assert "There is no file" in call("calibrate", tmp_path / "nowhere", code=1)
    (tmp_path / "short.txt").write_text("One sentence is too little to say what is general.")
    assert "at least 8 texts" in call("calibrate", tmp_path / "short.txt", code=2)
    assert call("status")["lessons"] == 0


def test_a_start_is_trained_goes_on_and_is_used(call, tmp_path):
    short = given("episodes=1", "entities=1", "questions=2", "general=1")
    first = call("retrofit", tmp_path / "run", "--set", "steps=1", *short)
    assert first["file"].endswith("dual_mlp.start.safetensors")
    assert call("retrofit", tmp_path / "run", "--set", "steps=2", *short)["file"] == first["file"]
    about = call("status", "--set", f"start={first['file']}")["method"]["about"]
    assert "start" in about["neurons_begin"] and "copies" in call("status")["method"]["about"]["neurons_begin"]


def test_a_folder_with_one_bad_file_calibrates_with_the_others(call, texts, capfd):
    (texts / "empty.txt").write_text("")
    assert call("calibrate", texts)["texts"] >= 8


def test_a_run_goes_on_as_it_was_begun_or_not_at_all(call, tmp_path):
    short = given("steps=1", "episodes=1", "entities=1", "questions=2", "general=1")
    made = call("retrofit", tmp_path / "run", *short)["file"]
    refused = call("retrofit", tmp_path / "run", *short, *given("depth=0.5"), code=2)
    assert "other options or on another model" in refused
    Path(made).unlink()
    assert call("retrofit", tmp_path / "run", *short)["file"] == made and Path(made).exists()


def test_the_use_of_slots_is_told_before_and_after(call, texts, tmp_path):
    small = given("objective=text", f"texts={texts}", "steps=1", "slots=64", "top_k=4", "heads=2", "key_width=16")
    said = call("retrofit", tmp_path / "run", *small, method="sparse_memory", form="").replace("\n", " ")
    for part in (
        "memory_layer.start",
        "--set slots=64 --set heads=2 --set top_k=4 --set key_width=16",
        "accrete config set sparse_memory.slots 64; accrete config set sparse_memory.heads 2",
        "before, layer 1: confused",
        "after, layer 2: confused",
        "top 1 percent",
    ):
        assert part in said


def test_what_cannot_be_retrofitted_is_one_sentence(call, tmp_path):
    assert "nothing to retrofit" in call("retrofit", tmp_path / "run", method="retrieve", code=2)
    assert "stpes" in call("retrofit", tmp_path / "run", "--set", "stpes=1", code=2)
    assert "Cannot read the start" in call("status", "--set", "start=nowhere.safetensors", code=1)
    (tmp_path / "file").write_text("")
    assert call("retrofit", tmp_path / "file", "--set", "steps=1", code=1)
