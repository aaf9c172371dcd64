"""kill -9 at any moment of `learn`, `undo` and `save`: the last commit opens, its state is exact, and learning goes on.

CRASH_KILLS and CRASH_SEED (no ACCRETE_ names: those are settings) set how many kills the slow lane deals and at which moments.
"""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from accrete import Document, Example, Learner
from accrete.methods import base
from accrete.store import checkpoint

CONFIG = {"max_steps": 2, "batch_size": 2, "kl_batch": 2}

METHODS = ("lora_replay_ewc", "full_finetune")
KILLS = int(os.environ.get("CRASH_KILLS", "200"))
SEED = int(os.environ.get("CRASH_SEED", "0"))

# Learns documents from FIRST on, one after the other, undoing every third; with a POINT it kills itself there, when that
# function is called for the N-th time, before or after doing its work. Forked from a process that has loaded torch.
PROGRAM = """
import importlib, os, signal, sqlite3, sys, json
from accrete import Document, Example, Learner
import accrete.files, accrete.store.journal

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def kill_at(point, call, after):
    module, _, path = point.partition(":")
    owner = importlib.import_module(module)
    *holders, name = path.split(".")
    for holder in holders:
        owner = getattr(owner, holder)
    original, calls = getattr(owner, name), [0]
    def wrapped(*arguments, **options):
        calls[0] += 1
        if calls[0] == call and not after:
            die()
        result = original(*arguments, **options)
        if calls[0] == call:
            die()
        return result
    setattr(owner, name, wrapped)

class Dying(sqlite3.Connection):
    "Dies before or after the commit of its transaction number `call`."
    call = after = calls = 0
    def __exit__(self, *arguments):
        Dying.calls += 1
        if Dying.calls == Dying.call and not Dying.after:
            die()
        result = super().__exit__(*arguments)
        if Dying.calls == Dying.call:
            die()
        return result

def main(model, home, first, config, point, call, after):
    if point == "sqlite":
        connect = sqlite3.connect
        sqlite3.connect = lambda *a, **o: connect(*a, factory=Dying, **o)
    learner = Learner(model, method="full_finetune", home=home, config=config)
    if point == "sqlite":
        Dying.call, Dying.after = call, after
    elif point:
        kill_at(point, call, after)
    for number in range(first, first + 1000):
        learner.learn(Document(f"d{number}", items=(Example(f"What is thing {number}?", f"Value {number}."),)))
        print(number, flush=True)
        if number % 3 == 0:
            learner.undo()

def live(model, home, first, config, method, seed):
    "Learns, undoes and saves as the seed has it, a few lessons deep at most, saying each time what it did."
    import random
    draw = random.Random(seed)
    learner = Learner(model, method=method, home=home, config=config, max_forgetting=1.0)
    for number in range(first, first + 1000):
        depth, luck = len(learner.history.active()), draw.random()
        if depth and luck < 0.1 * depth:
            print("did", "undo", learner.undo().id, flush=True)
        elif luck > 0.8:
            name = draw.choice(["a", "b", "c"])
            learner.save_checkpoint(learner.home / "checkpoints" / f"{method}-{name}")
            print("did", "save", learner.digest, flush=True)
        else:
            item = Example(f"What is thing {number}?", f"Value {number}.")
            commit = learner.learn(Document(f"d{number}", items=(item,)), domain=draw.choice(["one", "two"]))
            print("did", "learn", commit.id, flush=True)

import accrete.learner, accrete.methods.lora_replay_ewc, accrete.methods.full_finetune, torch
torch.set_num_threads(1)
print("ready", flush=True)
for line in sys.stdin:  # each line one child: its arguments
    child = os.fork()
    if not child:
        program, *arguments = json.loads(line)
        {"main": main, "live": live}[program](*arguments)
        os._exit(0)
    print("child", child, flush=True)
    _, status = os.waitpid(child, 0)
    print("ended", os.waitstatus_to_exitcode(status), flush=True)
"""


def short(method):
    """Of the options that make a lesson short those that the method has."""
    return {key: value for key, value in CONFIG.items() if key in base.find(method).Config.model_fields}


