"""Checkpoints: what is saved comes back, and whatever was changed, is missing or belongs elsewhere is refused."""

import hashlib
import json
import os
import time

import pytest
import torch

from accrete.errors import AccreteError, HistoryError, UsageError
from accrete.store.checkpoint import find, listed, load_checkpoint, named, save_checkpoint, size

ABOUT = {"base": "base0", "model": "a model", "method": "method0", "digest": "d", "metrics": {}}


def state():
    torch.manual_seed(0)
    weights = torch.randn(4, 6)
    return {
        "adapter": {"layer/0.weight": weights, "turned": weights.T, "row": weights[0], "half": weights.bfloat16()},
        "replay": {"offered": 3, "kept": [[1, 2], [3]]},
        "empty": {},
    }


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "checkpoint"
    save_checkpoint(path, state(), ABOUT)
    return path


def load(path, **other):
    return load_checkpoint(path, **({"base": "base0", "method": "method0"} | other))


def edit_manifest(path, **changes):
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | changes))


def test_what_is_saved_comes_back(saved):
    back, manifest = load(saved)
    assert manifest["base"] == "base0" and manifest["schema"] == 1
    assert back["replay"] == state()["replay"] and back["empty"] == {}
    assert back["adapter"].keys() == state()["adapter"].keys()
    for key, tensor in state()["adapter"].items():
        assert back["adapter"][key].dtype == tensor.dtype and torch.equal(back["adapter"][key], tensor)


def test_only_safetensors_and_json_are_written(saved):
    assert {path.name for path in saved.iterdir()} == {"manifest.json", "state.safetensors", "values.json"}
    for path in saved.glob("*.json"):
        json.loads(path.read_text())
    header = (saved / "state.safetensors").read_bytes()
    assert json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])  # not a pickle under that name


def test_the_manifest_names_the_digest_of_every_file(saved):
    files = json.loads((saved / "manifest.json").read_text())["files"]
    assert files == {
        name: hashlib.sha256((saved / name).read_bytes()).hexdigest() for name in ("state.safetensors", "values.json")
    }


def test_a_checkpoint_is_replaced_by_a_new_one(saved):
    save_checkpoint(saved, {"adapter": {"new": torch.ones(1)}}, ABOUT)
    assert load(saved)[0]["adapter"].keys() == {"new"}


@pytest.mark.parametrize("name", ["state.safetensors", "values.json"])
def test_a_tampered_file_is_named(saved, name):
    raw = bytearray((saved / name).read_bytes())
    raw[-1] ^= 1
    (saved / name).write_bytes(raw)
    with pytest.raises(HistoryError, match=f"damaged: {name}"):
        load(saved)


@pytest.mark.parametrize("name", ["state.safetensors", "values.json", "manifest.json"])
def test_a_missing_file_is_refused(saved, name):
    (saved / name).unlink()
    with pytest.raises(HistoryError, match="no complete checkpoint"):
        load(saved)


