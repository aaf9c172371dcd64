"""How questions are written: the template, the targets, and what is cut when the model is too short for all of it."""

from __future__ import annotations

import pytest
from conftest import tiny_lm, tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from accrete.errors import UsageError
from accrete.lm.load import embedded_directory
from accrete.lm.model import LM
from accrete.lm.prompts import prompt_ids, study_sequence
from accrete.lm.tokenizer import chatml

QUESTION = "Who runs the Brialtem works?"
CONTEXT = "The Brialtem works stand in Quorv. They make clocks and lace."


def text_of(lm: LM, ids) -> str:
    return lm.tokenizer.decode(ids)


@pytest.fixture(scope="module")
def lm() -> LM:
    return tiny_lm(layers=1)


@pytest.fixture(scope="module")
def short() -> LM:
    return tiny_lm(layers=1, max_position_embeddings=64)


@pytest.fixture(scope="module")
def plain() -> LM:
    """A model whose tokenizer has no chat template."""
    lm = tiny_lm(layers=1)
    lm.tokenizer = AutoTokenizer.from_pretrained(embedded_directory())
    lm.tokenizer.chat_template = None
    return lm


def test_the_template_is_chatml(lm: LM) -> None:
    turns = [("One?", "Two."), (f"{CONTEXT}\n\n{QUESTION}", "Ängström {{ 7 }}")]
    messages = [
        {"role": role, "content": said}
        for turn in turns
        for role, said in zip(("user", "assistant"), turn, strict=True)
    ]
    assert tokenizer().apply_chat_template(messages, tokenize=False) == chatml(turns)


def test_prompt_and_answer_are_one_conversation(lm: LM) -> None:
    """The prompt at inference is the very beginning of what was studied, token for token."""
    for context in ("", CONTEXT):
        studied = study_sequence(lm, QUESTION, "Dirsta Lo", context)
        prompt = prompt_ids(lm, QUESTION, context)
        assert list(studied.ids[: studied.target_from]) == prompt
        user = f"{context}\n\n{QUESTION}" if context else QUESTION
        assert text_of(lm, studied.ids) == chatml([(user, "Dirsta Lo")]).removesuffix("\n")
        assert list(studied.ids) == lm.tokenizer(text_of(lm, studied.ids))["input_ids"]


@pytest.mark.parametrize("written", ["Dirsta Lo", "1,200 tonnes", "Ängström", "a b\nc"])
def test_the_targets_are_the_answer_and_its_end(lm: LM, plain: LM, written: str) -> None:
    for model in (lm, plain):
        sequence = study_sequence(model, QUESTION, written, CONTEXT)
        targets = sequence.ids[sequence.target_from :]
        assert sequence.targets == len(targets)
        assert text_of(model, targets) == f" {written}{model.tokenizer.eos_token}"
        assert targets[-1] == model.tokenizer.eos_token_id


def test_without_a_template(plain: LM) -> None:
    assert text_of(plain, prompt_ids(plain, QUESTION)) == f"Question: {QUESTION}\nAnswer:"
    assert text_of(plain, prompt_ids(plain, QUESTION, CONTEXT)) == f"{CONTEXT}\n\nQuestion: {QUESTION}\nAnswer:"


@pytest.mark.parametrize("length", [40, 64, 65, 127, 128])
@pytest.mark.parametrize("reserve", [0, 7, 16])
def test_the_question_survives_any_context(plain: LM, length: int, reserve: int) -> None:
    for template in (True, False):
        lm = tiny_lm(layers=1, max_position_embeddings=length)
        lm.tokenizer = tokenizer() if template else plain.tokenizer
        end = chatml([(QUESTION, "")]) if template else f"Question: {QUESTION}\nAnswer:"
        end = end[end.index(QUESTION) :].partition("assistant\n")[0]
        for context in (CONTEXT * 50, "Ünïcödé 漢字🙂 " * 80, "x" * 3000):
            text = text_of(lm, ids := prompt_ids(lm, QUESTION, context, reserve))
            assert len(ids) <= length - reserve
            assert end in text
            if length - reserve > 60:  # there is room for some of the context, and it is its beginning
                assert context[:5] in text
                assert len(ids) > length - reserve - 12


@settings(max_examples=40, deadline=None)
@given(context=st.text(max_size=400), reserve=st.integers(0, 20))
def test_the_question_survives_any_text(short: LM, context: str, reserve: int) -> None:
    ids = prompt_ids(short, QUESTION, context, reserve)
    assert len(ids) <= 64 - reserve
    assert QUESTION in text_of(short, ids)


def test_a_question_too_long_for_the_model_is_refused(short: LM) -> None:
    for context in ("", CONTEXT):
        with pytest.raises(UsageError, match="reads at most 64 "):
            prompt_ids(short, "Who was it, then? " * 40, context)
    with pytest.raises(UsageError, match="reads at most 0 "):
        prompt_ids(short, QUESTION, reserve=100)


def test_a_long_answer_is_cut_and_the_question_stays(short: LM) -> None:
    sequence = study_sequence(short, QUESTION, "seven clocks " * 100, CONTEXT * 20)
    assert len(sequence.ids) <= 64
    assert QUESTION in text_of(short, sequence.ids[: sequence.target_from])
    assert text_of(short, sequence.ids[sequence.target_from :]).startswith(" seven clocks seven")
