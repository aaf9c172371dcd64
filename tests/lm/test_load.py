"""From a name to a model: what is saved is what is loaded, and every other name ends in one clear sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import FAMILIES, tiny_lm
from safetensors.torch import load_file, save_file

from accrete.errors import ModelError, OfflineError, UsageError
from accrete.lm.batch import Sequence, collate
from accrete.lm.load import load, weights_mark
from accrete.lm.model import LM


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`load(offline=True)` sets these for the libraries below; they are given back after the test."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("ACCRETE_ALLOCATOR", "default")


def save(lm: LM, directory: Path) -> str:
    lm.model.save_pretrained(directory)
    lm.tokenizer.save_pretrained(directory)
    return str(directory)


def read(directory: Path | str, **options: object) -> LM:
    return load(str(directory), device="cpu", **options)


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_and_loaded_it_is_the_same(tmp_path: Path, family: str) -> None:
    original = tiny_lm(family, layers=2)
    loaded = read(save(original, tmp_path))
    batch = collate([Sequence((5, 900, 31, 44)), Sequence((8, 9))])
    assert torch.equal(loaded.logits(batch), original.logits(batch))
    assert loaded.digest == original.digest
    assert loaded.dtype == torch.float32
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert loaded.anatomy is not None
    assert (loaded.sentinels, loaded.background) == ((), ())


def test_bfloat16_weights_become_float32_unless_asked(tmp_path: Path) -> None:
    original = tiny_lm(layers=1)
    original.model.to(torch.bfloat16)
    name = save(original, tmp_path)
    assert read(name).dtype == torch.float32
    assert read(name, dtype="bfloat16").dtype == torch.bfloat16


def test_sentinels_and_background_come_with_the_weights(tmp_path: Path) -> None:
    name = save(tiny_lm(layers=1), tmp_path)
    rows = [{"question": "Wo?", "answers": ["Köln", "Cologne"], "split": split} for split in ("guard", "scored")]
    (tmp_path / "sentinels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "background.jsonl").write_text('{"question": "Who?", "answer": "She\u2028"}\n', "utf-8")
    loaded = read(name)
    assert loaded.sentinels == tuple(("Wo?", ("Köln", "Cologne"), split) for split in ("guard", "scored"))
    assert loaded.background == (("Who?", "She\u2028"),)


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    name = save(tiny_lm(layers=1), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    flag = tmp_path / "executed"

    class Payload:
        def __reduce__(self):
            return (Path.touch, (flag,))

    torch.save(Payload(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"no file named model\.safetensors"):
        read(name)
    assert not flag.exists()


def broken_config(directory: Path) -> None:
    (directory / "config.json").write_text('{"model_type": "qwen2", ')


def unknown_type(directory: Path) -> None:
    (directory / "config.json").write_text('{"model_type": "no_such_thing"}')


def no_config(directory: Path) -> None:
    (directory / "config.json").unlink()


def no_weights(directory: Path) -> None:
    (directory / "model.safetensors").unlink()


def half_the_weights(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def a_weight_is_missing(directory: Path) -> None:
    weights = load_file(directory / "model.safetensors")
    del weights["model.layers.0.mlp.up_proj.weight"]
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})


def weights_of_another_shape(directory: Path) -> None:
    tiny_lm(layers=1, hidden_size=32, head_dim=8).model.save_pretrained(directory / "other")
    (directory / "other" / "model.safetensors").replace(directory / "model.safetensors")


DAMAGES = [
    broken_config,
    unknown_type,
    no_config,
    no_weights,
    half_the_weights,
    a_weight_is_missing,
    weights_of_another_shape,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_directory_is_one_sentence(tmp_path: Path, damage) -> None:
    name = save(tiny_lm(layers=1), tmp_path / "damaged model")
    damage(Path(name))
    with pytest.raises(ModelError, match="damaged model") as caught:
        read(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/model", "~/no/such/model", "a/b/c", "", " "])
def test_a_directory_that_is_not_there(name: str) -> None:
    with pytest.raises(ModelError, match="no model directory"):
        read(name)


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match="no model directory"):
        read(tmp_path / "model.gguf")


@pytest.mark.parametrize("name", ["accrete-tests/not-a-model", "accrete-tests/not-a-model@v2", "not-a-model-either"])
def test_a_hub_id_while_offline(name: str) -> None:
    with pytest.raises(OfflineError, match="not on this machine"):
        read(name, offline=True)


@pytest.mark.parametrize(
    "options", [{"dtype": "float17"}, {"device": "abacus"}, {"device": "cuda:99"}], ids=["dtype", "device", "number"]
)
def test_unknown_options(options: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=next(iter(options.values()))):
        load("embedded", **options)


def test_weights_are_told_apart_by_their_files_alone(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(bytes(3 * 2**20))
    assert weights_mark(str(one)) == weights_mark(str(other)) != weights_mark("embedded")
    with (other / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"x")
    assert weights_mark(str(one)) != weights_mark(str(other))
    assert weights_mark("nobody/some-model") == ""
