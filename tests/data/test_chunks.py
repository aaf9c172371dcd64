"""Passages are exact spans of their document, in order, leave nothing out but white space, and fit what is asked."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accrete.data.chunks import chunks, overlapping, sentences
from accrete.errors import UsageError
from accrete.types import Document

SAMPLES = 'Word; word;. ;.;? ;!" ;\n;\n\n;\n\n\n;  ;\t;Ä;\u2028;e.g. ;Dr. ;5;# ;- ;| ;1. ;---;…;。;U.S. ;```\n;\x1c;\U0001f600'
PIECES = SAMPLES.split(";")
TEXTS = st.one_of(
    st.text(max_size=200),
    st.lists(st.sampled_from(PIECES)).map("".join),
)


def tokens(text: str) -> int:
    """Like a tokenizer: pieces of words with the space before them, and bytes of what is not ASCII."""
    return sum(
        len(piece.encode()) if not piece.isascii() else 1 for piece in re.findall(r"\s?\w{1,4}|\s?[^\w\s]|\s", text)
    )


@pytest.mark.parametrize("measure", [len, tokens])
@given(text=TEXTS, size=st.integers(1, 60))
def test_spans_are_exact_in_order_cover_the_text_and_fit(text: str, size: int, measure) -> None:
    end = 0
    for passage in chunks(Document("a document", text), size, measure):
        assert passage.document == "a document"
        assert text[passage.start : passage.end] == passage.text == passage.text.strip() != ""
        assert passage.start >= end
        assert not text[end : passage.start].strip()
        assert measure(passage.text) <= size or len(passage.text) == 1
        end = passage.end
    assert not text[end:].strip()


@given(text=TEXTS)
def test_sentences_cover_the_text(text: str) -> None:
    spans = list(sentences(text))
    assert all(text[start:end] == text[start:end].strip() != "" for start, end in spans)
    assert "".join("".join(text[start:end] for start, end in spans).split()) == "".join(text.split())


def test_sentences_stay_whole_and_passages_small() -> None:
    written = [f"Sentence number {i} is about as long as this." for i in range(40)]
    passages = chunks(Document("d", " ".join(written)), size=200)
    assert [s for passage in passages for s in passage.text.replace(". S", ".|S").split("|")] == written
    assert all(len(passage.text) <= 200 for passage in passages)
    assert all(len(passage.text) > 100 for passage in passages[:-1])


def test_a_passage_is_filled_to_the_last_character() -> None:
    assert [p.text for p in chunks(Document("d", "One. Two.  Six."), size=9)] == ["One. Two.", "Six."]
    assert [p.text for p in chunks(Document("d", "One. Two.  Six."), size=8)] == ["One.", "Two.", "Six."]


def test_a_sentence_longer_than_a_passage_is_cut_at_words() -> None:
    long = "word " * 30 + "end."
    passages = [passage.text for passage in chunks(Document("d", f"Short one. {long} Short two."), size=50)]
    assert passages[0] == "Short one."
    assert " ".join(passages) == f"Short one. {long} Short two."
    assert all(len(passage) > 30 for passage in passages[1:-1])


def test_a_word_longer_than_a_passage_is_cut_anywhere() -> None:
    assert [p.text for p in chunks(Document("d", "A " + "x" * 25 + " B"), size=10)] == [
        "A",
        "x" * 10,
        "x" * 10,
        "x" * 5,
        "B",
    ]
    assert [p.text for p in chunks(Document("d", "é" * 6), size=4, measure=lambda text: len(text.encode()))] == [
        "éé"
    ] * 3
    assert [p.text for p in chunks(Document("d", "ab"), size=1, measure=lambda text: 3 * len(text))] == ["a", "b"]


def test_a_short_text_is_one_passage_and_an_empty_one_none() -> None:
    assert [p.text for p in chunks(Document("d", " One. Two.\n\nThree.\n"))] == ["One. Two.\n\nThree."]
    assert chunks(Document("d", " \n\n ")) == chunks(Document("d")) == ()


def test_a_size_below_one_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        chunks(Document("d", "x"), size=0)


@pytest.mark.parametrize(
    "text",
    [
        "Dr. Smith met Mr. J. K. Rowe in the U.S. on Jan. 5.|They paid 3.5 dollars, e.g. for tea.",
        "See No. 5 and Fig. 2, Vol. IV, p. 12.|No.|I do not.",
        'She asked "What?" and "Why not?" as always.|"Go!" he said.|Then she left ... slowly.|Really?!|Yes.',
        "It was in 1999.|Then came 12.|He sold tea, silk, etc. to all.|They sold it, i.e. gave it away.|And it was I.|Who?",
        "It is so (he said.)|It is [not.]|End",
        "# A heading|Text below it.|- one item|- another. |With two.|1. first|2. second",
        "東京は首都です。|人が多い！|はい。",
        "She works at Acme Inc. in Brota.|They met at 5 p.m. in the hall.",
    ],
)
def test_where_sentences_end(text: str) -> None:
    """A bar marks an end; the text has a space or a line end there."""
    joint = "\n" if text.startswith("# ") else "" if "。" in text else " "
    parts = [part.strip() for part in text.split("|")]
    whole = joint.join(parts)
    assert [whole[start:end] for start, end in sentences(whole)] == parts


def test_blank_lines_headings_and_table_rows_end_a_sentence() -> None:
    parts = ["Head\n====", "Text.", "Open end", "another", "| a | b |", "|---|---|", "end of\nthis"]
    text = "Head\n====\nText.\n\nOpen end\n\nanother\n| a | b |\n|---|---|\nend of\nthis"
    assert [text[start:end] for start, end in sentences(text)] == parts


def test_each_sentence_is_measured_at_most_twice() -> None:
    text, seen = "A sentence of some words is here. " * 2_000, []
    chunks(Document("d", text), 800, lambda piece: seen.append(len(piece)) or len(piece))
    assert sum(seen) <= 1.2 * len(text)
    assert max(seen) < 100


@pytest.mark.parametrize(
    "piece", ["x", "\n", ".", " ", ". ", "5. ", "word ", "# ", "-", "- a\n", '."', "\n \t", "e.g. ", "|"]
)
def test_much_of_anything_takes_a_moment(piece: str) -> None:
    text = piece * (2**18 // len(piece))
    started = time.monotonic()
    passages = chunks(Document("d", text))
    assert time.monotonic() - started < 5  # half a second on an idle machine; minutes where something is quadratic
    assert all(len(passage.text) <= 800 for passage in passages)


@given(text=TEXTS, size=st.integers(1, 60), overlap=st.integers(0, 60))
def test_an_overlap_only_adds_whole_sentences_before(text: str, size: int, overlap: int) -> None:
    document = Document("d", text)
    plain, longer = chunks(document, size), chunks(document, size, overlap=overlap)
    starts = {start for start, _ in sentences(text)}
    assert len(plain) == len(longer)
    for one, more in zip(plain, longer, strict=True):
        assert more.end == one.end and more.text == text[more.start : more.end]
        assert one.start == more.start or (more.start in starts and one.start - more.start <= overlap + 60)
        assert overlap or more == one


def test_an_overlap_stays_within_its_paragraph_and_its_size() -> None:
    text = "Vox is here. It is one. It is two.\n\nBrota is a town. It has silk."
    found = chunks(Document("d", text), 12, overlap=24)
    assert [passage.text for passage in found] == [
        "Vox is here.",
        "Vox is here. It is one.",
        "Vox is here. It is one. It is two.",
        "Brota is a",
        "town.",
        "Brota is a town. It has silk.",
    ]
    whole = overlapping(Document("d", text), chunks(Document("d", text), 16), 11)
    assert [passage.text for passage in whole] == ["Vox is here.", "It is one.", "It is one. It is two.", "Brota is a town.",
        "It has silk."]  # fmt: skip
