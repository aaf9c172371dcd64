"""The guard: a lesson that costs more than it may is taken back bit for bit, said so, and written down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from conftest import tiny_lm, tokenizer
from transformers import AutoTokenizer
from typer.testing import CliRunner

from accrete import Document, Example, Learner, reader
from accrete.cli.main import app
from accrete.errors import ForgettingError, UsageError
from accrete.lm import decode
from accrete.lm.batch import Sequence, collate
from accrete.methods import base as method_base
from accrete.types import Query

TOKENS = 6  # of a guard answer here: quicker
HARMFUL = {"max_steps": 5, "batch_size": 4, "rate": 1e-2}  # a rate at which a random model forgets its babble


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The tokenizer is read once, and guard questions are answered in a few tokens."""
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *_, **__: tokenizer())
    monkeypatch.setattr(reader, "SENTINEL_TOKENS", TOKENS)


@pytest.fixture(scope="module")
def own_answers() -> tuple:
    """Sentinels that the tiny model answers rightly before any lesson: what it says by itself."""
    lm = tiny_lm(layers=1)
    questions = [f"What is the name of harbour number {i}?" for i in range(4)]
    answers = decode.answer(lm, [Query(question) for question in questions], max_new_tokens=TOKENS)
    assert all(answer.text for answer in answers)
    return tuple((q, (a.text,), "guard") for q, a in zip(questions, answers, strict=True))


@pytest.fixture
def make_learner(own_answers, home):
    def make(max_forgetting=0.05, method="lora_replay_ewc", **options) -> Learner:
        lm = tiny_lm(layers=1)
        lm.sentinels = own_answers
        return Learner(lm, method=method, home=home, config=HARMFUL | options, max_forgetting=max_forgetting)

    return make


def document(number: int = 1) -> Document:
    items = tuple(Example(f"What is part {i} of thing {number}?", f"Value {number}{i}.") for i in range(4))
    return Document(f"d{number}.jsonl", items=items)


def logits(learner) -> torch.Tensor:
    with torch.no_grad():
        return learner.lm.logits(collate([Sequence(tuple(range(5, 25)))]))


def contents(learner) -> dict:
    """Every tensor and value of the method's state, copied."""
    state = method_base.state_of(learner.method)
    return {(p, k): v.clone() if torch.is_tensor(v) else v for p, part in state.items() for k, v in part.items()}


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(v, other[k]) if torch.is_tensor(v) else v == other[k] for k, v in one.items()
    )


# --- the learner ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "taught"), [("full_finetune", False), ("lora_replay_ewc", True)])
def test_a_lesson_that_costs_too_much_is_taken_back_bit_for_bit(make_learner, method, taught):
    if taught:  # by a learner that minds nothing
        make_learner(1.0, method, max_steps=1, rate=1e-6).learn(document(9))
    learner = make_learner(method=method)
    before, state, said = learner.digest, contents(learner), logits(learner)
    with pytest.raises(ForgettingError) as caught:
        learner.learn(document())
    assert learner.digest == before and same(contents(learner), state) and torch.equal(logits(learner), said)
    sentence = str(caught.value)
    assert caught.value.exit_code == 2 and "\n" not in sentence
    assert (
        "d1.jsonl was refused" in sentence
        and "1.000 were answered before" in sentence
        and "max_forgetting = 0.05" in sentence
    )
    refused = learner.log()[-1]
    assert refused.undone and refused.metrics["refused"] == sentence
    assert refused.metrics["kept_before"] == 1.0 and refused.metrics["kept_after"] < 0.95
    assert refused.metrics["steps"] == 5 and refused.digest_before == before != refused.digest_after
    fresh = make_learner(method=method)
    assert fresh.digest == before and torch.equal(logits(fresh), said)


def test_undo_is_that_of_the_lesson_before_and_the_next_one_works(make_learner):
    careful, careless = make_learner(), make_learner(1.0)
    first = careless.learn(document(1))
    with pytest.raises(ForgettingError):
        Learner.learn(careful, document(2), domain="other")
    second = careless.learn(document(3))
    assert second.parent == first.id and second.number == 2 and second.digest_before == first.digest_after
    assert [c.document for c in careful.log() if "refused" in c.metrics] == ["d2.jsonl"]
    assert careful.undo().id == second.id and careful.undo().id == first.id
    assert careful.digest == first.digest_before


def test_a_refused_lesson_can_be_learned_when_more_may_be_forgotten(make_learner):
    careful = make_learner()
    with pytest.raises(ForgettingError):
        careful.learn(document())
    commit = make_learner(1.0).learn(document())
    assert not commit.already and commit.metrics["kept_after"] < commit.metrics["kept_before"]
    (refused, learned) = careful.log()
    assert learned.digest_after == refused.digest_after, "refused or not, the lesson is the same"


def test_the_bound_itself_is_allowed(make_learner):
    with pytest.raises(ForgettingError):
        make_learner(0.0).learn(document())
    (refused,) = make_learner().log()
    cost = refused.metrics["kept_before"] - refused.metrics["kept_after"]
    assert 0 < cost < 1 or cost == 1
    make_learner(cost).learn(document())
    with pytest.raises(ForgettingError):
        make_learner(max(0.0, cost - 0.01)).learn(document(2), domain="other")


