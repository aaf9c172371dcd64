"""The verbs calibrate and retrofit, and what status says of them. Ends at the command line."""

from __future__ import annotations

import json

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
    short = ["--set", "episodes=1", "--set", "entities=1", "--set", "questions=2", "--set", "general=1"]
    first = call("retrofit", tmp_path / "run", "--set", "steps=1", *short)
    assert first["file"].endswith("dual_mlp.start.safetensors")
    assert call("retrofit", tmp_path / "run", "--set", "steps=2", *short)["file"] == first["file"]
    about = call("status", "--set", f"start={first['file']}")["method"]["about"]
    assert "start" in about["neurons_begin"] and "copies" in call("status")["method"]["about"]["neurons_begin"]


def test_what_cannot_be_retrofitted_is_one_sentence(call, tmp_path):
    assert "nothing to retrofit" in call("retrofit", tmp_path / "run", method="retrieve", code=2)
    assert "stpes" in call("retrofit", tmp_path / "run", "--set", "stpes=1", code=2)
    assert "Cannot read the start" in call("status", "--set", "start=nowhere.safetensors", code=1)
    (tmp_path / "file").write_text("")
    assert call("retrofit", tmp_path / "file", "--set", "steps=1", code=1)
