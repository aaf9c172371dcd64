"""LoRA with replay and EWC, what it adds to the contract: a domain each, an anchor of its own accord, adapters taken up."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import tiny_lm
from safetensors.torch import load_file, save_file

from accrete import Document, Example, Learner, Query, reader
from accrete.errors import AccreteError, HistoryError
from accrete.lm.batch import Sequence, collate

METHOD = "lora_replay_ewc"
SHORT = {"max_steps": 2, "batch_size": 4}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Guard questions are answered in a few tokens."""
    monkeypatch.setattr(reader, "SENTINEL_TOKENS", 4)


@pytest.fixture
def make_learner(home):
    def make(home=home, lm=None, seed=0, **options) -> Learner:
        return Learner(
            lm or tiny_lm(layers=1, seed=seed), method=METHOD, home=home, config=SHORT | options, max_forgetting=1.0
        )

    return make


@pytest.fixture
def learner(make_learner) -> Learner:
    return make_learner()


def document(number: int, word: str = "thing", count: int = 4) -> Document:
    items = tuple(Example(f"What is part {i} of {word} {number}?", f"Value {number}{i}.") for i in range(count))
    return Document(f"d{number}.jsonl", items=items)


def logits(learner: Learner, domain: str | None = None) -> torch.Tensor:
    with torch.no_grad(), learner.method.adapter.reading(domain or learner.method.adapter.active):
        return learner.lm.logits(collate([Sequence(tuple(range(5, 25)))]))


def tensors(learner: Learner, part: str, prefix: str = "") -> dict[str, torch.Tensor]:
    state = getattr(learner.method, part).state_dict()
    return {k: v.clone() for k, v in state.items() if torch.is_tensor(v) and k.startswith(prefix)}


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[key]) for key, tensor in one.items())


# --- domains --------------------------------------------------------------------------------------------------------


def test_teaching_one_domain_leaves_the_others_bit_for_bit(learner):
    base = logits(learner, "none")
    learner.learn(document(1), domain="sea")
    before, said = tensors(learner, "adapter", "sea/"), logits(learner, "sea")
    answers = [learner.ask(f"What is part {i} of thing 1?", domain="sea", max_new_tokens=8).text for i in range(4)]
    learner.learn(document(2), domain="seaside")
    assert before and same(before, tensors(learner, "adapter", "sea/")) and torch.equal(logits(learner, "sea"), said)
    again = [learner.ask(f"What is part {i} of thing 1?", domain="sea", max_new_tokens=8).text for i in range(4)]
    assert again == answers
    assert not torch.equal(logits(learner, "seaside"), said) and torch.equal(logits(learner, "none"), base)
    rows = learner.domains()
    assert [(r["domain"], r["lessons"], r["last"]) for r in rows] == [
        ("sea", 1, "d1.jsonl"),
        ("seaside", 1, "d2.jsonl"),
    ]
    assert all(row["parameters"] > 1000 for row in rows)


def test_a_new_domain_in_a_fresh_process_is_the_same_domain(make_learner, tmp_path):
    """The adapters that are there already must not change what "all layers" means."""
    one, two = make_learner(home=tmp_path / "one"), make_learner(home=tmp_path / "two")
    for learner in (one, two):
        learner.learn(document(1), domain="sea")
    fresh = make_learner(home=tmp_path / "two")
    assert fresh.learn(document(2), domain="land").digest_after == one.learn(document(2), domain="land").digest_after


def test_undoing_the_only_lesson_of_a_domain_undoes_the_domain(learner, make_learner):
    learner.learn(document(1), domain="sea")
    digest, said = learner.digest, logits(learner)
    learner.learn(document(2), domain="land")
    learner.undo()
    assert list(learner.reader.domains) == ["sea"] and learner.digest == digest and torch.equal(logits(learner), said)
    assert list(make_learner().reader.domains) == ["sea"]


