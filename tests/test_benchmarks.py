"""The benchmarks run, and the plain loops make the same updates as accrete. Ends before any figure of speed."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from accrete.methods import base

ROOT = Path(__file__).parents[1]


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a benchmark in this process, which has torch already, and gives the JSON lines that it prints."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))

    def call(name: str, *arguments: str) -> list[dict]:
        monkeypatch.setattr(sys, "argv", [name, "--json", "--device", "cpu", *arguments])
        importlib.import_module(name).main()
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return call


@pytest.fixture
def learn_throughput(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("learn_throughput")


def test_every_method_is_compared_and_its_plain_loop_makes_the_same_updates(run, model_directory):
    # In float32: bfloat16 products are rounded where a sum is cut, and two loops cut it in two places.
    arguments = ["--quick", "--no-memory", "--steps", "8", "--dtype", "float32", "--model", str(model_directory)]
    found = run("learn_throughput", *arguments)
    plain = sys.modules["plain_loop"].PLAIN
    assert [row["method"] for row in found] == sorted(plain) and set(plain) <= set(base.names())
    for row in found:
        assert row["steps"] == 8 and row["kl_tokens"] > 0 and row["ratio"] > 0
        accrete, plain = row["last_losses"]
        assert accrete == pytest.approx(plain, rel=1e-4)  # the KL term alone makes more of a difference (below)
        assert set(row["ceiling_gflops"]) == {"float32", "bfloat16"} and row["accrete"]["of_ceiling"] > 0


def test_the_reading_that_is_timed_is_that_of_the_method(monkeypatch):
    """Independent windows and carried ones; every update is timed, and the text is learned from."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    ours = importlib.import_module("_ttt_ours")
    for windows in ("independent", "carried"):
        found = ours.measure(
            argparse.Namespace(shape="embedded", updates=3, windows=windows, dtype="float32", device="cpu", set=[])
        )
        assert found["layers"] == [6, 7] and found["updates"] == 3 and found["tokens_per_second"] > 0


