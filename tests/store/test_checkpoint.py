"""Checkpoints: what is saved comes back, and whatever was changed, is missing or belongs elsewhere is refused."""

import hashlib
import json

import pytest
import torch

from accrete.errors import HistoryError
from accrete.store.checkpoint import load_checkpoint, save_checkpoint

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
