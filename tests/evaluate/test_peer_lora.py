"""benchmarks/peer_lora.py: a row of the same form, which merges with a comparison; it learns, and holds nothing back."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

from accrete.data.study import study_sequences
from accrete.errors import UsageError
from accrete.evaluate import merge, results, streams
from accrete.evaluate.compare import Comparison, compare
from accrete.evaluate.run import Job, lines, run
from accrete.lm.load import load
from accrete.methods import base
from accrete.types import Lesson, Query

RECIPE = {"rank": 4, "alpha": 8.0, "rate": 1e-2, "batch_size": 4, "epochs": 6}


@pytest.fixture
def peer(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("peer_lora")


@pytest.fixture
def job(model_directory):
    options = streams.Options(lessons=2, facts=2)
    content = streams.digest(streams.make("identity", options))
    return Job(stream="identity", content=content, options=options, method="peft_lora", config=RECIPE,
               model=str(model_directory), device="cpu")  # fmt: skip


def in_this_process(path, threads, told):
    job = Job.model_validate_json(path.read_text())
    return (
        run(
            job,
            path.with_suffix(".jsonl"),
            lambda what, step, steps: told({"what": what, "step": step, "steps": steps}),
        )
        or ""
    )


def test_its_row_stands_among_those_of_a_comparison(peer, job, tmp_path):
    peer.measure(job, 1, tmp_path / "peer", launch=in_this_process)
    other = job.model_copy(update={"method": base.names()[0], "config": {"max_steps": 1}})
    compare(Comparison((other,)), tmp_path / "other", launch=in_this_process)
    both = merge.merge({name: merge.read(tmp_path / name) for name in ("other", "peer")})
    mine, theirs = both["rows"][::-1]
    assert mine["method"] == "peft_lora" and mine["error"] is None and mine["config"] == RECIPE
    assert mine.keys() == theirs.keys() >= set(results.FIGURES)
    assert (mine["floor"], mine["ceiling"]) == (theirs["floor"], theirs["ceiling"])
    assert mine["trainable"] == mine["bytes"] / 4 and mine["tokens"] > 0
    assert (tmp_path / "peer" / "report.html").exists()


def _document():
    return streams.make("identity", streams.Options(lessons=2, facts=2)).tasks[0].document


def test_a_lesson_taken_back_leaves_no_trace(peer, job, make_lm):
    lm = make_lm()
    learner = peer.PlainLora(lm, RECIPE, 0)
    query = Query("What is the word for amber 0-0?")

    def taught():
        learner.learn(_document())
        return [p.detach().clone() for p in learner._trainable()]

    before = [p.detach().clone() for p in learner._trainable()]
    first = taught()
    assert any(not torch.equal(a, b) for a, b in zip(before, first, strict=True))
    learner.undo()
    assert all(torch.equal(a, b) for a, b in zip(before, learner._trainable(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(first, taught(), strict=True))  # the same lesson, bit for bit
    assert learner.reader.answer([query], 4)


def test_it_learns_its_items_and_starts_from_the_base(peer, job, tmp_path):
    peer.measure(job, 1, tmp_path, launch=in_this_process)
    first, after, _ = [*lines(tmp_path / "seed-0" / "base.jsonl"), *lines(tmp_path / "seed-0" / "peft_lora.jsonl")]

    def likelihood(line):
        return sum(row["log_likelihood"] for row in line["asked"] if row["task"] == 0)

    assert likelihood(after) > likelihood(first) + 1
    assert after["lesson"]["steps"] == 6 and after["base_digest"] == first["model"]["base_digest"]
    ours = sum(
        s.targets for s in study_sequences(load(job.model, device="cpu"), Lesson(_document(), (), _document().items))
    )
    assert after["lesson"]["tokens"] == ours  # once, however often they are trained on
    nothing = peer.learn_and_ask(job.model_copy(update={"config": RECIPE | {"epochs": 0}}), 0, tmp_path)
    assert likelihood(nothing[0]) == pytest.approx(likelihood(first), abs=1e-4)


def test_what_is_there_is_not_measured_again_and_another_run_is_refused(peer, job, tmp_path, monkeypatch):
    quick = job.model_copy(update={"config": RECIPE | {"epochs": 0}})
    first = peer.measure(quick, 1, tmp_path, launch=in_this_process)
    monkeypatch.setattr(peer, "learn_and_ask", lambda *_: pytest.fail("measured again"))
    assert peer.measure(quick, 1, tmp_path, launch=in_this_process)["rows"] == first["rows"]
    with pytest.raises(UsageError, match="of another run"):
        peer.measure(job, 1, tmp_path, launch=in_this_process)


def test_a_wrong_stream_is_one_sentence(peer, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["peer_lora.py", "--stream", "identiti", "--out", "o"])
    with pytest.raises(SystemExit, match=r'no stream "identiti".*identity'):
        peer.main()
