"""Prose of the real world, read by the embedded model: what it states of kinds that the model knows, and little made up."""

from __future__ import annotations

import pytest

from accrete.believing import Believing
from accrete.types import Document

PROSE = {
    "Marie Curie was a Polish physicist and chemist who conducted pioneering research on radioactivity. She was born in "
    "Warsaw in 1867. In 1891 she followed her elder sister to study in Paris.": {("Marie Curie", "Warsaw")},
    "Hamburg is the second-largest city in Germany after Berlin. The city lies on the River Elbe and has a population of "
    "over 1.9 million. Peter Tschentscher has been its mayor since 2018.": {("Hamburg", "Peter Tschentscher")},
    "Our library opened its new reading room last spring. Clara Voss runs it together with two assistants. Before that, "
    "books were kept in the cellar of the town hall, which was flooded twice.": set(),
    "Pharmacists often work together with physicians to improve care. Most medicines come in a single dose. Kennedy sent a "
    "memo to his deputy, who was to look into it.": set(),
}


@pytest.mark.parametrize("text", PROSE, ids=["Curie", "Hamburg", "library", "care"])
def test_facts_of_prose_are_those_that_it_states(embedded, text):
    found = Believing(embedded, "model").found(Document("text.txt", text), None)
    assert {(one.fact.subject, one.fact.value) for one in found} == PROSE[text]
