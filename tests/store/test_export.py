"""Export: a model and an adapter that others load and that say the same; a place in use is never touched."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch
from conftest import FAMILIES, tiny_lm
from peft import PeftModel
from transformers import AutoModelForCausalLM

from accrete import Document, Example, Learner, reader
from accrete.errors import HistoryError, HomeError, UsageError
from accrete.lm.batch import Sequence, collate
from accrete.lm.load import load
from accrete.store.export import Compared, export

METHODS = ["full_finetune", "lora_replay_ewc", "ttt"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Guard questions are answered in a few tokens."""
    monkeypatch.setattr(reader, "SENTINEL_TOKENS", 4)


def document(number: int) -> Document:
    items = tuple(Example(f"What is part {i} of thing {number}?", f"Value {number}{i}.") for i in range(4))
    return Document(f"d{number}", items=items)


def taught(home, method="lora_replay_ewc", family="qwen2", domains=("sea",), **overrides) -> Learner:
    config = {"max_steps": 2, "batch_size": 4}
    learner = Learner(
        tiny_lm(family, layers=1, **overrides), method=method, home=home, config=config, max_forgetting=1.0
    )
    for number, domain in enumerate(domains):
        learner.learn(document(number), domain=domain)
    return learner


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=collate([Sequence(tuple(range(5, 25)))]).ids_BT).logits


def write(learner, directory: Path, form="hf", domains=("sea",)) -> Compared | None:
    return export(learner.lm, learner.method, directory, form, list(domains))


@pytest.mark.parametrize(
    ("method", "family"),
    [("full_finetune", "qwen2"), *((method, family) for method in ("lora_replay_ewc", "ttt") for family in FAMILIES)],
)
def test_an_exported_model_loads_anywhere_and_says_the_same(home, tmp_path, method, family):
    learner = taught(home, method, family)
    compared = write(learner, tmp_path / "out")
    assert compared and compared.difference < 1e-4 and compared.agreement == 1 and compared.tokens > 8
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    torch.testing.assert_close(logits(plain), logits(learner.lm.model), atol=1e-5, rtol=1e-4)
    assert not any("lora" in name or "base_layer" in name or "frozen" in name for name in plain.state_dict())
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files >= {"config.json", "model.safetensors", "tokenizer.json", "sentinels.jsonl", "background.jsonl"}
    assert not [name for name in files if name.endswith((".bin", ".pt"))]
    loaded = load(str(tmp_path / "out"), device="cpu", offline=True)
    assert (loaded.sentinels, loaded.background) == (learner.lm.sentinels, learner.lm.background)


@pytest.mark.parametrize("method", METHODS)
def test_as_a_model_of_ours_it_answers_the_same_and_can_be_taught(home, tmp_path, method):
    learner = taught(home, method)
    write(learner, tmp_path / "out")
    second = Learner(str(tmp_path / "out"), method=method, home=home, config={"max_steps": 2}, max_forgetting=1.0)
    questions = [f"What is part {i} of thing 0?" for i in range(4)]
    for question in questions:
        assert second.ask(question, max_new_tokens=8) == learner.ask(question, max_new_tokens=8)
    assert second.base != learner.base and second.log() == []
    assert second.learn(document(5)).number == 1


def test_tied_embeddings_stay_tied(home, tmp_path):
    learner = taught(home, tie_word_embeddings=True)
    write(learner, tmp_path / "out")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    torch.testing.assert_close(logits(plain), logits(learner.lm.model), atol=1e-5, rtol=1e-4)
    assert plain.lm_head.weight is plain.model.embed_tokens.weight


def test_exporting_changes_nothing(home, tmp_path):
    learner = taught(home, domains=("sea", "land"))
    before, said = learner.digest, logits(learner.lm.model)
    write(learner, tmp_path / "hf", domains=("sea", "land"))
    write(learner, tmp_path / "peft", "peft", ("sea", "land"))
    assert learner.digest == before and torch.equal(logits(learner.lm.model), said)
    assert learner.learn(document(7)).number == 3


@pytest.mark.parametrize("domains", [("sea",), ("land",), ("sea", "land")])
def test_an_exported_adapter_is_plain_pefts_and_that_of_the_model(home, tmp_path, domains):
    learner = taught(home, domains=("sea", "land"))
    write(learner, tmp_path / "hf", "hf", domains)
    write(learner, tmp_path / "peft", "peft", domains)
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "hf").eval()
    adapted = PeftModel.from_pretrained(tiny_lm(layers=1).model, tmp_path / "peft").eval()
    torch.testing.assert_close(logits(adapted), logits(whole), atol=1e-5, rtol=1e-4)
    back = Learner(
        tiny_lm(layers=1), method="lora_replay_ewc", home=home.with_name("back"), config={}, max_forgetting=1.0
    )
    back.load_adapter(tmp_path / "peft", "back")
    torch.testing.assert_close(logits(back.lm.model), logits(whole), atol=1e-5, rtol=1e-4)


def test_what_does_not_answer_alike_is_not_written(home, tmp_path, monkeypatch):
    learner = taught(home, "full_finetune")
    fuse = type(learner.method).fuse

    def wrong(method, domains):
        weights, changes = fuse(method, domains)
        return {name: -t if "down_proj" in name else t for name, t in weights.items()}, changes

    monkeypatch.setattr(type(learner.method), "fuse", wrong)
    with pytest.raises(HistoryError, match="answers otherwise"):
        write(learner, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- where it goes --------------------------------------------------------------------------------------------------


def test_a_place_in_use_is_left_alone(home, tmp_path):
    learner, folder, file = taught(home), tmp_path / "mine", tmp_path / "file"
    folder.mkdir()
    (folder / "notes.txt").write_text("precious")
    file.write_text("precious")
    for form in ("hf", "peft"):
        for place in (folder, file):
            with pytest.raises(HistoryError, match="not empty"):
                write(learner, place, form)
        with pytest.raises(HomeError, match="not a directory"):
            write(learner, file / "below", form)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"] and file.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["mine", "file", home.name])


def test_an_empty_directory_and_one_far_below_will_do(home, tmp_path):
    learner = taught(home)
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "empty", tmp_path / "a" / "b" / "c"):
        assert write(learner, place, "peft") is None and (place / "adapter_config.json").is_file()


@pytest.mark.parametrize("form", ["hf", "peft"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(home, tmp_path, form):
    learner = taught(home)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, hard))
    try:
        with pytest.raises(HomeError) as caught:
            write(learner, tmp_path / "out", form)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [home.name]


def test_an_unknown_format_and_a_method_without_it(home, tmp_path):
    learner = taught(home, "full_finetune")
    with pytest.raises(UsageError, match="choose hf or peft"):
        write(learner, tmp_path / "out", "gguf")
    with pytest.raises(UsageError, match="save_adapter"):
        write(learner, tmp_path / "out", "peft")
    assert not (tmp_path / "out").exists()
