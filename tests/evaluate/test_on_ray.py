"""Jobs on ray: what goes there and comes back, on a stand-in for ray; and, where ray is installed, on two real workers."""

import json
import os
import signal
import sys
import threading
import types

import pytest
from typer.testing import CliRunner

from accrete.cli.main import app
from accrete.errors import UsageError
from accrete.evaluate import on_ray, streams
from accrete.evaluate.compare import Comparison, compare
from accrete.evaluate.run import Job, lines, run
from accrete.methods import base

NODES = [{"Alive": True, "Resources": {"CPU": 4.0, "GPU": 1.0}}, {"Alive": True, "Resources": {"CPU": 2.0}}]
BASE = {"step": 0, "model": {"base_digest": "d"}, "stream": {"tasks": [{}, {}]}}
STEPS = "".join(
    json.dumps({"step": step, "base_digest": "d", "note": "a\u2028b"}, ensure_ascii=False) + "\n" for step in (1, 2)
)


class Lost(Exception):
    pass


class Remote:
    """A function or class as ray has it: `.options()`, `.remote()`; a call is over at once unless it is not to end."""

    def __init__(self, thing, ray, asked):
        self.thing, self.ray, self.asked = thing, ray, asked

    def options(self, **more):
        return Remote(self.thing, self.ray, self.asked | more)

    def remote(self, *arguments):
        if isinstance(self.thing, type):
            made = self.thing(*arguments)
            return types.SimpleNamespace(
                **{name: Remote(getattr(made, name), self.ray, {}) for name in ("tell", "heard")}
            )
        if "num_gpus" in self.asked:
            self.ray.asked.append(self.asked)
        if self.ray.lose:
            return Lost("the machine is gone\nand more")
        return self.thing(*arguments)


