"""The home: one writer at a time, and every trouble of the file system in one sentence with nothing lost."""

import errno
import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from accrete import Document, Example, Learner
from accrete.errors import HomeError, LockedError
from accrete.store.home import default_home, plain_errors, writing

HOLDER = """
import sys, time
from pathlib import Path
from accrete.store.home import writing
with writing(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@contextmanager
def held_by_another(home):
    """A second process that holds the lock of `home`; killed at the end."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(home)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()


def document(number):
    return Document(f"d{number}", items=(Example(f"What is thing {number}?", f"Value {number}."),))


@pytest.fixture
def learner(make_lm, home):
    """A learner that has learned one lesson."""
    learner = Learner(make_lm(layers=2), method="full_finetune", home=home, config={"max_steps": 2})
    learner.learn(document(1))
    return learner


def assert_nothing_lost(learner, make_lm, commit):
    """The state in memory and on disk is that of `commit`, and learning goes on."""
    assert learner.digest == commit.digest_after
    fresh = Learner(make_lm(layers=2), method="full_finetune", home=learner.home, config={"max_steps": 2})
    assert fresh.digest == commit.digest_after
    assert [c.id for c in fresh.log()] == [commit.id]
    assert fresh.learn(document(3)).parent == commit.id


# --- where it is ----------------------------------------------------------------------------------------------------


def test_the_home_is_the_environments_or_in_the_users_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("ACCRETE_HOME", str(tmp_path))
    assert default_home() == tmp_path
    monkeypatch.setenv("ACCRETE_HOME", "~/elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_home() == tmp_path / "elsewhere"
    monkeypatch.setenv("ACCRETE_HOME", "")
    assert default_home() == tmp_path / ".accrete"


# --- the lock -------------------------------------------------------------------------------------------------------


def test_a_second_process_is_told_who_holds_the_home_and_a_dead_one_frees_it(home):
    with held_by_another(home) as process:
        with pytest.raises(LockedError, match=rf"process {process.pid}\b.*--home"), writing(home):
            pass
        process.kill()
        process.wait()
        with writing(home):
            assert (home / "lock").read_text() == str(os.getpid())


def test_learning_into_a_held_home_changes_nothing(learner, make_lm):
    (commit,) = learner.log()
    with held_by_another(learner.home):
        for change in (lambda: learner.learn(document(2)), learner.undo):
            with pytest.raises(LockedError):
                change()
        assert learner.ask("What is thing 1?").tokens  # reading needs no lock
    assert_nothing_lost(learner, make_lm, commit)


def test_the_lock_is_freed_when_its_body_raises(home):
    with pytest.raises(ZeroDivisionError), writing(home):
        raise ZeroDivisionError
    with writing(home):
        pass


def test_a_short_pid_does_not_keep_digits_of_a_longer_one(home):
    home.mkdir()
    (home / "lock").write_text("1234567890123")
    with writing(home):
        assert (home / "lock").read_text() == str(os.getpid())


# --- the file system ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("below", ["", "below"])
def test_a_home_that_is_a_file_is_refused(tmp_path, make_lm, below):
    file = tmp_path / "file"
    file.write_text("no directory")
    with pytest.raises(HomeError, match=r"not a directory"):
        Learner(make_lm(layers=2), home=file / below).learn(document(1))
    assert file.read_text() == "no directory"


def test_other_exceptions_pass_unchanged(home):
    with pytest.raises(ZeroDivisionError), plain_errors(home):
        raise ZeroDivisionError


@contextmanager
def files_no_larger_than(size):
    """A disk that is full, as far as this process can tell: writing beyond `size` bytes of a file fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 4_096, 1_000_000])
def test_a_full_disk_loses_nothing(learner, make_lm, size):
    (commit,) = learner.log()
    with files_no_larger_than(size), pytest.raises(HomeError) as caught:
        learner.learn(document(2))
    assert "\n" not in str(caught.value) and str(learner.home) in str(caught.value)
    assert_nothing_lost(learner, make_lm, commit)


def test_an_undo_on_a_full_disk_loses_nothing(learner, make_lm):
    (commit,) = learner.log()
    with files_no_larger_than(0), pytest.raises(HomeError):
        learner.undo()
    assert_nothing_lost(learner, make_lm, commit)


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("replace", errno.ENOSPC, "the disk is full"),
        ("fsync", errno.EROFS, "read-only"),
        ("replace", errno.EACCES, "permission was denied"),
    ],
)
def test_what_the_system_refuses_is_said_in_words(learner, make_lm, monkeypatch, name, code, words):
    (commit,) = learner.log()

    def refuse(*_):
        raise OSError(code, "as the system says it")

    with monkeypatch.context() as patch:
        patch.setattr(os, name, refuse)
        with pytest.raises(HomeError, match=words):
            learner.learn(document(2))
    assert_nothing_lost(learner, make_lm, commit)


def test_a_read_only_home_is_named(home, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    home.mkdir()
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(HomeError, match=f"{home}: it is read-only"), writing(home):
        pass