def test_a_lesson_sees_the_replay_of_its_own_domain_alone(learner, monkeypatch):
    asked = []
    sample = type(learner.method.replay).sample
    monkeypatch.setattr(
        type(learner.method.replay),
        "sample",
        lambda self, n, domain=None: asked.append((n, domain)) or sample(self, n, domain),
    )
    learner.learn(document(1), domain="sea")
    assert all(count == 0 for count, _ in asked)
    learner.learn(document(2), domain="sea")
    assert any(count > 0 for count, _ in asked)
    asked.clear()
    learner.learn(document(3), domain="land")
    assert {domain for _, domain in asked} == {"land"} and all(count == 0 for count, _ in asked)


def test_a_question_goes_to_the_domain_of_its_words(learner, monkeypatch):
    learner.learn(document(1, "lighthouse"), domain="sea")
    learner.learn(document(2, "treaty"), domain="law")
    read = []
    reading = learner.method.adapter.reading
    monkeypatch.setattr(learner.method.adapter, "reading", lambda domain: read.append(domain) or reading(domain))
    questions = ["What of the lighthouse?", "What of the treaty?", "Qwyzzle?", "A lighthouse again"]
    told = ["sea", "law", "law", "sea"]  # the third has no word of either: the last taught answers
    for question, domain in zip(questions, told, strict=True):
        read.clear()
        one = learner.ask(question, max_new_tokens=4)
        assert set(read) == {domain}
        assert one.text == learner.ask(question, domain=domain, max_new_tokens=4).text
    together = learner.answer([Query(question) for question in questions], max_new_tokens=4)
    assert [a.text for a in together] == [
        learner.ask(q, domain=d, max_new_tokens=4).text for q, d in zip(questions, told, strict=True)
    ]


def test_the_choice_follows_an_undo(learner):
    """Two documents learned into the wrong domains, taken back, and learned into the right ones."""
    learner.learn(document(1, "lighthouse"), domain="law")
    learner.learn(document(2, "treaty"), domain="sea")
    assert learner.method._domain_of("What of the lighthouse?") == "law"
    learner.undo()
    learner.undo()
    learner.learn(document(1, "lighthouse"), domain="sea")
    learner.learn(document(2, "treaty"), domain="law")
    assert learner.method._domain_of("What of the lighthouse?") == "sea"


# --- EWC and replay in a lesson -------------------------------------------------------------------------------------


def test_it_consolidates_every_few_lessons_of_a_domain_by_itself(make_learner):
    learner = make_learner(ewc_every=2, ewc_examples=2)
    learner.learn(document(1), domain="sea")
    learner.learn(document(2), domain="land")
    assert tensors(learner, "anchor") == {}, "two lessons, but one in each domain"
    third = learner.learn(document(3), domain="sea")
    held = tensors(learner, "anchor")
    parameters = learner.method.adapter.open("sea")
    assert set(held) == {f"{kind}/{name}" for kind in ("fisher", "anchor") for name in parameters}
    assert all(torch.equal(held[f"anchor/{name}"], p) for name, p in parameters.items())
    assert third.metrics["ewc_penalty"] is None  # nothing is anchored yet
    fourth = learner.learn(document(4), domain="sea")
    assert fourth.metrics["ewc_penalty"] > 0 and same(tensors(learner, "anchor"), held)
    learner.learn(document(5), domain="sea")
    assert not same(tensors(learner, "anchor"), held)
    learner.undo()
    assert same(tensors(learner, "anchor"), held)
    fresh = make_learner(ewc_every=2, ewc_examples=2)
    assert same(tensors(fresh, "anchor"), held)
    assert fresh.learn(document(6), domain="sea").digest_after == learner.learn(document(6), domain="sea").digest_after


