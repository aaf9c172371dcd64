"""Rows of whole documents: of one length, nothing cut but what is longer than a row, nothing lost but the open rows."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accrete.data import packing
from accrete.data.packing import pack

END = 0
Documents = list[list[int]]


def numbered(lengths: list[int]) -> Documents:
    """Documents that can be told apart: number, place in the document."""
    return [[(i + 1) * 1_000 + place for place in range(length)] for i, length in enumerate(lengths)]


def told_apart(row: list[int]) -> Documents:
    """The documents of a row; what ends it is only `END`."""
    documents: Documents = [[]]
    for token in row:
        if token == END:
            documents.append([])
        else:
            documents[-1].append(token)
    assert row[-1] == END
    return [document for document in documents if document]


@settings(deadline=None, max_examples=150)
@given(lengths=st.lists(st.integers(1, 40), max_size=80), length=st.integers(2, 30), waiting=st.integers(1, 6))
def test_rows_hold_whole_documents_and_lose_only_what_is_open(lengths: list[int], length: int, waiting: int) -> None:
    documents = numbered(lengths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "OPEN_ROWS", waiting)
        rows = list(pack(iter(documents), length, END))
    assert all(len(row) == length for row in rows)
    kept = [document for row in rows for document in told_apart(row)]
    cut = [document[: length - 1] for document in documents]  # only one longer than a row is changed by this
    assert Counter(map(tuple, kept)) <= Counter(map(tuple, cut))
    open_tokens = sum(len(document) + 1 for document in cut) - sum(len(document) + 1 for document in kept)
    assert 0 <= open_tokens <= waiting * length


def test_a_document_as_long_as_a_row_gives_its_last_token_for_the_end() -> None:
    assert list(pack([[1, 2, 3]], 4, END)) == [[1, 2, 3, END]]
    assert list(pack([[1, 2, 3, 4]], 4, END)) == [[1, 2, 3, END]]
    assert list(pack([[1, 2, 3, 4, 5, 6]], 4, END)) == [[1, 2, 3, END]]


def test_a_document_goes_to_the_fullest_row_that_has_room() -> None:
    documents = [[1] * 3, [2] * 6, [3] * 4, [4] * 2]  # with their ends: 4, 7, 5, 3 of a row of 10
    assert list(pack(documents, 10, END)) == [
        [1, 1, 1, 0, 3, 3, 3, 3, 0, 0],  # one short of full: nothing would fit any more
        [2, 2, 2, 2, 2, 2, 0, 4, 4, 0],
    ]


def test_a_row_that_nothing_has_fitted_for_long_is_filled_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "OPEN_ROWS", 2)
    rows = list(pack([[1] * 6, [2] * 5, [3] * 6], 10, END))
    assert rows == [[1] * 6 + [END] * 4]  # the fullest of the two that were open; the other may still be filled


def test_little_is_filled_and_what_is_long_does_not_wait_for_ever() -> None:
    draw = random.Random(0)
    rows = list(pack(([7] * draw.randint(20, 400) for _ in range(4_000)), 512, END))
    filled = sum(1 for row in rows for one, two in itertools.pairwise(row) if one == two == END)
    assert len(rows) > 1_500 and filled < 0.03 * 512 * len(rows)


def test_rows_come_while_documents_do() -> None:
    """A stream without end can be packed."""
    assert next(iter(pack(iter(lambda: [1, 2], None), 6, END))) == [1, 2, END, 1, 2, END]


def test_nothing_gives_nothing() -> None:
    assert list(pack([], 8, END)) == []
