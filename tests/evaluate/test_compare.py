"""A comparison in a folder: resumed and repeated without loss, one process at a time, and what results.json holds."""

import json
import os
import shutil
import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from accrete import methods
from accrete.errors import UsageError
from accrete.evaluate import collect, machine, record, results, streams
from accrete.evaluate import compare as comparing
from accrete.evaluate.compare import Clock, Comparison, compare
from accrete.evaluate.record import lines
from accrete.evaluate.run import Job, run
from accrete.evaluate.streams import Stream, Task
from accrete.files import alone
from accrete.lm import load as loading
from accrete.store import sentinels
from accrete.types import Document, Example, Probe


@pytest.fixture(autouse=True)
def parrot(monkeypatch):
    """The double among the methods."""
    monkeypatch.setattr(
        methods, "__path__", [*methods.__path__, str(Path(__file__).parents[1] / "doubles" / "methods")]
    )


@pytest.fixture
def job(model_directory):
    options = streams.Options(lessons=3, facts=2)
    return Job(stream="identity", options=options, method="parrot", model=str(model_directory), device="cpu")


class Here:
    """A launch without processes, which remembers what ran and what was said."""

    def __init__(self):
        self.ran, self.said = [], []

    def __call__(self, path, threads, told):
        def announce(what, step, steps):
            self.said.append(what)
            told({"what": what, "step": step, "steps": steps})

        self.ran.append(f"{path.parent.name}/{path.stem}")
        try:
            run(Job.model_validate_json(path.read_text()), path.with_suffix(".jsonl"), announce)
        except RuntimeError as error:
            return str(error)
        return ""


@pytest.fixture
def here():
    return Here()


def stop_after(monkeypatch, step):
    """The next run is cut off before the line of a later step; returns what lets it go on."""
    written = record.append

    def append(path, line):
        if line["step"] > step:
            raise RuntimeError("killed")
        written(path, line)

    monkeypatch.setattr(record, "append", append)
    return lambda: monkeypatch.setattr(record, "append", written)


FIGURES = ("learned", "kept", "matrix", "kl_to_base", "wrong_document", "by_kind", "bytes")


def same(row, other):
    return {key: row[key] for key in FIGURES} == {key: other[key] for key in FIGURES}


# --- resumed ----------------------------------------------------------------------------------------------------------


def test_a_line_damaged_in_the_middle_is_measured_again_from_the_state_before_it(job, here, tmp_path, monkeypatch):
    whole = compare(Comparison((job,)), tmp_path / "whole", launch=here)["rows"][0]
    go_on = stop_after(monkeypatch, 2)
    compare(Comparison((job,)), tmp_path / "out", launch=here)
    go_on()
    path = tmp_path / "out" / "seed-0" / "parrot.jsonl"
    first, second, _ = path.read_text().split("\n")
    path.write_text(f"{first}\n{second[:-9]}\n")
    row = compare(Comparison((job,)), tmp_path / "out", launch=here)["rows"][0]
    assert "line 2 of parrot.jsonl was damaged: it is measured again from there" in here.said
    assert same(row, whole) and not path.with_suffix(".home").exists()


def test_a_damaged_base_line_is_measured_again(job, here, tmp_path):
    compare(Comparison((job,)), tmp_path, launch=here)
    path = tmp_path / "seed-0" / "base.jsonl"
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    here.ran.clear()
    compare(Comparison((job,)), tmp_path, launch=here)
    assert here.ran == ["seed-0/base"]
    now, before = json.loads(path.read_text()), json.loads(text)
    apart = {"answer_seconds": 0, "run": 0}
    assert now | apart == before | apart


def test_lessons_that_are_gone_begin_anew_instead_of_being_passed_over(job, here, tmp_path, monkeypatch):
    whole = compare(Comparison((job,)), tmp_path / "whole", launch=here)["rows"][0]
    go_on = stop_after(monkeypatch, 2)
    compare(Comparison((job,)), tmp_path / "out", launch=here)
    go_on()
    shutil.rmtree(tmp_path / "out" / "seed-0" / "parrot.home")
    assert same(compare(Comparison((job,)), tmp_path / "out", launch=here)["rows"][0], whole)
    assert "the lessons behind parrot.jsonl are gone: it begins anew" in here.said