def test_the_penalty_holds_the_adapter_near_its_anchor(make_learner, tmp_path):
    moved = []
    for weight in (0.0, 1e6):
        learner = make_learner(home=tmp_path / str(weight), ewc_every=1, ewc_examples=2, ewc_weight=weight, max_steps=5)
        learner.learn(document(1))
        fisher, anchor = tensors(learner, "anchor", "fisher/"), tensors(learner, "anchor", "anchor/")
        learner.learn(document(2))
        now = learner.method.adapter.open("default")
        moved.append(
            sum(float((f * (now[k[7:]].detach() - anchor[f"anchor/{k[7:]}"]) ** 2).sum()) for k, f in fisher.items())
        )
    assert moved[1] < 0.7 * moved[0]


def test_a_lesson_reports_its_replay(learner):
    assert learner.learn(document(1)).metrics["replay_diversity"] > 0.1
    assert 0 < learner.learn(document(2)).metrics["replay_diversity"] <= 1


# --- adapters of others ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """An adapter as this method writes it, and so as PEFT would."""
    folder = tmp_path_factory.mktemp("source")
    learner = Learner(tiny_lm(layers=1), method=METHOD, home=folder / "home", config=SHORT, max_forgetting=1.0)
    learner.learn(document(7), domain="theirs")
    learner.method.save_adapter(["theirs"], folder / "adapter")
    return folder / "adapter"


@pytest.fixture(scope="module")
def taught_home(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("taught") / "home"
    Learner(tiny_lm(layers=1), method=METHOD, home=home, config=SHORT, max_forgetting=1.0).learn(
        document(1), domain="sea"
    )
    return home


@pytest.fixture
def taught(taught_home, home, make_learner) -> Learner:
    """A learner that was taught one lesson of the domain "sea"."""
    shutil.copytree(taught_home, home)
    return make_learner()


@pytest.fixture
def written(source, tmp_path) -> Path:
    return Path(shutil.copytree(source, tmp_path / "adapter"))


def test_an_adapter_is_taken_up_as_a_commit_that_can_be_undone(learner, make_learner, written):
    learner.learn(document(1), domain="sea")
    digest, said = learner.digest, logits(learner, "sea")
    commit = learner.load_adapter(written, "theirs")
    assert commit.document == "adapter adapter" and commit.domain == "theirs" and commit.number == 2
    assert commit.metrics.keys() >= {"kept_before", "kept_after"}
    assert set(learner.reader.domains) == {"sea", "theirs"}
    assert torch.equal(logits(learner, "sea"), said) and not torch.equal(logits(learner, "theirs"), said)
    fresh = make_learner()
    assert fresh.digest == learner.digest and torch.equal(logits(fresh, "theirs"), logits(learner, "theirs"))
    fresh.learn(document(8), domain="theirs")
    learner.undo()
    learner.undo()
    assert learner.digest == digest and torch.equal(logits(learner, "sea"), said)
    assert learner.ask("What is thing 1?", max_new_tokens=3).tokens


def test_an_adapter_that_takes_the_place_of_a_taught_one_is_no_longer_held(make_learner, written):
    learner = make_learner(ewc_every=1, ewc_examples=2)
    learner.learn(document(1), domain="sea")
    assert tensors(learner, "anchor")
    learner.load_adapter(written, "sea")
    assert tensors(learner, "anchor") == {}
    assert learner.learn(document(2), domain="sea").metrics["ewc_penalty"] is None


def test_an_adapter_that_names_a_base_on_the_hub_is_not_looked_up_there(learner, written, monkeypatch):
    config(base_model_name_or_path="someone/some-model")(written)
    asked = []
    monkeypatch.setattr(
        "peft.utils.save_and_load.check_file_exists_on_hf_hub", lambda name, *_, **__: asked.append(name)
    )
    learner.load_adapter(written, "theirs")
    assert learner.digest and asked == []


def test_a_method_without_adapters_has_no_place_for_one(written, tmp_path):
    other = Learner(tiny_lm(layers=1), method="full_finetune", home=tmp_path / "other", config=SHORT)
    with pytest.raises(HistoryError, match="no place"):
        other.load_adapter(written)


@pytest.mark.parametrize("domain", ["../x", "", "a b", "ü"])
def test_the_domain_of_an_adapter_has_a_plain_name(learner, written, domain):
    with pytest.raises(AccreteError, match="cannot name a domain"):
        learner.load_adapter(written, domain)


def config(**changes):
    def change(folder: Path) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def weights(change):
    def rewrite(folder: Path) -> None:
        path = folder / "adapter_model.safetensors"
        save_file(change(load_file(path)), path)

    return rewrite


def cut(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:2000])


