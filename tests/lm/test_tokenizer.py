"""A trained tokenizer is the same one after it was saved and loaded, on any text."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, Qwen2Config

from accrete.lm.tokenizer import END_OF_TEXT, QWEN2_SPLIT, TURN_END, TURN_START, train_tokenizer

TEXTS = [
    "The Brialtem works stand in Quorv since 1984.",
    "It's what they'll make: clocks, lace; 1,200 of them!",
    "IT'SURE WE'LLAMA 1984 1984 1984 1200 end.\n\n  ..\n  e\u0301te\u0301",  # merges that another split would learn
] * 5


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory):
    """As it was trained, and as AutoTokenizer reads it beside a Qwen2 config."""
    trained = train_tokenizer(TEXTS, 300)
    directory = tmp_path_factory.mktemp("tokenizer")
    trained.save_pretrained(directory)
    Qwen2Config().save_pretrained(directory)
    return trained, AutoTokenizer.from_pretrained(directory)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(max_size=60),
        st.text(alphabet="aZ 'sSURLMé1984e\u0301²٣\t\r\n.!?-_ſ漢🙂\u00a0\u200d", max_size=40),
        st.lists(st.sampled_from([*TEXTS, TURN_START, TURN_END, END_OF_TEXT, "<|im", " "])).map("".join),
    )
)
def test_saved_and_loaded_it_is_the_same(pair, text: str) -> None:
    trained, loaded = pair
    ids = trained(text)["input_ids"]
    assert loaded(text)["input_ids"] == ids
    assert trained.decode(ids) == loaded.decode(ids) == unicodedata.normalize("NFC", text)


def test_a_fresh_process_loads_what_was_saved(tmp_path: Path) -> None:
    """AutoTokenizer rebuilds a Qwen2 directory with a split of its own: it must be the one that was trained with."""
    trained = train_tokenizer(TEXTS, 300)
    trained.save_pretrained(tmp_path)
    Qwen2Config(vocab_size=300).save_pretrained(tmp_path)
    texts = [*TEXTS[:3], "1984 1,200", "WE'LL it's\r\n\r\n  x", "\u00a0\u2003two  spaces "]
    texts.append(f"{TURN_START}user\n Ula{TURN_END}")
    code = (
        "import json, sys; from transformers import AutoTokenizer; "
        "loaded = AutoTokenizer.from_pretrained(sys.argv[1]); "
        "state = json.loads(loaded.backend_tokenizer.to_str()); "
        "ids = [loaded(text)['input_ids'] for text in json.loads(sys.argv[2])]; "
        "print(json.dumps([ids, state['pre_tokenizer'], state['normalizer'], loaded.chat_template]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path), json.dumps(texts)]
    printed = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    ids, split, normaliser, template = json.loads(printed)
    assert ids == [trained(text)["input_ids"] for text in texts]
    state = json.loads(trained.backend_tokenizer.to_str())
    assert (split, normaliser, template) == (state["pre_tokenizer"], state["normalizer"], trained.chat_template)
    assert split["pretokenizers"][0]["pattern"] == {"Regex": QWEN2_SPLIT}


def test_special_tokens_have_one_id_each(pair) -> None:
    for tokenizer in pair:
        ids = [tokenizer(token)["input_ids"] for token in (END_OF_TEXT, TURN_START, TURN_END)]
        assert ids == [[0], [1], [2]]
        assert tokenizer.pad_token_id == 0
        assert tokenizer.eos_token_id == 2
        assert tokenizer.bos_token_id is None
        assert tokenizer.decode([1, 2], skip_special_tokens=True) == ""


def test_it_has_the_size_asked_for_and_its_template(pair) -> None:
    trained, loaded = pair
    assert len(trained) == len(loaded) == 300
    assert trained.chat_template == loaded.chat_template
    assert len(trained("The Brialtem works")["input_ids"]) < 10  # merges were learned


def test_the_first_word_of_a_turn_is_as_in_a_sentence(pair) -> None:
    """Every turn begins with a space, so that an answer is the same tokens as in the passage it is copied from."""
    turn = [{"role": "assistant", "content": "Brialtem"}]
    for tokenizer in pair:
        ids = tokenizer(tokenizer.apply_chat_template(turn, tokenize=False))["input_ids"]
        word = tokenizer(" Brialtem")["input_ids"]
        assert any(ids[i : i + len(word)] == word for i in range(len(ids)))
