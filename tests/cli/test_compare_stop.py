"""Ctrl-C while methods are measured: children end, nothing else begins, one sentence, and the same command goes on."""

import json
import os
import signal
import sys
import threading
import time

import pytest
from typer.testing import CliRunner

from accrete.cli.main import app
from accrete.evaluate import compare as comparing
from accrete.evaluate import streams
from accrete.evaluate.run import Job
from accrete.methods import base

ENDLESS = """#!/bin/sh
echo $$ >"$3.pid"
echo '{"what": "task 1", "step": 0, "steps": 2}'
exec sleep 60
"""  # what python -m accrete.evaluate.run JOB does, for ever


def is_alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("parallel", [1, 2])
def test_children_end_and_no_other_job_begins(tmp_path, monkeypatch, parallel):
    (tmp_path / "python").write_text(ENDLESS)
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    out = tmp_path / "out"
    (out / "seed-0").mkdir(parents=True)
    jobs = tuple(Job(stream="identity", method=name) for name in base.names()[:4])
    told = {"step": 0, "stream": {"name": "identity", "tasks": [{}, {}], "score": "contains"}}
    (out / "seed-0" / "base.jsonl").write_text(json.dumps(told) + "\n")  # the base was asked before
    heard = []

    def announce(method, *_):
        heard.append(method)
        if len(heard) == parallel:
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        comparing.compare(comparing.Comparison(jobs), out, announce, parallel)
    assert time.monotonic() - started < 20
    begun = [int(path.read_text()) for path in out.glob("seed-0/*.pid")]
    assert len(begun) == parallel == len(heard) and not any(map(is_alive, begun))
    assert [path.name for path in (out / "seed-0").glob("*.jsonl")] == ["base.jsonl"]
    assert not (out / "results.json").exists()


def test_a_launch_that_is_over_begins_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(comparing, "in_a_process", lambda *_: pytest.fail("a process began"))
    with comparing.processes() as launch:
        pass
    assert launch(tmp_path / "job.json", 1, print) == comparing.STOPPED


@pytest.mark.parametrize("more", [(), ("--again",), ("--json",)])
def test_one_sentence_says_how_to_go_on(home, model_directory, monkeypatch, more):
    def stopped(comparison, out, *_):
        (out / "seed-0").mkdir(parents=True, exist_ok=True)
        (out / "seed-0" / "retrieve.jsonl").write_text('{"step": 1}\n')
        raise KeyboardInterrupt

    monkeypatch.setattr(comparing, "compare", stopped)
    before = signal.getsignal(signal.SIGTERM)
    arguments = ("--stream", "identity", "--methods", "retrieve", "--home", home, "--model", model_directory)
    result = CliRunner().invoke(app, ["compare", *map(str, arguments), *more])
    assert result.exit_code == 130 and result.stderr.count("\n") == 1
    said = "the same command without --again goes on" if more == ("--again",) else "the same command goes on"
    assert said in result.stderr and "Stopped after 1 measured lessons" in result.stderr and str(home) in result.stderr
    if "--json" in more:
        assert "goes on" in json.loads(result.stdout)["error"]
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_process_that_is_to_end_is_stopped_as_by_the_keyboard(home, model_directory, monkeypatch):
    """SIGTERM is what a cluster sends at the end of a job's time."""

    def ended(*_):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
        pytest.fail("it went on")

    monkeypatch.setattr(comparing, "compare", ended)
    arguments = ("--stream", "identity", "--methods", "retrieve", "--home", home, "--model", model_directory)
    result = CliRunner().invoke(app, ["compare", *map(str, arguments)])
    assert result.exit_code == 130 and "goes on" in result.stderr


def test_every_stream_says_which_options_it_goes_by():
    for name in streams.names():
        options = streams.options_of(name)
        assert options and set(options) <= set(streams.Options.model_fields) - {"seed"}, name