def test_a_control_that_was_cut_off_leaves_nothing_in_what_is_learned_after_it(job, here, tmp_path, monkeypatch):
    single = job.model_copy(update={"options": streams.Options(lessons=1, facts=2)})
    whole = compare(Comparison((single,)), tmp_path / "whole", launch=here)["rows"][0]
    go_on = stop_after(monkeypatch, 0)
    compare(Comparison((single,)), tmp_path / "out", launch=here)
    go_on()
    assert same(compare(Comparison((single,)), tmp_path / "out", launch=here)["rows"][0], whole)


def test_measured_again_are_the_seeds_and_methods_that_are_asked_for(job, here, tmp_path):
    compare(Comparison((job,), seeds=(0, 1)), tmp_path, launch=here)
    other = tmp_path / "seed-0" / "bee.jsonl"
    other.write_text("{}\n")
    here.ran.clear()
    compare(Comparison((job,), seeds=(0,)), tmp_path, launch=here, again=True)
    assert here.ran == ["seed-0/base", "seed-0/parrot"] and other.exists()
    assert len(lines(tmp_path / "seed-1" / "parrot.jsonl")) == 3


def test_what_another_protocol_measured_is_not_gone_on_with(job, here, tmp_path):
    compare(Comparison((job,)), tmp_path, launch=here)
    path = tmp_path / "seed-0" / "parrot.json"
    path.write_text(path.read_text().replace('"protocol": ', '"protocol": 9'))
    with pytest.raises(UsageError, match="holds another comparison"):
        compare(Comparison((job,)), tmp_path, launch=here)


# --- processes --------------------------------------------------------------------------------------------------------


def test_two_processes_in_one_folder_are_kept_apart(job, here, tmp_path):
    with (
        alone(tmp_path / "lock", "nobody else"),
        pytest.raises(UsageError, match=rf"process \({os.getpid()}\) measures into .*another --out"),
    ):
        compare(Comparison((job,)), tmp_path, launch=here)
    assert here.ran == []
    compare(Comparison((job,)), tmp_path, launch=here)  # it is free again


def test_a_job_that_an_orphan_still_writes_is_a_row_with_a_sentence(job, here, tmp_path):
    compare(Comparison((job,)), tmp_path, launch=here)
    path = tmp_path / "seed-0" / "parrot.jsonl"
    record.keep(path, 1)
    with alone(path.with_suffix(".lock"), ""), pytest.raises(UsageError, match="parrot is being measured by another"):
        run(Job.model_validate_json(path.with_suffix(".json").read_text()), path)
    assert len(lines(path)) == 1


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("kill -9 $$", r"killed \(SIGKILL\).*out of memory"),
        ("kill -11 $$", "ended by SIGSEGV"),
        ("echo one >&2; echo 'the last word' >&2; exit 1", "^the last word$"),
        ("exit 3", "without a word"),
    ],
)
def test_a_process_that_dies_is_a_row_with_its_reason(job, here, tmp_path, monkeypatch, script, said):
    compare(Comparison((job,)), tmp_path, launch=here)
    record.keep(tmp_path / "seed-0" / "parrot.jsonl", 1)
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(program))
    (row,) = compare(Comparison((job,)), tmp_path)["rows"]
    assert row["learned"] is None
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(row["error"])


