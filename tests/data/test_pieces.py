"""Pieces are exact spans in order, leave out nothing but white space, keep paragraphs whole and headings with their text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from accrete.data.pieces import MOST_SENTENCES, pieces, sentence_texts
from accrete.types import Document, Passage

WORDS = "Word. |word |Dr. Ahl |\n|\n\n|# Head\n|- item\n|x? |\u00c4. |7 |" + "y" * 30
TEXTS = st.lists(st.sampled_from(WORDS.split("|"))).map("".join)


def words(text: str) -> int:
    return len(text.split())


def cut(text: str, size: int = 1000) -> list[str]:
    return [piece.text for piece in pieces(Document("d", text), size, words)]


@given(text=TEXTS, size=st.integers(1, 40))
def test_spans_are_exact_in_order_and_cover_the_text(text: str, size: int) -> None:
    end = 0
    for piece in pieces(Document("a document", text), size, len):
        assert (
            text[piece.start : piece.end] == piece.text == piece.text.strip() != "" and piece.document == "a document"
        )
        assert piece.start >= end and not text[end : piece.start].strip()
        end = piece.end
    assert not text[end:].strip()


def test_a_paragraph_stays_whole_where_it_fits() -> None:
    one, two = "Brota lies by a spring. It has silk.", "The Vau sails. It is long. It is old."
    assert cut(f"{one}\n\n{two}", 10) == [one, two], "they do not fit together"
    assert cut(f"{one}\n\n{two}", 17) == [f"{one}\n\n{two}"]


def test_paragraphs_share_a_passage_only_as_long_as_it_is_small() -> None:
    paragraphs = ["One is.", "Two is.", "Three is quite long.", "Four."]
    found = pieces(Document("d", "\n\n".join(paragraphs)), 20, words, joined=4)
    assert [piece.text for piece in found] == ["One is.\n\nTwo is.", "Three is quite long.", "Four."]
    assert len(pieces(Document("d", "\n\n".join(paragraphs)), 20, words)) == 1
    assert len(pieces(Document("d", "\n\n".join(paragraphs)), 20, words, joined=0)) == 4


def test_a_paragraph_that_is_too_large_is_cut_between_sentences() -> None:
    assert cut("One is here. Two is here. Three is here.", 6) == ["One is here. Two is here.", "Three is here."]
    assert cut("one two three four five", 2) == ["one two", "three four", "five"]


def test_there_are_at_most_so_many_sentences() -> None:
    found = cut("It is so. " * (MOST_SENTENCES + 1))
    assert [piece.count("so") for piece in found] == [MOST_SENTENCES, 1]


def test_a_heading_goes_with_what_it_heads() -> None:
    assert cut("First one.\n\n# Head\n\nSecond one is long.", 6) == ["First one.", "# Head\n\nSecond one is long."]


def test_sentences_to_restate_are_no_headings() -> None:
    text = "# Of Brota\n\nBrota lies by a spring. | a | b |\n\nOpening hours"
    assert sentence_texts(Passage(text, "d", 0, len(text))) == ["Brota lies by a spring."]
    assert sentence_texts(Passage("# Head\n| a | b |\nOpening hours", "d", 0, 0)) == []
