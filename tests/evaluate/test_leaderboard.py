"""scripts/leaderboard.py: the page shows what is stored, a changed figure is stale, and nothing is measured twice."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from accrete.evaluate import results, streams

ROOT = Path(__file__).parents[2]


def loaded():
    spec = importlib.util.spec_from_file_location("leaderboard", ROOT / "scripts/leaderboard.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def script(tmp_path, monkeypatch):
    """The script, writing into a folder of its own."""
    module = loaded()
    for name, value in (("PAGE", tmp_path / "LEADERBOARD.md"), ("STORED", tmp_path / "leaderboard.json")):
        monkeypatch.setattr(module, name, value)
    return module


def found(stream="temporal", error=None):
    """Results of two methods and the peer, one of the methods failed when `error` says why."""
    figures = dict.fromkeys(results.FIGURES) | {
        "floor": 0.0123, "learned": 0.5, "kept": 0.25, "ceiling": 0.9, "kl_to_base": 0.01264, "learn_seconds": 1.25,
        "bytes": 2_500_000.0, "peak_mb": 512.3,
    }  # fmt: skip
    rows = [
        {
            "method": name,
            **figures,
            "intervals": {"learned": [0.4, 0.6], "op": [0, 1]},
            "error": None,
            "config": {},
            "run": {"commit": "abc1234"},
        }
        for name in ("ant", "bee", "peft_lora")
    ]
    if error:
        rows[1] = results.failed("bee", {}, error)
        rows[1] |= {"intervals": None, "run": {"commit": "abc1234"}}
        del rows[1]["config"]
    return {
        "stream": {"name": stream, "score": "contains", "content": "c", "tasks": [{"probes": [{}] * 700}] * 2},
        "lessons": 2, "model": "/some/where/embedded", "base_digest": "d" * 64, "seeds": [0, 1],
        "measured": "2026-01-02T03:04:05Z", "machine": {"cores": 2}, "versions": {"accrete": "1"}, "rows": rows,
    }  # fmt: skip


def entry(script, *arguments, **more):
    return script.entry(found(*arguments, **more), ("--limit", "60"))


def test_a_row_shows_floor_ceiling_interval_command_and_commit(script):
    script.write({"temporal": entry(script)})
    text = script.PAGE.read_text()
    assert "| ant | 0.01 | 0.50 ±0.10 | 0.90 | 0.25 | 0.013 | 1.2 | 2.5 | 512 |" in text
    assert "- ant: `accrete compare --stream temporal --limit 60 --methods ant` at commit abc1234" in text
    assert "- peft_lora: `python benchmarks/peer_lora.py --stream temporal --limit 60 --out OUT` at commit" in text
    assert "2 lessons, 1,400 questions" in text and "/some/where" not in text + script.STORED.read_text()
    assert "plasticity" not in text.split("## Published")[0]  # not measured here
    published = text.split("## Published")[1]
    assert "1B parameters" in published and "| CASM | 0.329 | 0.258 | 0.056 |" in published


def test_forgetting_is_told_as_what_it_is(script):
    made = entry(script)
    made["rows"][0]["forgetting"] = 0.1
    assert "the best score that was measured to the end, a lower bound without --full-matrix" in script.section(
        "x", made
    )
    assert "Each command makes its row alone." in script.HEAD


def test_a_method_that_failed_is_a_row_of_the_same_width(script):
    table = [
        line for line in script.section("temporal", entry(script, error="no | memory\nleft")).split("\n") if "|" in line
    ]
    assert len({line.count("|") for line in table}) == 1 and "| bee | failed: no / memory left |" in table[3]


def test_a_figure_that_was_stored_by_an_earlier_version_or_not_is_no_reason_to_fail(script):
    made = entry(script)
    assert "wrong doc." not in script.section("temporal", made)
    made["rows"][0]["wrong_document"] = 0.031
    del made["rows"][1]["wrong_document"]
    text = script.section("temporal", made)
    assert "| wrong doc. |" in text and "| 0.03 | 0.013 |" in text and "| – | 0.013 |" in text


def test_streams_are_written_one_by_one_and_checked(script):
    assert script.stale() == ["There is no LEADERBOARD.md.", "There is no leaderboard.json."]
    script.write({"world": entry(script, "world")})
    script.write({"temporal": entry(script)})
    assert script.stale() == ["LEADERBOARD.md has no figures of tofu."]
    script.write({"tofu": entry(script, "tofu")})
    text = script.PAGE.read_text()
    assert text.index("## temporal") < text.index("## world") and script.stale() == script.stale("d" * 64) == []
    assert len(script.stale("e" * 64)) == 3
    script.PAGE.write_text(text.replace("0.25", "0.26"))
    assert script.stale() == ["LEADERBOARD.md does not show the figures of leaderboard.json."]
    script.PAGE.write_text(text)
    stored = json.loads(script.STORED.read_text())
    stored["streams"]["world"]["rows"][0]["kept"] = 0.99
    script.STORED.write_text(json.dumps(stored))
    assert len(script.stale()) == 1


def test_figures_of_other_defaults_are_stale(script):
    from accrete.evaluate.collect import effective

    made = entry(script)
    made["rows"][0] |= {"method": "retrieve", "config": effective("retrieve", {}, made["seeds"])}
    for name in script.STREAMS:
        script.write({name: made})
    assert script.stale() == []
    made["rows"][0]["config"]["count"] = 77
    script.write({"world": made})
    assert script.stale() == ["retrieve on world was measured with other defaults than today's."]


def test_what_was_measured_is_not_measured_again(script, tmp_path, monkeypatch):
    calls, code = [], 1

    def run(command, **_):
        calls.append(command)
        place = Path(command[command.index("--out") + 1])
        place.mkdir(parents=True, exist_ok=True)
        if code != 2:
            (place / "results.json").write_text(json.dumps(found(error="no memory")))
        return subprocess.CompletedProcess(command, code)

    monkeypatch.setattr(script.subprocess, "run", run)
    code = 2
    with pytest.raises(SystemExit, match="This run failed"):
        script.measure("temporal", ("--limit", "1"), [], "all", tmp_path)
    code = 1  # a method failed: a row
    calls.clear()
    made = script.measure("temporal", ("--limit", "1"), [], "all", tmp_path)
    assert len(calls) == 3 and "--merge" in calls[2] and calls[0][calls[0].index("--limit") + 1] == "1"
    assert script.measure("temporal", ("--limit", "1"), [], "all", tmp_path) == made and len(calls) == 3
    assert made["rows"][0]["commit"] == "abc1234"


def test_a_trial_is_not_written(script, monkeypatch, capsys):
    for more in (["--limit", "1"], ["--stream", "identity"], ["--methods", "ant"], ["--model", "m"]):
        monkeypatch.setattr(sys, "argv", ["leaderboard.py", "--write", *more])
        with pytest.raises(SystemExit):
            script.main()
        assert "not written" in capsys.readouterr().err
    assert not script.PAGE.exists()


def test_the_streams_are_there_and_the_page_of_this_project_is_fresh():
    module = loaded()
    assert set(module.STREAMS) <= set(streams.names())
    assert module.stale() == []