@pytest.fixture
def ray(monkeypatch):
    """A module in the place of ray that runs tasks here."""

    def get(found):
        if isinstance(found, Exception):
            raise found
        return found

    def wait(tasks, timeout):
        fake.waited += 1
        return (tasks, []) if fake.waited > fake.rounds else ([], tasks)

    fake = types.ModuleType("ray")
    fake.exceptions = types.SimpleNamespace(RayError=Lost)
    fake.asked, fake.cancelled, fake.lose, fake.waited, fake.rounds, fake.down = [], [], False, 0, 1, False
    fake.is_initialized, fake.nodes = lambda: False, lambda: NODES
    fake.init = lambda **options: None
    fake.shutdown = lambda: setattr(fake, "down", True)
    fake.get, fake.wait, fake.cancel = get, wait, lambda task: fake.cancelled.append(task)
    fake.remote = lambda *things, **asked: (
        Remote(things[0], fake, asked) if things else lambda thing: Remote(thing, fake, asked)
    )
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    return fake


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A job beside the lines of its base, and a process that writes its two steps."""
    place = tmp_path / "seed-0"
    place.mkdir()
    (place / "base.jsonl").write_text(json.dumps(BASE) + "\n")
    path = place / "ant.json"
    path.write_text(Job(stream="identity", method="ant").model_dump_json())
    ran = []

    def process(there, threads, told):
        ran.append((there, threads))
        assert there.name == "ant.json" and there != path and there.read_text() == path.read_text()
        told({"what": "task 1", "step": 0, "steps": 2})
        there.with_suffix(".jsonl").write_text(STEPS)
        return ""

    monkeypatch.setattr(on_ray, "in_a_process", process)
    return types.SimpleNamespace(path=path, ran=ran, written=path.with_suffix(".jsonl"))


def launch(job, said=None):
    with on_ray.cluster(3) as launched:
        return launched(job.path, 7, (said if said is not None else []).append)


def test_lines_come_back_and_nothing_stays_there(ray, job):
    said = []
    assert launch(job, said) == ""
    assert job.written.read_text() == STEPS and [line["step"] for line in lines(job.written)] == [1, 2]
    assert said == [{"what": "task 1", "step": 0, "steps": 2}]
    ((there, threads),) = job.ran
    assert not there.parent.exists() and threads == 2  # six processors for three jobs
    assert ray.asked == [{"max_retries": 0, "num_cpus": 2, "num_gpus": 1}] and ray.down
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_what_is_whole_is_not_run_again_and_half_a_job_is(ray, job):
    job.written.write_text(STEPS)
    assert launch(job) == "" and job.ran == []
    job.written.write_text(STEPS.split("\n")[0] + "\n")
    assert launch(job) == "" and len(job.ran) == 1 and job.written.read_text() == STEPS


def test_a_job_that_fails_or_is_lost_leaves_no_lines(ray, job, monkeypatch):
    monkeypatch.setattr(on_ray, "in_a_process", lambda *_: "no memory")
    assert launch(job) == "no memory" and not job.written.exists()
    ray.lose = True
    assert launch(job) == "Ray lost it: the machine is gone" and not job.written.exists()


def test_another_base_version_or_data_are_found_out(ray, job, monkeypatch):
    (job.path.parent / "base.jsonl").write_text(json.dumps(BASE | {"model": {"base_digest": "e"}}) + "\n")
    assert "another base model" in launch(job) and not job.written.exists()
    job.path.write_text(Job(stream="identity", method="ant", content="f" * 64).model_dump_json())
    assert 'The stream "identity" is another on' in launch(job)
    same = streams.digest(streams.make("identity", streams.Options()))
    seeded = Job(stream="identity", content=same, options=streams.Options(seed=3)).model_dump_json()
    assert on_ray.other_data(seeded) == ""
    monkeypatch.delenv("ACCRETE_DATA", raising=False)
    assert "ACCRETE_DATA" in on_ray.other_data(Job(stream="squad", content="f").model_dump_json())
    outcome = {"machine": "far", "version": "0.0.0", "error": "", "lines": STEPS}
    assert on_ray.take(job.path, outcome).startswith("far has accrete 0.0.0")


def test_what_a_model_without_sentinels_must_keep_travels_with_its_jobs(ray, job, monkeypatch):
    """Made where the base is asked, it comes back here and goes to where the methods run."""
    found, base = [], job.path.with_name("base.json")
    base.write_text(job.path.read_text())
    base.with_suffix(".jsonl").unlink()

    def process(there, threads, told):
        folder = there.parent.parent / "sentinels"
        found.append({file.name: file.read_text() for file in folder.glob("*")})
        if there.stem == "base":
            folder.mkdir()
            (folder / "d1.jsonl").write_text('{"question": "Who?"}\n')
        there.with_suffix(".jsonl").write_text(json.dumps(BASE) + "\n" if there.stem == "base" else STEPS)
        return ""

    monkeypatch.setattr(on_ray, "in_a_process", process)
    with on_ray.cluster(1) as launched:
        assert launched(base, 1, lambda line: None) == launched(job.path, 1, lambda line: None) == ""
    made = {"d1.jsonl": '{"question": "Who?"}\n'}
    assert found == [{}, made]
    assert (base.parent.parent / "sentinels" / "d1.jsonl").read_text() == made["d1.jsonl"]
    outcome = {"machine": "far", "version": on_ray.metadata.version("accrete"), "error": "", "lines": STEPS}
    with pytest.raises(UsageError, match="cannot name"):
        on_ray.take(job.path, outcome | {"sentinels": {"../../x y.jsonl": ""}})


def test_a_program_that_is_stopped_does_not_wait_for_ray(ray, job, monkeypatch):
    ray.rounds = 1_000_000
    stopped = threading.Event()
    task = Remote(on_ray.work, ray, {})
    ear = types.SimpleNamespace(tell=Remote(lambda *_: None, ray, {}), heard=Remote(lambda *_: stopped.set(), ray, {}))
    launched = on_ray._launch(ray, task, ear, 1, False, stopped)
    assert launched(job.path, 1, lambda line: None) == on_ray.STOPPED and len(ray.cancelled) == 1
    assert launched(job.path, 1, lambda line: None) == on_ray.STOPPED and len(ray.cancelled) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_is_told_to_the_threads_and_the_old_handler_comes_back(number):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), on_ray._interruptible() as stopped:
        os.kill(os.getpid(), number)
        stopped.wait(5)
    assert stopped.is_set() and signal.getsignal(number) is before


def test_a_share_fits_the_smallest_machine():
    assert on_ray.share(NODES, 1) == (2, True) and on_ray.share(NODES, 100) == (1, True)
    dead = [{"Alive": False, "Resources": {"CPU": 1.0, "GPU": 1.0}}, {"Alive": True, "Resources": {"memory": 1.0}}]
    assert on_ray.share([*dead, NODES[1]], 1) == (2, False)
    with pytest.raises(UsageError, match="no processors"):
        on_ray.share(dead, 1)


def test_without_ray_it_is_one_sentence_that_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"accrete\[scale\]"), on_ray.cluster(1):
        pass


def test_a_ray_that_cannot_be_reached_is_one_sentence(ray):
    def refused(**options):
        raise ConnectionError("no ray at 1.2.3.4\ntrace")

    ray.init = refused
    with pytest.raises(UsageError, match=r"^Ray cannot be used: no ray at 1\.2\.3\.4$"), on_ray.cluster(1):
        pass
    assert ray.down


def test_the_verb_says_where_jobs_can_run(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    for place, said in (("rya", 'Did you mean "ray"'), ("ray", "accrete[scale]")):
        arguments = ["compare", "--stream", "identity", "--on", place, "--out", str(tmp_path / "out")]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 2 and said in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_two_workers_measure_what_one_process_does(model_directory, tmp_path):
    real = pytest.importorskip("ray")
    jobs = tuple(
        Job(stream="identity", content=streams.digest(streams.make("identity", streams.Options(lessons=1))),
            options=streams.Options(lessons=1), method=name, config={"max_steps": 2}, model=str(model_directory),
            device="cpu")
        for name in base.names()[:2]
    )  # fmt: skip
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    real.init(num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        with on_ray.cluster(2) as launched:
            there = compare(Comparison(jobs), tmp_path / "there", parallel=2, launch=launched)
    finally:
        real.shutdown()

    def in_this_process(path, threads, told):
        return run(Job.model_validate_json(path.read_text()), path.with_suffix(".jsonl")) or ""

    here = compare(Comparison(jobs), tmp_path / "here", launch=in_this_process)
    for mine, theirs in zip(here["rows"], there["rows"], strict=True):
        assert theirs["error"] is None
        for key in ("method", "learned", "kept", "floor", "log_likelihood", "kl_to_base", "tokens", "matrix"):
            assert mine[key] == theirs[key], key