def test_a_step_of_a_memory_is_measured_beside_the_dense_one(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    memory_step = importlib.import_module("memory_step")
    monkeypatch.setattr(memory_step, "SIZES", {"16k": 16**2, "262k": 20**2, "1m": 24**2})

    def stepped(kind, slots, options, lessons=0, anew=False):
        """In this process, which has torch already: both sides make a step."""
        given = {"slots": slots, "lessons": lessons, "anew": anew}
        step = getattr(memory_step, kind)(argparse.Namespace(**vars(options) | given))
        step()
        return {"ms": float(slots), "peak_mb": 1.0}

    monkeypatch.setattr(memory_step, "measure", stepped)
    small = ["--width", "32", "--tokens", "8", "--rows", "5", "--steps", "1", "--dense-gb", "0.0002", "--json"]
    monkeypatch.setattr(sys, "argv", ["memory_step", *small])
    memory_step.main()
    found = json.loads(capsys.readouterr().out)
    assert {
        "ms_16k",
        "ms_262k",
        "ms_1m",
        "growth",
        "ms_dense_1m",
        "speedup_1m",
        "growth_full",
        "growth_anew",
    } <= found.keys()
    assert (
        found["growth"] == found["ms_1m"] / found["ms_16k"]
        and found["speedup_1m"] == found["ms_dense_1m"] / found["ms_1m"]
    )
    assert found["dense_extrapolated"] and found["dense_slots_measured"] < 24**2


def test_operations_are_counted_as_the_head_of_the_file_says(learn_throughput):
    row = ([1, 2, 3, 4], 2)
    full = learn_throughput.operations([([row, row], 0, [row])], linear=100, adapter=0)
    assert full == (8 + 4) * 6 * 100 + 4 * 2 * 100
    lora = learn_throughput.operations([([row, row], 1, [])], linear=100, adapter=10)
    assert lora == 8 * (4 * 100 + 6 * 10) + 4 * 2 * 100
    assert learn_throughput.counts([([row, row], 1, [])]) == dict(tokens=8, targets=4, kl_tokens=4, rows_per_step=2)


def test_a_missing_term_would_be_seen(learn_throughput, make_lm):
    """The comparison of last losses is worth something: the plain loop without its KL term ends elsewhere."""
    plain_loop = sys.modules["plain_loop"]
    lm = make_lm()
    general = [([*range(20, 30)], 5)] * 4
    steps = [([([*range(5, 15)], 4)] * 4, 0, general)] * 8
    lasts = []
    for weight in (1.0, 0.0):
        torch.manual_seed(0)
        model, config = make_lm().model, type("Config", (), {"rate": 1e-2, "kl_weight": weight})
        lasts.append(plain_loop.plain_loop(plain_loop.full(model, config), steps, [], config, lm.pad))
    assert lasts[0] != pytest.approx(lasts[1], rel=1e-3)


def test_a_thousand_runs_and_says_which_claims_hold(run, model_directory):
    (found,) = run("thousand", "--quick", "--method", base.names()[0], "--model", str(model_directory))
    assert found["examples"] == 10 and found["steps"] == 2
    assert 0 < found["seconds_learning"] < found["seconds_lesson"] < found["seconds_in_all"]
    assert found["claims"].keys() == {"seconds", "memory", "lost"} and found["claims"]["memory"] is True
    assert found["loss_after"] < found["loss_before"]


def test_looking_things_up_is_measured_against_a_pass_and_a_bare_answer(run, model_directory):
    (found,) = run("retrieval", "--quick", "--model", str(model_directory))
    assert found["tokens"] >= 200 and found["items"] > 5 and found["peer"] is None and found["query_ms_million"] is None
    assert 0 < found["learn_ms_retrieve"] < found["learn_ms_logits"]
    assert found["learn_vs_forward_logits"] == pytest.approx(found["learn_ms_logits"] / found["forward_ms"], rel=0.05)
    assert found["token_overhead_logits"] > -1 and 0 <= found["right_floor"] <= found["right_logits"] <= 1


def test_millions_of_states_are_measured_on_a_few(run):
    (found,) = run("datastore", "--positions", "20000", "--many", "1000", "--here")
    assert found["documents"] == 6 and 20_000 <= found["positions"] < 20_100
    assert found["disk_mb"] >= 20_000 * 2 * 256 / 1e6 and found["exact"]["found"] == 1.0
    assert found["exact"]["ms_64"] > 0 and found["exact"]["ms_1"] > 0
    if importlib.util.find_spec("faiss") is None:
        assert found["build"] is found["faiss"] is None
    else:
        assert found["build"]["index_mb"] > 0 and found["faiss"]["found"] > 0.9


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "scripts" / "gpu").glob("*.sh")))
def test_the_scripts_for_a_gpu_are_sound_shell(script):
    assert subprocess.run(["bash", "-n", str(ROOT / "scripts" / "gpu" / script)]).returncode == 0


def test_reading_facts_is_measured_by_rules_and_with_the_model(run):
    rules, model = run("fact_extraction", "--facts", "8", "--lessons", "1")
    assert (rules["read_by"], model["read_by"]) == ("rules", "model") and rules["recall"] <= model["recall"]
    assert (
        model["recall"] > 0.7 and model["precision"] > 0.7 and model["routed"] > 0.7 and model["sentinels_routed"] == 0
    )
    assert 0 <= model["unstated_routed"] < 1


def test_slots_are_asked_in_wordings_that_they_never_studied(run):
    (untaught,) = run("slot_wordings", "--set", "max_epochs=1", "--set", "rate=0.02")
    assert untaught["asked"] == 11 * 15 and untaught["routed"] > 140  # of eleven statements
    assert untaught["garbled"] > 20 and len(untaught["examples"]) == untaught["garbled"], (
        "a low rate for one epoch is too little"
    )
