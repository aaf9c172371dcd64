"""Topics: the words that only one domain has decide; nothing else does."""

from __future__ import annotations

import pytest

from accrete.data.topics import Topics

TEXTS = {
    "sea": ["What is the depth of the harbour?", "Nine fathoms."],
    "law": ["What is the term of the treaty?", "Nine years."],
    "food": ["What is the price of bread?"],
}


@pytest.mark.parametrize(
    ("question", "domain"),
    [
        ("How deep is the HARBOUR?", "sea"),
        ("harbour, please", "sea"),
        ("Who signed the treaty?", "law"),
        ("Is bread sold at the bakery?", "food"),
        ("A treaty about fathoms of harbour", "sea"),  # two words against one
    ],
)
def test_the_domain_whose_words_are_used(question: str, domain: str) -> None:
    assert Topics(TEXTS).closest(question, "otherwise") == domain


@pytest.mark.parametrize("question", ["", "???", "Zyxwort qwyzzle", "What is the"])
def test_without_a_word_of_its_own_the_question_goes_where_it_would(question: str) -> None:
    """Words that all domains have count nothing."""
    for otherwise in ("law", "elsewhere", None):
        assert Topics(TEXTS).closest(question, otherwise) == otherwise


def test_a_tie_goes_to_the_present_domain_or_the_first() -> None:
    topics = Topics(TEXTS)
    assert topics.closest("harbour or treaty", "law") == "law"
    assert topics.closest("harbour or treaty", "sea") == "sea"
    assert topics.closest("harbour or treaty", "food") in ("sea", "law")


def test_a_rarer_word_counts_more() -> None:
    """Two of three domains have "nine", one has "bread"."""
    assert Topics(TEXTS).closest("nine bread", "sea") == "food"


def test_words_are_whole_and_of_any_script() -> None:
    topics = Topics({"a": ["Straße nach Köln"], "b": ["東京 駅"], "c": ["art"]})
    assert topics.closest("wo ist die straße", None) == "a"
    assert topics.closest("駅", None) == "b"
    assert topics.closest("party", None) is None


def test_no_domains_and_empty_ones() -> None:
    assert Topics({}).closest("harbour", "otherwise") == "otherwise"
    assert Topics({"a": [], "b": ["harbour"]}).closest("harbour", "a") == "b"
    assert Topics({"only": ["harbour"]}).closest("harbour", None) is None, "with one domain nothing is to be decided"
