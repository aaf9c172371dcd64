"""A lesson as sequences: every token of a text is a target once, sentences stay whole, context comes before."""

from __future__ import annotations

from itertools import pairwise

import pytest
from conftest import tiny_lm
from hypothesis import given, settings
from hypothesis import strategies as st

from accrete.data.study import CONTEXT, SLACK, study_sequences, text_sequences
from accrete.lm.model import LM
from accrete.types import Document, Example, Lesson

TEXT = "The Brialtem works stand in Quorv. They make clocks and lace.\n\nNobody runs them. "


@pytest.fixture(scope="module")
def lm() -> LM:
    return tiny_lm(layers=1)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["Vex runs. ", "the works\n\n", "Quorv, Dr. Ahl ", "x" * 40, "7 "]), max_size=60),
    st.integers(2, 80),
)
def test_every_token_but_the_first_is_a_target_once(lm: LM, words: list[str], window: int) -> None:
    text = "".join(words)
    sequences = text_sequences(lm, Document("d", text), window)
    targets = [token for s in sequences for token in s.ids[max(1, s.target_from) :]]
    first = [s.ids[0] for s in sequences[:1]] or lm.tokenizer(text.strip())["input_ids"]
    assert len(first) <= 1  # one token alone teaches nothing
    assert (
        lm.tokenizer.decode([*first, *targets]).strip() == text.strip()
    )  # cut words have other tokens than whole ones
    assert all(len(s.ids) <= max(2, window) for s in sequences)


def test_a_passage_sees_the_end_of_the_one_before(lm: LM) -> None:
    sequences = text_sequences(lm, Document("d", TEXT * 20), 128)
    assert len(sequences) > 3
    for before, after in pairwise(sequences):
        assert after.target_from == CONTEXT
        assert after.ids[:CONTEXT] == before.ids[-CONTEXT:]
        begins = lm.tokenizer.decode(after.ids[CONTEXT:]).strip()
        assert begins.startswith(("The Brialtem", "They make", "Nobody runs"))


def test_sequences_fit_the_model() -> None:
    lm = tiny_lm(layers=1, max_position_embeddings=16)
    lengths = [len(s.ids) for s in text_sequences(lm, Document("d", TEXT * 5), 1000)]
    assert 16 - SLACK <= max(lengths) <= 16


def test_items_come_before_the_text(lm: LM) -> None:
    item = Example("Who runs the works?", "Nobody.")
    lesson = Lesson(Document("d", TEXT, (item,)), items=(item,))
    (sequence,) = study_sequences(lm, lesson)
    assert "Nobody" in lm.tokenizer.decode(sequence.ids[sequence.target_from :])