def test_a_place_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(HistoryError, match="no complete checkpoint"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": 3}', "\x00", '{"schema": 1, "files": {}}'])
def test_a_manifest_that_is_none_is_refused(saved, text):
    (saved / "manifest.json").write_text(text)
    with pytest.raises(HistoryError, match="no complete checkpoint"):
        load(saved)


@pytest.mark.parametrize(
    ("other", "words"), [({"base": "base1"}, "another base model"), ({"method": "method1"}, 'not "method1"')]
)
def test_a_checkpoint_of_another_base_or_method_is_refused(saved, other, words):
    with pytest.raises(HistoryError, match=words):
        load(saved, **other)


def test_a_checkpoint_of_another_schema_is_refused(saved):
    edit_manifest(saved, schema=2)
    with pytest.raises(HistoryError, match="another version"):
        load(saved)


@pytest.mark.parametrize("name", ["../outside", "{absolute}", "folder/../../outside", ".."])
def test_names_cannot_leave_the_folder(saved, name):
    outside = saved.parent / "outside"
    outside.write_text("not of the checkpoint")
    (saved / "folder").mkdir()
    files = json.loads((saved / "manifest.json").read_text())["files"]
    digest = hashlib.sha256(outside.read_bytes()).hexdigest()
    edit_manifest(saved, files=files | {name.format(absolute=outside): digest})
    with pytest.raises(HistoryError):
        load(saved)


def test_a_directory_that_is_no_checkpoint_is_not_overwritten(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "notes.txt").write_text("precious")
    with pytest.raises(HistoryError, match="no checkpoint"):
        save_checkpoint(folder, state(), ABOUT)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_a_save_that_fails_leaves_the_checkpoint_before_it(saved):
    class Unwritable:
        """Nothing that JSON knows."""

    with pytest.raises(TypeError):
        save_checkpoint(saved, {"part": {"value": Unwritable()}}, ABOUT)
    assert load(saved)[0]["replay"] == state()["replay"]


# --- what was changed by someone else -------------------------------------------------------------------------------


def forge(path, name, content):
    """Change a file and the digest that the manifest names for it."""
    (path / name).write_bytes(content)
    files = json.loads((path / "manifest.json").read_text())["files"]
    edit_manifest(path, files=files | {name: hashlib.sha256(content).hexdigest()})


@pytest.mark.parametrize(
    ("name", "content"),
    [("state.safetensors", b"no tensors"), ("state.safetensors", b""), ("values.json", b"{"), ("values.json", b"[]"),
     ("values.json", b"{}"), ("values.json", b"\xff")],
)  # fmt: skip
def test_a_forged_file_is_one_sentence(saved, name, content):
    forge(saved, name, content)
    with pytest.raises(HistoryError) as caught:
        load(saved)
    assert "\n" not in str(caught.value)


def test_a_deep_manifest_is_one_sentence(saved):
    (saved / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(HistoryError, match="no complete checkpoint"):
        load(saved)


@pytest.mark.parametrize("name", ["state.safetensors", "values.json"])
def test_a_link_out_of_the_folder_is_refused(saved, name):
    outside = saved.with_name(name)
    (saved / name).rename(outside)
    (saved / name).symlink_to(outside)
    with pytest.raises(HistoryError):
        load(saved)


def test_a_file_too_many_is_refused(saved):
    (saved / "more.safetensors").write_bytes(b"not of the checkpoint")
    with pytest.raises(HistoryError, match="more"):
        load(saved)


@pytest.mark.parametrize("schema", [999, "1", None, 0])
def test_a_newer_checkpoint_says_so(saved, schema):
    edit_manifest(saved, schema=schema)
    with pytest.raises(HistoryError, match="another version"):
        load(saved)


# --- names ----------------------------------------------------------------------------------------------------------


NAMES = [
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "/absolute",
    "a.b",
    "x" * 65,
    "x" * 5000,
    "naïve",
    "東京",
    "-x",
    "_x",
    "a b",
    "a\0b",
    "~",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_none_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="cannot name a checkpoint") as caught:
        named(tmp_path, name)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("name", ["a", "A-b_9", "9", "x" * 64, "con", "manifest"])
def test_a_plain_name_is_a_folder_of_the_home(tmp_path, name):
    assert named(tmp_path, name) == tmp_path / "checkpoints" / name


@pytest.mark.parametrize(
    "reference",
    ["", ".", "..", "/", "../x", "~/nowhere at all", "a\0b", "x" * 5000, "one/../../.."],
)  # fmt: skip
def test_a_reference_to_no_checkpoint_is_one_sentence(tmp_path, monkeypatch, reference):
    """Found or not, what is there is no checkpoint."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AccreteError) as caught:
        load(find(tmp_path, reference))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 6000


def test_a_reference_is_a_name_or_a_directory(tmp_path):
    save_checkpoint(named(tmp_path, "mine"), state(), ABOUT)
    save_checkpoint(tmp_path / "elsewhere", state(), ABOUT)
    assert find(tmp_path, "mine") == named(tmp_path, "mine")
    assert find(tmp_path, str(tmp_path / "elsewhere")) == tmp_path / "elsewhere"
    with pytest.raises(HistoryError, match=r'no checkpoint "mne"\. Did you mean "mine"\?'):
        find(tmp_path, "mne")


def test_a_save_that_a_crash_cut_short_is_found_again(tmp_path):
    """Between the two renames only the old one stands, under another name."""
    place = named(tmp_path, "mine")
    save_checkpoint(place, state(), ABOUT)
    place.rename(place.with_name("mine.old"))
    (tmp_path / "checkpoints" / "mine.new").mkdir()
    assert find(tmp_path, "mine") == place and load(place)[0]["empty"] == {}
    assert [row["name"] for row in listed(tmp_path)] == ["mine"]


# --- the list -------------------------------------------------------------------------------------------------------


def test_the_list_is_newest_first_with_sizes(tmp_path):
    assert listed(tmp_path) == []
    for age, name in ((100, "old"), (0, "new"), (50, "middle")):
        save_checkpoint(named(tmp_path, name), state(), ABOUT | {"lessons": age, "metrics": {"kept_after": 0.5}})
        os.utime(named(tmp_path, name) / "manifest.json", (time.time() - age, time.time() - age))
    rows = listed(tmp_path)
    assert [row["name"] for row in rows] == ["new", "middle", "old"]
    row = rows[0]
    assert (row["method"], row["model"], row["lessons"], row["kept"]) == ("method0", "a model", 0, 0.5)
    assert (
        row["bytes"]
        == size(named(tmp_path, "new"))
        == sum(path.stat().st_size for path in named(tmp_path, "new").iterdir())
    )
    assert row["bytes"] > sum(tensor.nbytes for tensor in state()["adapter"].values())


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "\x00", "{}", '{"metrics": []}', "[" * 100_000],
    ids=lambda text: text[:20] or "empty",
)  # fmt: skip
def test_a_damaged_one_does_not_hide_the_others(tmp_path, text):
    for name in ("good", "bad"):
        save_checkpoint(named(tmp_path, name), state(), ABOUT)
    (named(tmp_path, "bad") / "manifest.json").write_text(text)
    assert {row["name"] for row in listed(tmp_path)} == {"good", "bad"}
