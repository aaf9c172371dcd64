"""Sentinels that a model makes itself: apart from each other, of the base state, stored once, and made again when damaged."""

from __future__ import annotations

import errno
import json
import os
import resource
from importlib import resources
from pathlib import Path

import pytest
from conftest import tiny_lm

from accrete import Document, Example, Learner, reader
from accrete.errors import HomeError
from accrete.lm import decode
from accrete.lm.model import LM
from accrete.store import sentinels
from accrete.store.sentinels import general_prompts, provide_sentinels
from accrete.types import Query


@pytest.fixture(autouse=True)
def few_prompts(monkeypatch) -> list[str]:
    few = general_prompts()[:12]
    monkeypatch.setattr(sentinels, "general_prompts", lambda: few)
    monkeypatch.setattr(sentinels, "SENTINEL_TOKENS", 6)  # quicker; both say the same
    monkeypatch.setattr(reader, "SENTINEL_TOKENS", 6)
    return few


def bare(seed: int = 0) -> LM:
    """A model that brings no sentinels."""
    lm = tiny_lm(layers=1, seed=seed)
    lm.sentinels = lm.background = ()
    return lm


def stored(home: Path) -> Path:
    (path,) = (home / "sentinels").iterdir()
    return path


def rows(home: Path) -> list[dict]:
    return [json.loads(line) for line in stored(home).read_text("utf-8").splitlines()]


def provided(home: Path, lm: LM | None = None) -> LM:
    lm = lm or bare()
    provide_sentinels(lm, home)
    return lm


def learner(home: Path, method: str = "full_finetune") -> Learner:
    return Learner(bare(), method=method, home=home, config={"max_steps": 2, "batch_size": 2}, max_forgetting=1.0)


def document(number: int) -> Document:
    return Document(f"d{number}", items=(Example(f"What is thing {number}?", f"Value {number}."),))


def test_the_prompts_that_ship_are_many_different_and_questions():
    prompts = resources.files("accrete.data").joinpath("general_prompts.txt").read_text("utf-8").splitlines()
    asked = [line for line in prompts if line.strip() and not line.startswith("#")]
    assert len(asked) >= 150 and len({" ".join(line.lower().split()) for line in asked}) == len(asked)


def test_no_prompt_serves_two_purposes(home, few_prompts):
    lm = provided(home)
    by_split = {s: {q for q, _, split in lm.sentinels if split == s} for s in ("guard", "scored")}
    by_split["background"] = {question for question, _ in lm.background}
    assert all(len(questions) >= 3 for questions in by_split.values())
    assert sum(map(len, by_split.values())) == len(set().union(*by_split.values())) <= len(few_prompts)
    assert set().union(*by_split.values()) <= set(few_prompts)


def test_they_are_what_the_model_says_and_it_answers_them_all(home):
    lm = provided(home)
    questions = [question for question, _, _ in lm.sentinels]
    said = decode.answer(lm, [Query(question) for question in questions], max_new_tokens=sentinels.SENTINEL_TOKENS)
    assert [answers for _, answers, _ in lm.sentinels] == [(answer.text,) for answer in said]
    assert all(answers[0] for _, answers, _ in lm.sentinels) and all(answer for _, answer in lm.background)


def test_what_the_model_brings_itself_stays(home):
    lm = tiny_lm(layers=1)
    before = lm.sentinels, lm.background
    provide_sentinels(lm, home)
    assert (lm.sentinels, lm.background) == before and not home.exists()
    half = bare()
    half.background = (("Its own?", "Yes."),)
    assert provided(home, half).background == (("Its own?", "Yes."),) and half.sentinels


def test_they_are_made_once(home, monkeypatch):
    first = provided(home)
    before = stored(home).stat().st_mtime_ns, stored(home).read_bytes()
    monkeypatch.setattr(decode, "answer", lambda *_, **__: pytest.fail("they were made again"))
    second = provided(home)
    assert (second.sentinels, second.background) == (first.sentinels, first.background)
    assert (stored(home).stat().st_mtime_ns, stored(home).read_bytes()) == before


def test_every_model_has_its_own(home):
    one, other = provided(home), provided(home, bare(seed=1))
    assert one.sentinels != other.sentinels and len(list((home / "sentinels").iterdir())) == 2
    assert provided(home).sentinels == one.sentinels


@pytest.mark.parametrize("method", ["full_finetune", "lora_replay_ewc"])
def test_they_are_of_the_base_state_though_lessons_are_there(home, method):
    expected = provided(home.with_name("other")).sentinels
    taught = learner(home, method)
    taught.learn(document(1))
    stored(home).unlink()
    late = learner(home, method)
    state = late.digest
    commit = late.learn(document(2))
    assert late.lm.sentinels == expected and commit.digest_before == state
    assert taught.lm.sentinels == expected


DAMAGES = {
    "no JSON": b"{damaged",
    "no text": b"\xff\xfe\x00",
    "numbers": b"3\n4\n",
    "no line": None,
    "another key": b'{"question": "Who?", "answer": "She."}\n',
    "empty": b"",
    "words": b'["question", "answer", "split"]\n',
    "no answers": b'{"question": null, "answer": 3, "split": "guard"}\n',
    "another split": b'{"question": "Who?", "answer": "She.", "split": "elsewhere"}\n',
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_made_again_and_written(home, damage):
    expected, content = provided(home).sentinels, stored(home).read_bytes()
    if DAMAGES[damage] is None:
        stored(home).unlink()
    else:
        stored(home).write_bytes(DAMAGES[damage])
    assert provided(home).sentinels == expected
    assert stored(home).read_bytes() == content


@pytest.mark.parametrize(
    ("code", "words"), [(errno.EROFS, "read-only"), (errno.ENOSPC, "full"), (errno.EACCES, "permission")]
)
def test_a_home_that_takes_nothing_is_one_sentence(home, monkeypatch, code, words):
    def refuse(*_):
        raise OSError(code, "as the system says it")

    lm = bare()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        with pytest.raises(HomeError, match=words) as caught:
            provide_sentinels(lm, home)
    assert "\n" not in str(caught.value) and lm.sentinels == () and list((home / "sentinels").iterdir()) == []
    assert provided(home).sentinels


def test_a_full_disk_is_one_sentence_and_no_lesson(home):
    taught = learner(home)
    birth = taught.digest
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(HomeError, match="full"):
            taught.learn(document(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert taught.digest == birth and taught.log() == []
    assert taught.learn(document(1)).metrics["kept_before"] == 1.0