def pickled(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()

    class Payload:
        def __reduce__(self):
            return (Path.touch, (folder.parent / "executed",))

    torch.save(Payload(), folder / "adapter_model.bin")


def text(content: str):
    return lambda folder: (folder / "adapter_config.json").write_text(content)


def other_base(folder: Path) -> None:
    lm = tiny_lm(layers=1, hidden_size=32, head_dim=8)
    other = Learner(lm, method=METHOD, home=folder.parent / "other base", config=SHORT, max_forgetting=1.0)
    other.learn(document(7), domain="theirs")
    shutil.rmtree(folder)
    other.method.save_adapter(["theirs"], folder)


DAMAGES = {
    "dora": config(use_dora=True),
    "bias": config(bias="all"),
    "bias of its own": config(lora_bias=True),
    "whole modules": config(modules_to_save=["lm_head"]),
    "tokens": config(trainable_token_indices=[1]),
    "another base": other_base,
    "other layers": config(target_modules=["no_such_layer"]),
    "another rank": config(r=9),
    "rank zero": config(r=0),
    "rank of words": config(r="many"),
    "unknown kind": config(peft_type="NO_SUCH_KIND"),
    "no configuration": lambda folder: (folder / "adapter_config.json").unlink(),
    "no weights": lambda folder: (folder / "adapter_model.safetensors").unlink(),
    "no directory": shutil.rmtree,
    "cut": cut,
    "a pickle": pickled,
    "broken JSON": text("{"),
    "a list": text("[]"),
    "empty": text("{}"),
    "deep": text("[" * 100_000),
    "half of the tensors": weights(lambda t: dict(list(t.items())[:3])),
    "no tensors": weights(lambda t: {}),
    "not numbers": weights(lambda t: {k: v * float("nan") for k, v in t.items()}),
    "IA3": config(peft_type="IA3"),
    "doubled layers": config(layer_replication=[[0, 1], [0, 1]]),
    "aLoRA": config(alora_invocation_tokens=[5, 6]),
    "PiSSA": config(init_lora_weights="pissa"),
}


PLACES = [("sea", damage) for damage in DAMAGES] + [
    ("new", damage)
    for damage in ("dora", "another rank", "cut", "empty", "no tensors", "IA3", "doubled layers", "PiSSA")
]


@pytest.mark.parametrize(("domain", "damage"), PLACES)
def test_an_adapter_that_is_no_plain_lora_of_this_model_changes_nothing(taught, written, damage, domain):
    """`domain` has an adapter already, or has none yet."""
    before = taught.digest, taught.log(), logits(taught, "sea"), logits(taught, "none")
    DAMAGES[damage](written)
    with pytest.raises(HistoryError) as caught:
        taught.load_adapter(written, domain)
    assert "\n" not in str(caught.value) and str(written) in str(caught.value) and len(str(caught.value)) < 600
    assert not (written.parent / "executed").exists()
    assert (taught.digest, taught.log()) == before[:2] and list(taught.reader.domains) == ["sea"]
    assert torch.equal(logits(taught, "sea"), before[2]) and torch.equal(logits(taught, "none"), before[3])


@pytest.mark.parametrize("domain", ["sea", "new"])
def test_after_a_refused_adapter_learning_goes_on(taught, written, domain):
    before, said = taught.digest, logits(taught, "sea")
    config(r=9)(written)
    with pytest.raises(HistoryError):
        taught.load_adapter(written, domain)
    assert taught.learn(document(2), domain=domain).digest_before == before
    taught.undo()
    assert taught.digest == before and torch.equal(logits(taught, "sea"), said)