class Nursery:
    """One process that has loaded torch, and forks children that learn and are killed."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout.readline() == "ready\n"

    def run(self, model, home, first, point="", call=0, after=False, kill_after=None):
        """Let a child learn until it dies, by its own hand or `kill_after` seconds; returns the lessons it announced."""
        said = self._until_it_dies(["main", str(model), str(home), first, CONFIG, point, call, after], kill_after)
        return [int(line) for line in said if line.isdigit()]

    def live(self, model, home, first, method, seed, kill_after):
        """Let a child learn, undo and save until it is killed; returns (what, id or digest) of all it announced."""
        said = self._until_it_dies(["live", str(model), str(home), first, short(method), method, seed], kill_after)
        return [tuple(line.split()[1:]) for line in said if line.startswith("did ")]

    def _until_it_dies(self, command, kill_after):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        said = []
        for line in self.process.stdout:
            word, *rest = line.split()
            if word == "child" and kill_after is not None:
                time.sleep(kill_after)
                subprocess.run(["kill", "-9", rest[0]], check=True)
            elif word == "ended":
                assert int(rest[0]) == -signal.SIGKILL
                return said
            else:
                said.append(line.strip())
        raise AssertionError("the nursery died")

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def nursery():
    nursery = Nursery()
    yield nursery
    nursery.close()


def document(number):
    return Document(f"d{number}", items=(Example(f"What is thing {number}?", f"Value {number}."),))


def assert_sound(model, home, announced):
    """A fresh learner stands at the last commit, exactly; what was announced is there; learning and undo go on."""
    learner = Learner(str(model), method="full_finetune", home=home, config=CONFIG, offline=True)
    commits = learner.log()
    active = [commit for commit in commits if commit.undone is None]
    if active:
        assert learner.digest == active[-1].digest_after
    assert {f"d{number}" for number in announced} <= {commit.document for commit in commits}
    for before, after in itertools.pairwise(active):
        assert after.parent == before.id and after.digest_before == before.digest_after
    digest = learner.digest
    commit = learner.learn(Document("after the crash", items=(Example("What is after?", f"{len(commits)}."),)))
    assert commit.digest_before == digest and commit.number == len(active) + 1
    learner.undo()
    assert learner.digest == digest
    packs = {path.stem for path in (home / "packs").iterdir()}
    assert packs <= {commit.id for commit in commits}, "something is left over after the next writer"


POINTS = [
    ("accrete.store.journal:Journal._write_pack", 1, False),
    ("accrete.store.journal:Journal._write_pack", 2, True),
    ("accrete.store.journal:save_file", 1, True),
    ("accrete.files:os.replace", 2, False),
    ("accrete.files:os.replace", 1, True),
    ("accrete.store.journal:Journal.undo", 1, False),
    ("accrete.store.journal:Journal._remove_orphans", 4, False),  # in undo, after its transaction
    ("accrete.store.journal:Journal._prepare", 1, False),
    *(("sqlite", call, after) for call in (5, 8) for after in (False, True)),
]


@pytest.mark.parametrize(("point", "call", "after"), POINTS)
def test_a_kill_at_a_chosen_point(nursery, model_directory, home, point, call, after):
    announced = nursery.run(model_directory, home, 1, point, call, after)
    assert_sound(model_directory, home, announced)


@pytest.mark.parametrize("kill_after", [0.15, 0.9])
def test_a_kill_at_a_random_moment(nursery, model_directory, home, kill_after):
    announced = nursery.run(model_directory, home, 1, kill_after=kill_after)
    assert_sound(model_directory, home, announced)


class Chronicle:
    """What one method is known to have done in a home, as far as it was announced."""

    def __init__(self, model, home, method):
        self.model, self.home, self.method = model, home, method
        self.birth = self.learner().digest
        self.commits, self.saved = {}, {}  # id -> Commit as last seen; name -> digest

    def learner(self):
        options = {"home": self.home, "config": short(self.method), "max_forgetting": 1.0, "offline": True}
        return Learner(str(self.model), method=self.method, **options)

    def check(self, announced):
        """A fresh learner stands at a committed state; what was announced holds, and at most one thing more was done."""
        learner = self.learner()
        commits = {commit.id: commit for commit in learner.log()}
        active = [commit for commit in commits.values() if commit.undone is None]
        assert learner.digest == (active[-1].digest_after if active else self.birth)
        assert [commit.number for commit in active] == list(range(1, len(active) + 1))
        before = [(None, self.birth), *((commit.id, commit.digest_after) for commit in active)]
        assert [(commit.parent, commit.digest_before) for commit in active] == before[:-1]
        for name, known in self.commits.items():
            assert commits[name].digest_after == known.digest_after and (commits[name].undone or not known.undone)
        learned, undone = ({name for what, name in announced if what == kind} for kind in ("learn", "undo"))
        new = commits.keys() - self.commits.keys()
        newly_undone = {c.id for c in commits.values() if c.undone} - {c.id for c in self.commits.values() if c.undone}
        assert learned <= new and undone <= newly_undone
        assert len(new - learned) + len(newly_undone - undone) <= 1, "more was done than the one thing in hand"
        self.commits = commits
        self._check_checkpoints({self.birth} | {commit.digest_after for commit in commits.values()}, learner.base)
        return learner

    def _check_checkpoints(self, committed, base):
        for name in [f"{self.method}-{letter}" for letter in "abc"]:
            place = self.home / "checkpoints" / name
            if name in self.saved or place.exists():
                _, manifest = checkpoint.load_checkpoint(
                    checkpoint.find(self.home, name), base=base, method=self.method
                )
                assert manifest["digest"] in committed
                self.saved[name] = manifest["digest"]

    def end(self):
        """Learning, loading and undoing go on down to birth, and nothing is left over."""
        learner = self.learner()
        commit = learner.learn(Document("after the crash", items=(Example("What is after?", "All."),)))
        for name in self.saved:
            assert learner.load_checkpoint(self.home / "checkpoints" / name).digest_after == self.saved[name]
        assert commit.number >= 1
        while any(commit.undone is None for commit in learner.log()):
            learner.undo()
        assert learner.digest == self.birth


@pytest.mark.slow
def test_many_kills_in_one_home(nursery, model_directory, home):
    """One home lives through all of them, two methods in turn, each process going on where the last was killed."""
    draw, number, done = random.Random(SEED), 1, 0
    chronicles = {method: Chronicle(model_directory, home, method) for method in METHODS}
    for kill in range(KILLS):
        method = METHODS[kill % 2]
        announced = nursery.live(model_directory, home, number, method, draw.random(), draw.uniform(0.05, 1.6))
        number, done = number + len(announced) + 1, done + len(announced)
        for name, chronicle in chronicles.items():
            chronicle.check(announced if name == method else [])
    print(f"{KILLS} kills (seed {SEED}), {done} lessons, undos and saves announced")
    assert done > KILLS, "the processes died before they did anything"
    for chronicle in chronicles.values():
        chronicle.end()
    assert list((home / "packs").iterdir()) == [], "something is left over"


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("call", range(1, 16))
def test_a_kill_at_every_transaction(nursery, model_directory, home, call, after):
    announced = nursery.run(model_directory, home, 1, "sqlite", call, after)
    assert_sound(model_directory, home, announced)
