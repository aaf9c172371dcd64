"""kill -9 at any moment of `learn` and `undo`: the last commit opens, its state is exact, and learning goes on."""

import itertools
import json
import random
import signal
import subprocess
import sys
import time

import pytest

from accrete import Document, Example, Learner

CONFIG = {"max_steps": 2, "batch_size": 2, "kl_batch": 2}

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
    learner = Learner(model, home=home, config=config)
    if point == "sqlite":
        Dying.call, Dying.after = call, after
    elif point:
        kill_at(point, call, after)
    for number in range(first, first + 1000):
        learner.learn(Document(f"d{number}", items=(Example(f"What is thing {number}?", f"Value {number}."),)))
        print(number, flush=True)
        if number % 3 == 0:
            learner.undo()

import accrete.learner, torch
torch.set_num_threads(1)
print("ready", flush=True)
for line in sys.stdin:  # each line one child: its arguments
    child = os.fork()
    if not child:
        main(*json.loads(line))
        os._exit(0)
    print("child", child, flush=True)
    _, status = os.waitpid(child, 0)
    print("ended", os.waitstatus_to_exitcode(status), flush=True)
"""


class Nursery:
    """One process that has loaded torch, and forks children that learn and are killed."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout.readline() == "ready\n"

    def run(self, model, home, first, point="", call=0, after=False, kill_after=None):
        """Let a child learn until it dies, by its own hand or `kill_after` seconds; returns the lessons it announced."""
        arguments = [str(model), str(home), first, CONFIG, point, call, after]
        self.process.stdin.write(json.dumps(arguments) + "\n")
        self.process.stdin.flush()
        lessons = []
        for line in self.process.stdout:
            word, *rest = line.split()
            if word == "child" and kill_after is not None:
                time.sleep(kill_after)
                subprocess.run(["kill", "-9", rest[0]], check=True)
            elif word == "ended":
                assert int(rest[0]) == -signal.SIGKILL
                return lessons
            elif word.isdigit():
                lessons.append(int(word))
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
    learner = Learner(str(model), home=home, config=CONFIG, offline=True)
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


@pytest.mark.slow
def test_many_kills_in_one_home(nursery, model_directory, home):
    """The home lives through all of them, each child going on where the last was killed."""
    draw, number = random.Random(0), 1
    for _ in range(25):
        announced = nursery.run(model_directory, home, number, kill_after=draw.uniform(0.05, 2.0))
        assert_sound(model_directory, home, announced)
        number += len(announced) + 1


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("call", range(1, 16))
def test_a_kill_at_every_transaction(nursery, model_directory, home, call, after):
    announced = nursery.run(model_directory, home, 1, "sqlite", call, after)
    assert_sound(model_directory, home, announced)