def test_a_lesson_that_costs_nothing_passes_a_guard_of_nothing(make_learner):
    commit = make_learner(0.0, max_steps=1, rate=1e-7).learn(document())
    assert commit.metrics["kept_before"] == commit.metrics["kept_after"] == 1.0


def test_what_was_kept_before_is_measured_with_the_domains_own_adapter(make_learner):
    learner = make_learner(1.0)
    first = learner.learn(document(1), domain="sea")
    assert first.metrics["kept_before"] == 1.0 > first.metrics["kept_after"]
    land = learner.learn(document(2), domain="land")
    assert land.metrics["kept_before"] == 1.0, "a new domain begins as the base model"
    at_sea = learner.kept("sea")
    third = learner.learn(document(3), domain="sea")
    assert third.metrics["kept_before"] == at_sea == first.metrics["kept_after"]
    fresh = make_learner(1.0)
    assert fresh.learn(document(4), domain="sea").metrics["kept_before"] == third.metrics["kept_after"]


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_from_0_to_1(make_learner, share):
    with pytest.raises(UsageError, match="from 0 to 1"):
        make_learner(share)


# --- the command line -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def proud_directory(own_answers, tmp_path_factory) -> Path:
    """The tiny model with its own answers as guard questions."""
    folder, lm = tmp_path_factory.mktemp("models") / "proud", tiny_lm(layers=1)
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    rows = [{"question": q, "answers": list(answers), "split": split} for q, answers, split in own_answers]
    (folder / "sentinels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def documents(tmp_path) -> list[Path]:
    paths = []
    for number in (1, 2):
        paths.append(tmp_path / f"d{number}.jsonl")
        items = [{"question": i.question, "answer": i.answer} for i in document(number).items]
        paths[-1].write_text("".join(json.dumps(item) + "\n" for item in items))
    return paths


@pytest.fixture
def invoke(proud_directory, home):
    def run(*arguments):
        common = ["--model", proud_directory, "--home", home, "--offline", "--method", "lora_replay_ewc"]
        harmful = [part for key, value in HARMFUL.items() for part in ("--set", f"{key}={value}")]
        return CliRunner().invoke(app, [str(part) for part in (*arguments, *common, *harmful)])

    return run


def status(invoke) -> dict:
    return json.loads(invoke("status", "--json").stdout)


def test_exit_code_2_one_sentence_and_a_line_in_the_log(invoke, documents):
    before = status(invoke)
    result = invoke("learn", documents[0])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("accrete: d1.jsonl was refused") and result.stderr.count("\n") == 1
    after = status(invoke)
    assert (after["digest"], after["head"], after["lessons"]) == (before["digest"], None, 0)
    (logged,) = json.loads(invoke("log", "--json").stdout)
    assert logged["undone"] and logged["refused"] in result.stderr and logged["document"] == "d1.jsonl"
    assert "refused d1.jsonl" in invoke("log").stdout
    shown = invoke("show", logged["commit"]).stdout
    assert "was refused and taken back" in shown and "learned d1.jsonl" not in shown
    assert json.loads(invoke("forgetting", "--json").stdout)["refused"] == 1
    assert invoke("undo").exit_code == 1, "there is nothing to undo"


def test_max_forgetting_of_one_lets_it_through(invoke, documents):
    result = invoke("learn", documents[0], "--max-forgetting", 1, "--json")
    assert result.exit_code == 0
    lesson = json.loads(result.stdout)
    assert lesson["kept_before"] == 1.0 > lesson["kept_after"] + 0.05 and "refused" not in lesson


def test_with_json_the_refusal_is_json(invoke, documents):
    result = invoke("learn", documents[0], "--json")
    assert result.exit_code == 2 and "was refused" in json.loads(result.stdout)["error"]


def test_one_refused_does_not_stop_the_others(invoke, documents, tmp_path):
    (tmp_path / "a.md").write_bytes(b"\x7fELF\0\0\0\1")
    result = invoke("learn", *documents, tmp_path / "a.md")
    assert result.exit_code != 0 and "3 documents: 2 refused, 1 not read" in result.stdout
    assert result.stderr.count("was refused") == 2 and "binary" in result.stderr


def test_of_several_one_refused_is_exit_code_2(invoke, documents):
    result = invoke("learn", *documents)
    assert result.exit_code == 2 and "Internal error" not in result.stderr


@pytest.mark.parametrize("place", ["environment", "file", "environment over file", "flag over environment"])
def test_the_share_may_stand_in_the_environment_or_the_settings(invoke, documents, home, monkeypatch, place):
    if "file" in place:
        home.mkdir()
        share = 1 if place == "file" else 0
        (home / "config.yaml").write_text(yaml.safe_dump({"max_forgetting": share}))
    if "environment" in place:
        monkeypatch.setenv("ACCRETE_MAX_FORGETTING", "1.0")
    flags = ["--max-forgetting", "0.05"] if "flag" in place else []
    assert invoke("learn", documents[0], *flags).exit_code == (2 if flags else 0)


@pytest.mark.parametrize("value", ["2", "-1", "much", "nan", "true"])
def test_a_share_that_is_none_is_one_sentence(invoke, documents, monkeypatch, value):
    monkeypatch.setenv("ACCRETE_MAX_FORGETTING", value)
    result = invoke("learn", documents[0])
    assert result.exit_code == 2 and result.stdout == "" and result.stderr.count("\n") == 1
    assert "ACCRETE_MAX_FORGETTING" in result.stderr
