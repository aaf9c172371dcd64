"""Files and directories are replaced whole or not at all, whatever is raised while they are written."""

import os
import shutil

import pytest

from accrete.errors import UsageError
from accrete.files import (
    alone,
    json_lines,
    read_json_lines,
    recover_directory,
    replace_directory,
    write_atomically,
    write_text,
)


class Stop(BaseException):
    """Stands for a crash: nothing in the code under test knows it."""


def fail_at(monkeypatch, module, name, call):
    """Let the `call`-th call of `module.name` raise instead of doing its work."""
    original, calls = getattr(module, name), []

    def wrapped(*arguments, **options):
        calls.append(arguments)
        if len(calls) == call:
            raise Stop
        return original(*arguments, **options)

    monkeypatch.setattr(module, name, wrapped)


def content(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def two_files(text):
    def write(folder):
        for name in ("a", "b"):
            (folder / name).write_text(text)

    return write


@pytest.fixture
def path(tmp_path):
    return tmp_path / "target"


@pytest.mark.parametrize("old", [None, "old"])
def test_a_file_is_replaced(path, old):
    if old:
        path.write_text(old)
    write_atomically(path, lambda temporary: temporary.write_text("new") and None)
    assert path.read_text() == "new"
    assert os.listdir(path.parent) == ["target"]


@pytest.mark.parametrize("old", [None, "old"])
@pytest.mark.parametrize("point", ["before writing", "half way", "fsync", "replace"])
def test_a_file_is_the_old_one_when_writing_stops(path, old, point, monkeypatch):
    if old:
        path.write_text(old)

    def write(temporary):
        if point == "before writing":
            raise Stop
        temporary.write_text("ne")
        if point == "half way":
            raise Stop

    if point in ("fsync", "replace"):
        fail_at(monkeypatch, os, point, 1)
    with pytest.raises(Stop):
        write_atomically(path, write)
    assert (path.read_text() if path.exists() else None) == old
    assert os.listdir(path.parent) == (["target"] if old else [])


@pytest.mark.parametrize("old", [None, "old"])
def test_a_directory_is_replaced(path, old):
    if old:
        path.mkdir()
        (path / "gone").write_text(old)
    replace_directory(path, two_files("new"))
    assert content(path) == {"a": "new", "b": "new"}
    assert os.listdir(path.parent) == ["target"]


def test_a_directory_is_the_old_one_when_the_writer_raises(path):
    replace_directory(path, two_files("old"))

    def half(folder):
        (folder / "a").write_text("new")
        raise Stop

    with pytest.raises(Stop):
        replace_directory(path, half)
    assert content(path) == {"a": "old", "b": "old"}
    assert os.listdir(path.parent) == ["target"]
    replace_directory(path, two_files("new"))
    assert content(path) == {"a": "new", "b": "new"}


# What replace_directory does in order: fsync a, fsync b, rename path -> old, rename new -> path, fsync of the parent.
POINTS = [(os, "fsync", 1), (os, "fsync", 2), (os, "rename", 1), (os, "rename", 2), (os, "fsync", 3)]


@pytest.mark.parametrize(("module", "name", "call"), POINTS)
def test_a_directory_is_old_or_new_wherever_a_crash_falls(path, module, name, call, monkeypatch):
    replace_directory(path, two_files("old"))
    with monkeypatch.context() as patch:
        fail_at(patch, module, name, call)
        with pytest.raises(Stop):
            replace_directory(path, two_files("new"))
    recover_directory(path)
    assert content(path) in ({"a": "old", "b": "old"}, {"a": "new", "b": "new"})


def test_the_only_copy_survives_a_second_crash_without_a_recovery_between(path, monkeypatch):
    replace_directory(path, two_files("old"))
    for call in (2, 1):
        with monkeypatch.context() as patch:
            fail_at(patch, os, "rename", call)
            with pytest.raises(Stop):
                replace_directory(path, two_files("new"))
    recover_directory(path)
    assert content(path) in ({"a": "old", "b": "old"}, {"a": "new", "b": "new"})


def test_recovery_leaves_a_standing_directory_alone(path):
    replace_directory(path, two_files("new"))
    shutil.copytree(path, path.with_name("target.old"))
    (path.with_name("target.old") / "a").write_text("old")
    recover_directory(path)
    assert content(path)["a"] == "new"


def test_recovery_of_nothing_is_nothing(path):
    recover_directory(path)
    assert not path.exists()


def test_text_is_replaced_whole(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_text(path, "é\n")
    assert path.read_bytes() == "é\n".encode()
    fail_at(monkeypatch, os, "replace", 1)
    with pytest.raises(Stop):
        write_text(path, "other")
    assert content(tmp_path) == {"a.txt": "é\n"}


def test_json_lines_come_back_up_to_the_first_that_is_damaged(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"a": "line\u2028break\n"}, {"b": [1]}]
    assert read_json_lines(path) == ([], False)
    path.write_text(json_lines(rows), "utf-8")
    assert read_json_lines(path) == (rows, True)
    for tail in ('{"c": 1}', "{", "[1]\n", "\udcff\n", "{}x\n{}\n"):
        path.write_bytes((json_lines(rows) + tail).encode("utf-8", "surrogateescape"))
        assert read_json_lines(path) == (rows, False)


def test_a_lock_has_one_holder_and_is_free_after_it(tmp_path):
    lock = tmp_path / "lock"
    with alone(lock, ""), pytest.raises(UsageError, match=rf"^held by {os.getpid()}$"), alone(lock, "held by {holder}"):
        pass
    with pytest.raises(Stop), alone(lock, "held"):
        raise Stop
    with alone(lock, "held"):
        pass
