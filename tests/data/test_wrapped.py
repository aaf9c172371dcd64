"""Wrapped text: its paragraphs are joined, every character keeps its place, and lists, tables and verses stay as they are."""

from __future__ import annotations

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accrete.data.wrapped import unwrapped

PROSE = (
    "The town of Tolvane lies on the river Ansel. In 2019, the mayor of Tolvane is Ada Bree, who came from the north. The "
    "captain of the Harbour Guild is Bo Lind, and the owner of the mill on the far side of the river is Cy Dorn."
)


@pytest.mark.parametrize("width", [50, 72, 79])
def test_sentences_wrapped_at_a_width_are_whole_again(width):
    wrapped = "\n\n".join(textwrap.fill(text, width) for text in (PROSE, PROSE[45:]))
    assert wrapped.count("\n") > 5
    assert unwrapped(wrapped).replace(".\n", ". ") == f"{PROSE}\n\n{PROSE[45:]}".replace(".\n", ". ")


@pytest.mark.parametrize(
    "text",
    [
        "mayor: Ada Bree\ncaptain: Bo Lind\nowner of the old mill: Cy Dorn",
        "The mayor of Tolvane is Ada Bree\nThe captain of the Harbour Guild beyond the Ansel is Bo Lind\nThe owner is Cy",
        "| Office | Holder | Since |\n|---|---|---|\n| mayor | Ada Bree of the old town | 2018 |\n| captain | Bo | 2019 |",
        "- the mayor of the town on the river is Ada Bree\n- the captain of the guild by the harbour is Bo Lind\n1. one",
        "# The town of Tolvane on the river Ansel and its people\nIn 2019, the mayor of Tolvane is Ada Bree, they say here.",
        "Shall I compare thee to the river's day?\nThou art more muddy\nand more temperate",
    ],
)
def test_lines_that_stand_for_themselves_stay(text):
    assert unwrapped(text) == text


@given(st.text(alphabet=st.sampled_from("ab:.|#- \n\t"), max_size=300) | st.text(max_size=100))
def test_every_character_keeps_its_place(text):
    joined = unwrapped(text)
    assert len(joined) == len(text)
    assert all(now == before or (before, now) == ("\n", " ") for before, now in zip(text, joined, strict=True))