def test_the_time_left_is_that_of_all_jobs(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(comparing.time, "monotonic", lambda: now[0])
    clock = Clock({"a": 4, "b": 3, "c": 0})  # "b" has one of its four lines already
    assert clock.left("a", 0, 4) is None
    now[0] += 20
    assert clock.left("a", 2, 4) == pytest.approx(10 * 5)  # two of seven steps took 20 s
    assert clock.left("b", 1, 4) == pytest.approx(10 * 5)  # where it stood at first
    now[0] += 10
    assert clock.left("b", 2, 4) == pytest.approx(10 * 4)
    clock.over("a")  # it failed after two
    assert clock.left("b", 2, 4) == pytest.approx(10 * 2)


# --- what is measured -------------------------------------------------------------------------------------------------


@pytest.fixture
def bare(model_directory, tmp_path, monkeypatch):
    """A model that brings no sentinels, few prompts to make them of, and how often it made them."""
    folder = tmp_path / "bare"
    shutil.copytree(model_directory, folder)
    for name in ("sentinels", "background"):
        (folder / f"{name}.jsonl").unlink()
    assert not loading.load(str(folder), device="cpu", offline=True).sentinels
    made, make = [], sentinels._make
    monkeypatch.setattr(sentinels, "general_prompts", lambda: [f"What is thing {i}?" for i in range(9)])
    monkeypatch.setattr(sentinels, "_make", lambda *arguments: made.append(1) or make(*arguments))
    return folder, made


def test_a_model_without_sentinels_gets_them_once_for_all_methods_and_seeds(job, here, bare, tmp_path):
    folder, made = bare
    jobs = tuple(job.model_copy(update={"model": str(folder), "method": name}) for name in ("parrot", "retrieve"))
    found = compare(Comparison(jobs, seeds=(0, 1)), tmp_path / "out", launch=here)
    assert len(made) == 1
    for row in found["rows"]:
        assert row["error"] is None and row["sentinels"] is not None and row["kl_to_base"] is not None
        assert row["kept_sets"]["sentinels"][0] is not None and row["kept_questions"]["sentinels"] == 3


def lesson(text, *probes):
    return Stream("identity", (Task("one", Document("one", text, (Example("Q 0-0?", "A"),)), probes),))


def test_the_ceiling_shows_the_document_where_a_probe_has_no_passage(make_lm):
    from accrete.evaluate.run import base

    lm, probes = make_lm(), (Probe("Who?", ("Ada",)), Probe("What?", ("Bo",), "Bo is there."))
    line = base(lm, lesson("Ada was here.", *probes))
    assert len(line["ceiling"]) == 2 and line["ceiling_left_out"] == 0
    shown = base(lm, lesson("", replace(probes[0], context="Ada was here."), probes[1]))
    assert [row["log_likelihood"] for row in line["ceiling"]] == [row["log_likelihood"] for row in shown["ceiling"]]
    none = base(lm, lesson("", *probes))
    assert [row["probe"] for row in none["ceiling"]] == [1] and none["ceiling_left_out"] == 1


def test_a_document_longer_than_the_model_is_cut_and_asked(make_lm):
    from accrete.evaluate.run import base

    line = base(make_lm(), lesson("Ada was here. " * 400, Probe("Who?", ("Ada",))))
    assert len(line["ceiling"]) == 1


def test_a_single_lesson_has_a_wrong_document_and_learns_as_without_it(job, here, tmp_path):
    single = job.model_copy(update={"options": streams.Options(lessons=1, facts=4)})
    row = compare(Comparison((single,)), tmp_path, launch=here)["rows"][0]
    assert row["wrong_document"] == 0.0 and row["learned"] == 1.0
    assert row["wrong_document_of"] == {"document": "identity with seed 1: words 1", "reason": ""}
    line = lines(tmp_path / "seed-0" / "parrot.jsonl")[0]
    assert line["control"]["asked"] and line["lesson"]["task"] == "words 1"
    liar = single.model_copy(update={"config": {"of": "other"}})  # knows answers by heart, of other words
    assert compare(Comparison((liar,)), tmp_path / "liar", launch=here)["rows"][0]["wrong_document"] == 0.0


def test_a_control_that_cannot_be_learned_is_null_with_its_reason(job, here, tmp_path, monkeypatch):
    from accrete.evaluate import run as running

    single = job.model_copy(update={"options": streams.Options(lessons=1, facts=2)})
    teach = running.teach
    refused = {"refused": "no", "task": "x", "seconds": 0.0, "peak_mb": 1.0}
    monkeypatch.setattr(
        running,
        "teach",
        lambda learner, task: refused if not here.said[-1].startswith("task") else teach(learner, task),
    )
    row = compare(Comparison((single,)), tmp_path, launch=here)["rows"][0]
    assert row["wrong_document"] is None and row["learned"] == 1.0
    assert row["wrong_document_of"]["reason"] == "the other document was not learned: no"


# --- results.json -----------------------------------------------------------------------------------------------------


def test_results_say_what_ran_where_and_with_what(job, here, tmp_path):
    jobs = (job, job.model_copy(update={"method": "full_finetune", "config": {"max_steps": 1}}))
    found = compare(Comparison(jobs, seeds=(0, 1), command="accrete compare"), tmp_path, launch=here)
    assert found == json.loads((tmp_path / "results.json").read_text())
    assert found["schema"] == results.SCHEMA and found["versions"]["accrete"] and found["machine"]["cores"]
    assert found["commit"] == machine.commit() and all(
        row["run"]["commit"] == machine.commit() for row in found["rows"]
    )
    parrot, full = found["rows"]
    assert parrot["config"] == {"holds": "all", "of": "this", "fails_at": 0}
    assert full["config"]["max_steps"] == 1 and full["config"]["seed"] == [0, 1] and len(full["config"]) > 3
    for row in found["rows"]:
        assert row["score"] == "contains" and set(results.KEYS) <= set(row)
        for count in (*results.COUNTS, "refused"):
            assert type(row[count]) is int, count
        assert row["tokens"] > 0 and row["log_likelihood"] <= 0
        assert set(row["kept_sets"]) == set(row["kept_questions"]) == {"sentinels"}
        (plain,) = row["by_kind"].values()
        assert plain["probes"] == 12 and plain["learned"] == pytest.approx(row["learned"])


def test_kinds_are_told_apart():
    def asked(task, probe, kind, right):
        return {"task": task, "probe": probe, "kind": kind, "contains": right, "log_likelihood": -1.0, "answer": ""}

    told = {"tasks": [{"name": "one", "probes": [{"question": "q", "answers": ["a"]}] * 3}] * 2}
    kinds = ("", "reverse", "reverse")
    base = {"step": 0, "stream": told, "asked": [asked(t, k, kinds[k], 0.0) for t in (0, 1) for k in range(3)]}
    base |= {"ceiling": [asked(0, 1, "reverse", 1.0)]}
    after = [
        {"step": s, "asked": [asked(t, k, kinds[k], float(k == t)) for t in range(s) for k in range(3)],
         "lesson": {"seconds": 1.0, "peak_mb": 1.0}, "answer_seconds": 0.1}
        for s in (1, 2)
    ]  # fmt: skip
    row = results.row("ant", {}, [[base, *after]], "contains")
    assert row["by_kind"]["plain"] == {"probes": 2, "floor": 0.0, "learned": 0.5, "kept": 0.5, "ceiling": None}
    assert row["by_kind"]["reverse"] == {"probes": 4, "floor": 0.0, "learned": 0.25, "kept": 0.25, "ceiling": 1.0}


def test_a_config_that_is_wrong_or_of_a_stranger_is_kept_as_given():
    assert collect.effective("peft_lora", {"rank": 4}) == {"rank": 4}
    assert collect.effective("parrot", {"holds": "nonsense"}) == {"holds": "nonsense"}


def test_the_commit_is_of_a_checkout_or_none(monkeypatch, tmp_path):
    assert machine.commit() is None or machine.commit().removesuffix("-dirty").isalnum()
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "a" / "b" / "c" / "machine.py"))
    assert machine.commit() is None
    (tmp_path / ".git").mkdir()
    assert machine.commit() is None  # git knows nothing of it
