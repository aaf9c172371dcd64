"""The nearest of many vectors: exactly in any number of blocks, or through an inverted file that holds what it should."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch
from conftest import tiny_lm
from torch.nn import functional

from accrete import Document, Example, Learner, reader
from accrete.retrieval import inverted, nearest
from accrete.retrieval.nearest import Exact, Nearest
from accrete.retrieval.vectors import Vectors

WIDTH = 16
with_faiss = pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="the extra search is not installed")


def made(*numbers: int, size: int = 40) -> Vectors:
    """Documents of `size` vectors, each always the same by its number."""
    found = {}
    for number in numbers:
        draw = torch.Generator().manual_seed(number)
        found[f"{number:03d}"] = functional.normalize(torch.randn(size, WIDTH, generator=draw), dim=1).half()
    return Vectors(found)


def questions(count: int = 8) -> torch.Tensor:
    return functional.normalize(torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(999)), dim=1)


def plain(vectors: Vectors, count: int, without=()) -> tuple[torch.Tensor, torch.Tensor]:
    cosines = questions() @ torch.cat(list(vectors.of.values())).float().T
    names = [name for name, one in vectors.of.items() for _ in range(len(one))]
    cosines[:, torch.tensor([name in without for name in names])] = -torch.inf
    found = cosines.topk(min(count, sum(name not in without for name in names)), dim=-1)
    return found.values, found.indices


def agree(found, expected) -> bool:
    torch.testing.assert_close(found[0], expected[0], atol=1e-6, rtol=0)
    return torch.equal(found[1], expected[1])


@pytest.fixture
def many(monkeypatch):
    """There are many from 200 vectors on, and every list of an inverted file is looked into: nothing is missed."""
    monkeypatch.setattr(nearest, "MANY", 200)
    monkeypatch.setattr(inverted, "PROBED", 1.0)


@pytest.fixture
def builds(monkeypatch) -> list[int]:
    """How many vectors every inverted file was built with."""
    seen, build = [], inverted.build
    monkeypatch.setattr(inverted, "build", lambda vectors, folder: seen.append(len(vectors)) or build(vectors, folder))
    return seen


def kept_up(vectors: Vectors, folder=None) -> Nearest:
    where = Nearest(torch.device("cpu"))
    where.folder = folder
    where.keep_up(vectors)
    return where


def opened(folder) -> Nearest:
    where = Nearest(torch.device("cpu"))
    where.folder = folder
    return where


# --- exactly --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("without", [(), ("001",), ("000", "002"), ("000", "001", "002")])
@pytest.mark.parametrize("many_from", [1_000, 1])
@pytest.mark.parametrize("count", [1, 30, 1_000])
def test_blocks_of_any_size_find_what_one_product_finds(monkeypatch, many_from, count, without):
    vectors = made(0, 1, 2)
    monkeypatch.setattr(nearest, "MANY", many_from)
    for at_once in (1, 7, 40, 64, 500):
        monkeypatch.setattr(nearest, "AT_ONCE", at_once)
        found = Exact(torch.device("cpu")).search(questions(), vectors, count, without)
        assert agree(found, plain(vectors, count, without)) and found[0].shape[1] == found[1].shape[1]


def test_no_more_than_a_block_is_compared_at_once(monkeypatch):
    monkeypatch.setattr(nearest, "MANY", 1)
    monkeypatch.setattr(nearest, "AT_ONCE", 50)
    vectors, sizes = made(*range(9)), []
    blocks = Vectors.blocks
    monkeypatch.setattr(Vectors, "blocks", lambda *a: (sizes.append(len(b[1])) or b for b in blocks(*a)))
    Exact(torch.device("cpu")).search(questions(), vectors, 5)
    assert max(sizes) <= 50 and sum(sizes) == len(vectors)


def test_what_is_new_or_gone_is_noticed_and_the_rest_is_not_converted_again():
    where, (first, more) = Exact(torch.device("cpu")), (made(1, 2), made(0, 1, 2, 3))
    kept = Vectors({name: first.of.get(name, one) for name, one in more.of.items()})
    for vectors in (first, kept, first, Vectors({"002": first.of["002"]})):
        assert agree(where.search(questions(), vectors, 9), plain(vectors, 9))
    changed = Vectors({"002": more.of["003"]})
    assert agree(where.search(questions(), changed, 9), plain(changed, 9))


def test_without_the_extra_everything_is_compared(many, tmp_path, monkeypatch):
    monkeypatch.setattr(inverted, "faiss", lambda: None)
    vectors = made(*range(8))
    assert agree(kept_up(vectors, tmp_path).search(questions(), vectors, 9), plain(vectors, 9))
    assert list(tmp_path.iterdir()) == []


# --- through an inverted file ---------------------------------------------------------------------------------------


@with_faiss
@pytest.mark.parametrize("on_disk", [True, False])
def test_it_finds_what_a_comparison_with_all_finds(many, tmp_path, monkeypatch, on_disk):
    vectors = made(*range(10))
    where = kept_up(vectors, tmp_path / "derived" if on_disk else None)
    monkeypatch.setattr(Exact, "search", None)  # nobody is to be compared one by one
    assert agree(where.search(questions(), vectors, 20), plain(vectors, 20))
    assert agree(where.search(questions(), vectors, 20, {"003", "009"}), plain(vectors, 20, {"003", "009"}))


@with_faiss
def test_few_are_compared_one_by_one(many, tmp_path):
    vectors = made(*range(4))
    assert agree(kept_up(vectors, tmp_path).search(questions(), vectors, 9), plain(vectors, 9))
    assert list(tmp_path.iterdir()) == []
    whole = made(*range(10))
    late = {f"{number:03d}" for number in range(2, 10)}  # of the rest there are few
    assert agree(kept_up(whole).search(questions(), whole, 70, late), plain(whole, 70, late))


@with_faiss
def test_what_is_not_in_it_is_compared_beside_it_until_it_is_a_quarter(many, builds):
    vectors = made(*range(2, 12))
    where = kept_up(vectors)
    for numbers in (range(1, 13), range(13), [*range(3, 7), *range(8, 13)]):
        now = made(*numbers)  # other tensors with the same content
        where.keep_up(now)
        assert builds == [400]
        assert agree(where.search(questions(), now, 30), plain(now, 30))
        assert agree(where.search(questions(), now, 30, {"004", "012"}), plain(now, 30, {"004", "012"}))
    more = made(*range(3, 17))
    where.keep_up(more)
    assert builds == [400, len(more)] and agree(where.search(questions(), more, 30), plain(more, 30))


@with_faiss
def test_a_document_that_changed_is_not_the_one_that_is_in_it(many):
    vectors = made(*range(10))
    where = kept_up(vectors)
    changed = Vectors(vectors.of | {"004": made(77).of["077"]})
    assert agree(where.search(questions(), changed, 30), plain(changed, 30))
    assert agree(where.search(questions(), vectors, 30), plain(vectors, 30))


@with_faiss
def test_where_the_lists_have_too_few_everything_is_compared(many, monkeypatch):
    monkeypatch.setattr(inverted, "PROBED", 0.0)  # one list
    vectors = made(*range(10))
    assert agree(kept_up(vectors).search(questions(), vectors, 300), plain(vectors, 300))


# --- its file -------------------------------------------------------------------------------------------------------


@with_faiss
def test_another_process_reads_the_file_and_builds_nothing(many, tmp_path, builds, monkeypatch):
    kept_up(made(*range(10)), tmp_path)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".faiss", ".json"]
    now = made(*range(12))
    where = opened(tmp_path)
    where.keep_up(now)
    assert builds == [400] and agree(where.search(questions(), now, 30), plain(now, 30))
    monkeypatch.setattr(Exact, "search", None)
    same = made(*range(10))
    assert agree(opened(tmp_path).search(questions(), same, 30), plain(same, 30))


@with_faiss
@pytest.mark.parametrize("state", ["one is gone", "one is another", "one is shorter"])
def test_a_file_that_does_not_fit_is_not_used_but_deleted_where_it_may_be(many, tmp_path, builds, monkeypatch, state):
    kept_up(made(*range(10)), tmp_path)
    now = made(*range(9)).of
    if state != "one is gone":
        now |= {"009": made(55).of["055"] if state == "one is another" else made(9).of["009"][:-1]}
    now, before = Vectors(now), {path: path.read_bytes() for path in tmp_path.iterdir()}
    with monkeypatch.context() as patched:
        patched.setattr(inverted.Inverted, "search", None)
        assert agree(opened(tmp_path).search(questions(), now, 30), plain(now, 30))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before, "who only asks changes nothing"
    opened(tmp_path).tidy(made(*range(12)))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before, "all of it is there"
    opened(tmp_path).tidy(now)
    assert list(tmp_path.iterdir()) == []


@with_faiss
def test_who_built_it_lets_go_of_what_was_taken_back(many, tmp_path):
    whole, before = made(*range(10)), made(*range(9))
    for folder in (tmp_path, None):
        where = kept_up(whole, folder)
        where.tidy(whole)
        assert where._inverted is not None
        where.tidy(before)
        assert where._inverted is None and agree(where.search(questions(), before, 30), plain(before, 30))
    assert list(tmp_path.iterdir()) == []


@with_faiss
@pytest.mark.parametrize("which", ["faiss", "json"])
@pytest.mark.parametrize("how", ["cut", "changed", "empty", "gone", "folder", "schema"])
def test_a_damaged_file_is_ignored_and_replaced(many, tmp_path, builds, which, how):
    vectors = made(*range(10))
    kept_up(vectors, tmp_path)
    (path,) = tmp_path.glob(f"*.{which}")
    good = path.read_bytes()
    if how in ("gone", "folder"):
        path.unlink()
    if how == "folder":
        path.mkdir()
    elif how == "schema":
        table = json.loads((tmp_path / "nearest.json").read_text())
        (tmp_path / "nearest.json").write_text(json.dumps(table | {"schema": 99, "sha256": "../../etc/passwd"}))
    elif how != "gone":
        half = len(good) // 2
        path.write_bytes({"cut": good[:half], "empty": b"", "changed": good[:half] + b"\xff" + good[half + 1 :]}[how])
    where = opened(tmp_path)
    assert agree(where.search(questions(), vectors, 30), plain(vectors, 30)) and builds == [400]
    where.keep_up(made(*range(10)))
    if how != "folder":
        assert builds == [400, 400]
        assert len(list(tmp_path.iterdir())) == 2 and inverted.load(tmp_path, vectors) is not None


@with_faiss
def test_a_folder_that_cannot_be_written_leaves_it_in_memory(many, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    vectors = made(*range(10))
    where = kept_up(vectors, tmp_path / "file")
    monkeypatch.setattr(Exact, "search", None)
    assert agree(where.search(questions(), vectors, 30), plain(vectors, 30))


@with_faiss
def test_the_file_lies_in_the_home_and_an_undo_deletes_it(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "SENTINEL_TOKENS", 4)
    monkeypatch.setattr(nearest, "MANY", 6)
    monkeypatch.setattr(inverted, "PROBED", 1.0)
    home = tmp_path / "home"

    def learner() -> Learner:
        return Learner(tiny_lm(), method="retrieve_logits", home=home, max_forgetting=1.0, config={"sure": 1.0})

    def document(number: int) -> Document:
        items = tuple(Example(f"What is thing {number} of {n}?", f"A{number}{n}.") for n in range(4))
        return Document(f"d{number}", items=items)

    one = learner()
    one.learn(document(1))
    assert not list(home.glob("derived/*/*"))
    one.learn(document(2))
    (file,) = home.glob("derived/*/*.faiss")
    other = learner()
    monkeypatch.setattr(Exact, "search", None)
    asked = [item.question for number in (1, 2) for item in document(number).items]
    assert [other.ask(question).text for question in asked] == [one.ask(question).text for question in asked]
    assert other.ask(asked[0]).text == "A10."
    monkeypatch.undo()
    other.undo()
    assert not file.exists() and not list(home.glob("derived/*/*"))
