"""The journal: what is appended comes back bit for bit, tensors are shared and dropped, damage is named."""

import sqlite3

import pytest
import torch

from accrete.errors import HistoryError, HomeError
from accrete.store.home import writing
from accrete.store.journal import Commit, Journal

BASE, METHOD = "base0", "method0"


def lesson(parent=None, number=1, **changes):
    fields = dict(
        id="", parent=parent, number=number, time=f"2026-01-0{number}", document=f"d{number}.md", sha256=f"s{number}",
        domain="default", digest_before=f"b{number}", digest_after=f"a{number}", config={"rate": 0.1}, metrics={"kept": 1},
    )  # fmt: skip
    return Commit(**(fields | changes))


def state(seed, size=1000, **values):
    torch.manual_seed(seed)
    return {"adapter": {"weight": torch.randn(size)}, "replay": {"offered": seed, "kept": [[1, 2]], **values}}


@pytest.fixture
def journal(home):
    home.mkdir()
    return Journal(home)


def append(journal, commit, saved, base=BASE, method=METHOD):
    with writing(journal.home):
        return journal.append(base, "a model", method, commit, saved)


def pack_files(journal):
    return {path.name for path in journal.packs.iterdir()}


def test_a_home_never_used_holds_no_commits_and_is_not_created(home):
    assert Journal(home).commits(BASE, METHOD) == []
    assert not home.exists()


def test_commits_come_back_as_appended(journal):
    first = append(journal, lesson(), state(1))
    second = append(journal, lesson(first.id, 2), state(2))
    assert journal.commits(BASE, METHOD) == journal.active(BASE, METHOD) == [first, second]
    assert first.id != second.id and second.parent == first.id
    assert (first.config, first.metrics, first.document) == ({"rate": 0.1}, {"kept": 1}, "d1.md")
    assert journal.find(BASE, METHOD, second.id[:6]) == second


@pytest.mark.parametrize("reference", ["", "zz", "no such commit"])
def test_an_unknown_reference_is_a_history_error(journal, reference):
    append(journal, lesson(), state(1))
    with pytest.raises(HistoryError, match="no commit"):
        journal.find(BASE, METHOD, reference)


def test_an_ambiguous_reference_is_a_history_error(journal):
    ids = [append(journal, lesson(number=n), state(n)).id for n in range(1, 10)]
    by_letter = {}
    for name in ids:
        by_letter.setdefault(name[0], []).append(name)
    while not any(len(names) > 1 for names in by_letter.values()):
        name = append(journal, lesson(number=9, time=str(len(ids))), state(9)).id
        ids.append(name)
        by_letter.setdefault(name[0], []).append(name)
    letter = next(letter for letter, names in by_letter.items() if len(names) > 1)
    with pytest.raises(HistoryError, match="more than one"):
        journal.find(BASE, METHOD, letter)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool])
def test_state_comes_back_bit_for_bit(journal, dtype):
    bits = torch.randint(0, 2, (4, 8), dtype=torch.uint8) * 3
    saved = {
        "part": {"tensor": bits.to(dtype), "scalar": torch.tensor(1).to(dtype), "empty": torch.empty(0, dtype=dtype)}
    }
    back = journal.state(append(journal, lesson(), saved))
    for key, tensor in saved["part"].items():
        assert back["part"][key].dtype == dtype and back["part"][key].shape == tensor.shape
        assert torch.equal(back["part"][key], tensor)


def test_nan_zero_sign_and_values_survive(journal):
    odd = torch.tensor([float("nan"), -0.0, 0.0, float("inf"), 1e-45])
    saved = {"part": {"odd": odd, "value": {"a": [1, "b", None, 0.1]}}}
    back = journal.state(append(journal, lesson(), saved))
    assert torch.equal(back["part"]["odd"].view(torch.int32), odd.view(torch.int32))
    assert back["part"]["value"] == saved["part"]["value"]


def test_tensors_that_share_storage_are_stored_apart(journal):
    whole = torch.arange(12.0).view(3, 4)
    saved = {"part": {"whole": whole, "row": whole[0], "turned": whole.T}}
    back = journal.state(append(journal, lesson(), saved))
    assert all(torch.equal(back["part"][key], tensor) for key, tensor in saved["part"].items())


def test_an_unchanged_tensor_is_stored_once(journal):
    large = torch.randn(50_000)
    first = append(journal, lesson(), {"part": {"large": large, "small": torch.zeros(3)}})
    second = append(journal, lesson(first.id, 2), {"part": {"large": large.clone(), "small": torch.ones(3)}})
    third = append(journal, lesson(second.id, 3), {"part": {"large": large, "small": torch.ones(3)}})
    assert first.bytes > large.nbytes > 20 * second.bytes
    assert third.bytes < second.bytes
    assert pack_files(journal) == {f"{first.id}.safetensors", f"{second.id}.safetensors"}  # the third brought no tensor
    assert sum(path.stat().st_size for path in journal.packs.iterdir()) < 1.1 * large.nbytes
    assert torch.equal(journal.state(third)["part"]["large"], large)


def test_undo_drops_what_nobody_needs_and_keeps_what_is_shared(journal):
    shared = {"shared": torch.ones(100)}
    first = append(journal, lesson(), {"part": shared})
    second = append(journal, lesson(first.id, 2), {"part": shared | {"own": torch.zeros(100)}})
    with writing(journal.home):
        journal.undo(second, "2026-02-01")
    assert pack_files(journal) == {f"{first.id}.safetensors"}
    assert torch.equal(journal.state(first)["part"]["shared"], shared["shared"])
    assert journal.active(BASE, METHOD) == [first]
    assert [c.undone for c in journal.commits(BASE, METHOD)] == [None, "2026-02-01"]
    with pytest.raises(HistoryError, match="undone"):
        journal.state(second)
    with writing(journal.home):
        journal.undo(first, "2026-02-02")
    assert pack_files(journal) == set()


