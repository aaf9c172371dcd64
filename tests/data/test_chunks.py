"""Passages are exact spans of their document, in order, and leave nothing out but white space."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from accrete.data.chunks import chunks
from accrete.types import Document

TEXTS = st.one_of(
    st.text(max_size=200),
    st.lists(
        st.sampled_from(
            ["Word", " word", ". ", ".", "? ", '!" ', "\n", "\n\n", "\n\n\n", "  ", "\t", "Ä", "\u2028", "e.g. "]
        )
    ).map("".join),
)


@given(text=TEXTS, size=st.integers(1, 60))
def test_spans_are_exact_in_order_and_cover_the_text(text: str, size: int) -> None:
    end = 0
    for passage in chunks(Document("a document", text), size):
        assert passage.document == "a document"
        assert text[passage.start : passage.end] == passage.text == passage.text.strip() != ""
        assert passage.start >= end
        assert not text[end : passage.start].strip()
        end = passage.end
    assert not text[end:].strip()


def test_sentences_stay_whole_and_passages_small() -> None:
    sentences = [f"Sentence number {i} is about as long as this." for i in range(40)]
    passages = chunks(Document("d", " ".join(sentences)), size=200)
    assert [s for passage in passages for s in passage.text.replace(". S", ".|S").split("|")] == sentences
    assert all(len(passage.text) <= 200 for passage in passages)
    assert all(len(passage.text) > 100 for passage in passages[:-1])


def test_a_sentence_longer_than_a_passage_stays_whole() -> None:
    long = "word " * 100 + "end."
    passages = chunks(Document("d", f"Short one. {long} Short two."), size=50)
    assert [passage.text for passage in passages] == ["Short one.", long, "Short two."]


def test_a_short_text_is_one_passage_and_an_empty_one_none() -> None:
    assert [p.text for p in chunks(Document("d", " One. Two.\n\nThree.\n"))] == ["One. Two.\n\nThree."]
    assert chunks(Document("d", " \n\n ")) == chunks(Document("d")) == ()