def test_a_pack_stays_while_another_commit_reads_from_it(journal):
    """A tensor first stored by a lesson of one method lives on in the history of another after the first is undone."""
    first = append(journal, lesson(), state(1))
    other = append(journal, lesson(), state(1), method="other")
    with writing(journal.home):
        journal.undo(first, "2026-02-01")
    assert torch.equal(journal.state(other)["adapter"]["weight"], state(1)["adapter"]["weight"])


def test_orphans_are_removed_by_the_next_writer(journal):
    first = append(journal, lesson(), state(1))
    (journal.packs / "orphan.safetensors").write_bytes(b"left by a crash")
    (journal.packs / ".orphan.safetensors.123.tmp").write_bytes(b"left by a crash")
    second = append(journal, lesson(first.id, 2), state(2))
    assert pack_files(journal) == {f"{first.id}.safetensors", f"{second.id}.safetensors"}


def test_histories_of_two_methods_and_bases_are_apart(journal):
    places = [("base0", "method0"), ("base0", "method1"), ("base1", "method0")]
    commits = [append(journal, lesson(), state(i), *place) for i, place in enumerate(places)]
    assert [journal.commits(*place) for place in places] == [[commit] for commit in commits]
    with pytest.raises(HistoryError):
        journal.find(*places[1], commits[0].id)
    with writing(journal.home):
        journal.undo(commits[0], "2026-02-01")
    assert [len(journal.active(*place)) for place in places] == [0, 1, 1]
    for i in (1, 2):
        assert torch.equal(journal.state(commits[i])["adapter"]["weight"], state(i)["adapter"]["weight"])


# --- damage ---------------------------------------------------------------------------------------------------------


def test_a_changed_pack_is_named(journal):
    commit = append(journal, lesson(), state(1))
    pack = journal.packs / f"{commit.id}.safetensors"
    raw = bytearray(pack.read_bytes())
    raw[-1] ^= 1
    pack.write_bytes(raw)
    with pytest.raises(HomeError, match=rf"a tensor in {commit.id}\.safetensors has changed"):
        journal.state(commit)


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 64])
def test_a_pack_that_is_no_safetensors_is_a_home_error(journal, content):
    commit = append(journal, lesson(), state(1))
    (journal.packs / f"{commit.id}.safetensors").write_bytes(content)
    with pytest.raises(HomeError):
        journal.state(commit)


def test_a_missing_pack_is_named(journal):
    commit = append(journal, lesson(), state(1))
    (journal.packs / f"{commit.id}.safetensors").unlink()
    with pytest.raises(HomeError, match=rf"{commit.id}\.safetensors is missing"):
        journal.state(commit)


@pytest.mark.parametrize("content", [b"not a database, but text " * 50, b"SQLite format 3\0" + b"\xff" * 4080])
def test_a_damaged_journal_is_a_home_error(journal, content):
    append(journal, lesson(), state(1))
    for path in journal.home.glob("journal.sqlite-*"):
        path.unlink()
    journal.path.write_bytes(content)
    with pytest.raises(HomeError):
        journal.commits(BASE, METHOD)
    with pytest.raises(HomeError), writing(journal.home):
        journal.append(BASE, "a model", METHOD, lesson(), state(2))


def test_a_journal_of_a_later_version_is_refused_and_left_alone(journal):
    append(journal, lesson(), state(1))
    database = sqlite3.connect(journal.path)
    database.execute("PRAGMA user_version = 2")
    database.close()
    with pytest.raises(HomeError, match="another version"):
        journal.commits(BASE, METHOD)
    with pytest.raises(HomeError, match="another version"):
        append(journal, lesson(number=2), state(2))
    database = sqlite3.connect(journal.path)
    assert database.execute("PRAGMA user_version").fetchone() == (2,)
    database.close()


@pytest.mark.parametrize("content", [b"", None])
def test_a_journal_that_a_crash_left_without_tables_holds_no_commits_and_can_be_written(journal, content):
    if content is None:  # SQLite had written its first page, but no table yet
        database = sqlite3.connect(journal.path)
        database.execute("PRAGMA journal_mode = WAL")
        database.close()
    else:
        journal.path.write_bytes(content)
    assert journal.commits(BASE, METHOD) == []
    commit = append(journal, lesson(), state(1))
    assert journal.commits(BASE, METHOD) == [commit]


# --- read-only ------------------------------------------------------------------------------------------------------


def test_a_home_on_read_only_media_can_be_read(journal, monkeypatch):
    """SQLite in WAL mode writes beside the file even to read; where it cannot, the file is opened as immutable."""
    commit = append(journal, lesson(), state(1))
    connect, opened = sqlite3.connect, []

    def read_only_media(name, *arguments, **options):
        opened.append(str(name))
        if "immutable" not in str(name):
            raise sqlite3.OperationalError("unable to open database file")
        return connect(name, *arguments, **options)

    monkeypatch.setattr(sqlite3, "connect", read_only_media)
    assert journal.commits(BASE, METHOD) == [commit]
    assert torch.equal(journal.state(commit)["adapter"]["weight"], state(1)["adapter"]["weight"])
    assert "immutable=1" in opened[-1]
    with pytest.raises(HomeError, match="read-only or cannot be opened"):
        append(journal, lesson(commit.id, 2), state(2))


def test_size_counts_what_is_on_disk(journal):
    assert Journal(journal.home / "nowhere").size() == 0
    append(journal, lesson(), state(1, size=10_000))
    assert journal.size() > 40_000
