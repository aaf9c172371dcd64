"""What is left out of a document, and above all what is not. Counterexamples are the larger half."""

from __future__ import annotations

import time
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accrete.data.quality import LeftOut, clean
from accrete.data.seen import Seen
from accrete.data.world import World
from accrete.errors import DocumentError, UsageError
from accrete.types import Document, Example

MILL = (
    "The old mill beside the river Stoth was built in 1834 by two brothers from Brota, who ground the flour of nine villages "
    "until the great flood took away its wheel and half of the northern wall."
)
SCHOOL = (
    "A school was opened in the empty hall some years later, and the children of the millers learned to read there from "
    "books that a travelling bookseller had left behind as payment for a winter of bread."
)
FRENCH = (
    "Le vieux moulin au bord de la rivière a été construit par deux frères qui venaient de la ville voisine et qui ont moulu "
    "la farine de neuf villages jusqu'à ce que la grande inondation emporte sa roue et la moitié du mur du nord."
)
GERMAN = (
    "Die alte Mühle am Fluss wurde von zwei Brüdern aus der Nachbarstadt gebaut, die das Mehl von neun Dörfern gemahlen "
    "haben, bis die große Flut das Rad und die Hälfte der nördlichen Mauer mit sich nahm, was alle sehr bedauerten."
)


def left_out(text: str, name: str = "a.txt", seen: Seen | None = None, **options: str) -> list[tuple[str, str]]:
    """(reason, text) of what is left out, having checked that nothing else changed."""
    document = Document(name, text, source=name)
    kept, out = clean(document, seen, **options)
    rest = text
    for one in reversed(out):
        assert text[one.start :].startswith(one.text)
        rest = rest[: one.start] + rest[one.start + len(one.text) :]
    assert rest.split() == kept.text.split()
    assert out or kept is document
    return [(one.reason, one.text) for one in out]


# --- what stays


def test_the_demo_stays_whole() -> None:
    files = resources.files("accrete.cli").joinpath("demo_files")
    assert left_out(files.joinpath("document.md").read_text("utf-8")) == []


@pytest.mark.parametrize("seed", range(5))
def test_fictional_passages_repeat_patterns_and_stay(seed: int) -> None:
    world, seen = World(seed), Seen()
    for number in range(20):
        document = world.document(f"{number}.txt", world.entities(12))
        assert clean(document, seen) == (document, ())
        assert left_out(" ".join(document.text.split()), f"{number}-joined.txt", seen) == []  # as one long paragraph


@pytest.mark.parametrize(
    "text",
    [
        "42",
        "Hi.",
        "The captain is Johaut.",
        "# Mills\n\n## Water\n\n- one\n- two\n\n1. a\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nStatus: done",
        "1984\n\nX\n\n---\n\nEnd.",
        "How many?\n\n12\n\nPrices\n\n$3.19\n\n22.4%\n\nx = 5\n\n3.11\n----\n\nWords.",
        "Yes.\n\nYes.\n\nNever again, said the bird.\n\nNever again, said the bird.",
        "Answer the question in one sentence of your own, and explain why it is so:\n\nA.\n\n"
        "Answer the question in one sentence of your own, and explain why it is so:\n\nB.",
        "## One\n\nThis option is deprecated and will be taken away one of these days.\n\n"
        "## Two\n\nThis option is deprecated and will be taken away one of these days.",
        "Why did the two brothers leave the mill after the flood of that year?\n\nOne.\n\n"
        "Why did the two brothers leave the mill after the flood of that year?\n\nTwo.",
        "How to Build a Mill\n" + "=" * 60 + "\n\nText.\n\nHow to Build a Mill\n" + "=" * 60 + "\n\nOther text.",
        "```\nx\n\n" + MILL + "\n\n" + MILL + "\n\n42\n```",
        "    " + MILL[:100] + "\n    " + MILL[100:] + "\n\n    " + MILL[:100] + "\n    " + MILL[100:],
        "Copyright law protects a work for seventy years after 1976, and the owner holds all rights.",
        "The site uses cookies to remember a session: a cookie is a small text that the server sets.",
        "Home is where the heart is, and nothing about that has changed since the search began.",
        "Share this bread with your friends; print a page of the recipe for them.",
        "Page 3 of the report says so.\n\nAbout | Size | Age | Weight\n\nBlog | 3 | 4 | 5",
        "Use of cookies\n\nPrivacy\n\nContact\n\nHome",
    ],
)
def test_short_and_structured_text_stays(text: str) -> None:
    assert left_out(text) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("1834", "1843"),
        ("was built", "was never built"),
        ("Brota", "Faimoo"),
        ("river", "lake"),
        ("flour", "-5 flour"),
        ("two brothers from Brota", "brothers from two Brota"),
    ],
)
def test_a_paragraph_that_says_something_else_stays(old: str, new: str) -> None:
    long = f"{MILL} {SCHOOL}"
    assert left_out(f"{long}\n\n{long.replace(old, new)}") == []
    if "-5" not in new:  # without a number at its end it only says less
        assert left_out(f"{long.replace(old, new)}\n\n{long}") == []


def test_parts_that_change_places_say_something_else() -> None:
    text = (
        "The yellow part of the wheel looks blue as it takes up red light. The blue part looks yellow as it does not."
    )
    swapped = text.replace("yellow", "#").replace("blue", "yellow").replace("#", "blue")
    assert left_out(f"{text} {SCHOOL}\n\n{swapped} {SCHOOL}") == []


# --- near-duplicates


def test_near_duplicates_are_left_out() -> None:
    both, shorter = f"{MILL} {SCHOOL}", f"{MILL} {SCHOOL}".replace("great ", "").replace("travelling ", "")
    reason = 'near-duplicate of "The old mill beside the river Stoth was ..."'
    assert left_out(f"{both}\n\n{shorter}") == [(reason, shorter)]
    assert left_out(f"{shorter}\n\n{both}") == []  # which has words that the shorter one has not
    wrapped = MILL.replace("by two", "by\ntwo").replace("until", "\nuntil")
    text = f"{MILL}\n\n{SCHOOL}\n\nA line.\n\n{MILL}\n\n{wrapped}\n\n**{MILL}**\n\nAlso, {MILL[:-1]}!"
    copies = [MILL, wrapped, f"**{MILL}**", f"Also, {MILL[:-1]}!"]
    assert left_out(text) == [(reason, copy) for copy in copies]


def test_short_sentences_have_to_be_equal() -> None:
    text = "The mill was built by two brothers who came from Brota in spring."
    assert len(text) > 60
    assert left_out(f"{text}\n\nAnd.\n\n{text}\n\n{text.replace('two', 'three')}") == [
        ('near-duplicate of "The mill was built by two brothers who ..."', text)
    ]


def test_a_short_sentence_may_mean_another_thing_in_another_document() -> None:
    seen, text = Seen(), "It was built by two brothers who came from Brota in that very year."
    assert left_out(f"The mill.\n\n{text}", "mill.txt", seen) == []
    assert left_out(f"The school.\n\n{text}", "school.txt", seen) == []


def test_an_earlier_document_is_named_and_can_be_forgotten() -> None:
    seen = Seen()
    assert left_out(f"{MILL}\n\nFirst.", "one.txt", seen) == []
    reason = 'near-duplicate of "The old mill beside the river Stoth was ..." in one.txt'
    assert left_out(f"{MILL}\n\nSecond.", "two.txt", seen) == [(reason, MILL)]
    assert left_out(f"{MILL}\n\nSecond.", "two.txt", seen) == [(reason, MILL)]  # read again, it is no copy of itself
    assert left_out(f"{MILL}\n\nFirst.", "one.txt", seen) == []
    seen.forget("one.txt")
    assert left_out(f"{MILL}\n\nThird.", "three.txt", seen) == []
    assert left_out(f"{MILL}\n\nThird.", "four.txt", seen) != []
    assert left_out(f"{MILL}\n\nFourth.", "five.txt") == []  # nothing is shared without `seen`


def test_a_copy_of_a_document_is_refused_and_not_remembered() -> None:
    seen = Seen()
    left_out(f"{MILL}\n\n{SCHOOL}", "one.txt", seen)
    with pytest.raises(DocumentError) as caught:
        clean(Document("two.txt", f"{SCHOOL}\n\n{MILL}", source="two.txt"), seen)
    assert str(caught.value) == "Nothing of two.txt is left to learn: 2 × near-duplicate."


# --- boilerplate


@pytest.mark.parametrize(
    "line",
    [
        "Copyright © 2020 Mill Inc.",
        "(c) 2019-2024 The Mill Company. All rights reserved.",
        "© 1999",
        "All rights reserved.",
        "Home | About | Contact | Login",
        "Home\nAbout us\nProducts\nContact",
        "- Home\n- Blog\n- Search\n- Privacy policy",
        "Share this on Facebook",
        "Follow us on Twitter, Instagram and YouTube",
        "Skip to main content",
        "Page 3 of 9",
        "We use cookies to improve your experience. By continuing to use this site you agree to our cookie policy. Accept all",
        "Subscribe to our newsletter!",
        "Powered by WordPress",
    ],
)
def test_boilerplate_is_left_out(line: str) -> None:
    assert left_out(f"{MILL}\n\n{line}\n\nThe end.") == [("boilerplate", line)]


def test_a_text_of_boilerplate_is_refused() -> None:
    with pytest.raises(DocumentError, match=r"Nothing of a\.txt is left to learn: 1 × boilerplate\."):
        clean(Document("a.txt", "Home | About | Contact | Login"))


def test_headers_and_page_numbers_of_a_pdf() -> None:
    pages = [
        f"The Mills of Brota\n{words} is what this page tells.\n{number}"
        for number, words in enumerate(("Flour", "Water", "Bread", "Stone"), 7)
    ]
    text = "\n\n".join(pages)
    out = left_out(text, "a.pdf")
    assert [piece for _, piece in out] == [
        "7",
        "The Mills of Brota",
        "8",
        "The Mills of Brota",
        "9",
        "The Mills of Brota",
        "10",
    ]
    assert {reason for reason, _ in out} == {"boilerplate"}
    assert left_out(text, "a.txt") == []  # no page has a header there


def test_numbers_at_the_edge_of_pdf_pages_that_do_not_count_pages_stay() -> None:
    assert (
        left_out("\n\n".join(f"Row {name}\n{n}" for name, n in [("a", 9), ("b", 7), ("c", 8), ("d", 1)]), "a.pdf") == []
    )


# --- too short


@pytest.mark.parametrize("fragment", ["12", "***\n§", "• • •", "[7]", "- 12 -"])
def test_stray_numbers_and_symbols(fragment: str) -> None:
    assert left_out(f"{MILL}\n\n{fragment}\n\nThe end.") == [("too short", fragment)]


# --- language


def test_a_paragraph_in_another_language() -> None:
    english = f"{MILL} {SCHOOL}"
    assert left_out(f"{english}\n\n{FRENCH}\n\nThe end.") == [("wrong language (fr)", FRENCH)]
    assert left_out(f"{MILL}\n\n{SCHOOL}\n\n{english[200:]}\n\n{FRENCH}") == [("wrong language (fr)", FRENCH)]
    assert left_out(f"{english}\n\n{FRENCH[:150]}") == []  # of so few words nothing is said


def test_a_document_in_one_language_whatever_it_is() -> None:
    assert left_out(f"{FRENCH}\n\nFin.") == []
    assert left_out(f"{GERMAN}\n\n{MILL}\n\n{FRENCH}") == []  # of three languages none is the wrong one


def test_the_language_that_is_expected() -> None:
    assert left_out(f"{GERMAN}\n\n{FRENCH}", language="de") == [("wrong language (fr)", FRENCH)]
    with pytest.raises(DocumentError, match=r'a\.txt is left to learn: it is in another language \("fr", not "en"\)'):
        clean(Document("a.txt", FRENCH), language="en")
    with pytest.raises(UsageError, match='No language has the code "english"'):
        clean(Document("a.txt", FRENCH), language="english")


# --- study items and code


def test_only_equal_items_are_left_out() -> None:
    items = (Example("Who?", "She"), Example("Who?", "He"), Example("Who?", "She"), Example("Who?", "She", "At night."))
    document, out = clean(Document("a.jsonl", items=items))
    assert document.items == (items[0], items[1], items[3])
    assert out == (LeftOut("duplicate of an earlier item", "Who? She", 2),)


def test_items_of_an_earlier_document() -> None:
    seen = Seen()
    clean(Document("a.jsonl", items=(Example("Who?", "She"),), source="a.jsonl"), seen)
    both = Document("b.jsonl", items=(Example("Who?", "She"), Example("Where?", "Here")), source="b.jsonl")
    kept, out = clean(both, seen)
    assert kept.items == both.items[1:] and out[0].reason == "duplicate of an earlier item in a.jsonl"
    with pytest.raises(DocumentError, match=r"Nothing of c\.jsonl is left to learn: 2 × duplicate"):
        clean(Document("c.jsonl", items=both.items, source="c.jsonl"), seen)


def test_code_is_untouched() -> None:
    document = Document("a.py", f"# {MILL}\n\n# {MILL}\n\n12\n\n# Copyright 2020 Mill Inc.\n", source="a.py")
    assert clean(document) == (document, ())


# --- anything


@given(
    st.lists(
        st.one_of(
            st.text(max_size=80),
            st.sampled_from(
                [
                    MILL,
                    SCHOOL,
                    FRENCH,
                    "\n\n",
                    "\n",
                    "12",
                    "```",
                    "Page 3 of 9",
                    "# A",
                    "- b",
                    "\f",
                    " ",
                    "Home | About | Blog",
                ]
            ),
        ),
        max_size=12,
    ).map("\n\n".join),
    st.sampled_from(["a.txt", "a.pdf"]),
)
def test_what_stays_is_unchanged(text: str, name: str) -> None:
    try:
        out = left_out(text, name)
    except DocumentError as error:
        assert "\n" not in str(error)
    else:
        assert all("\n" not in reason for reason, _ in out)


TEMPLATE = (
    "{} is a small town in the north of the district and lies beside the river, with a mill, a school and {} people."
)


@pytest.mark.parametrize(
    "text",
    [
        "x" * 2**18,
        "\n" * 2**18 + "a",
        "word " * 50_000,
        "x\n\n" * 80_000,
        f"{MILL}\n\n" * 1_200,
        "\n\n".join(TEMPLATE.format(f"Town{number}", number * 7919 % 10_007) for number in range(2_000)),
        "```\n" * 60_000,
        "copyright " * 25_000,
        ("Share this " * 18 + "!\n\n") * 1_200 + "End.",
        "| " * 125_000,
        "Header\fx\n\n" * 25_000 + "End.",
    ],
    ids=[
        "no space",
        "line ends",
        "one paragraph",
        "tiny",
        "copies",
        "template",
        "fences",
        "copyright",
        "share",
        "bars",
        "pages",
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a.pdf"])
def test_much_of_anything_takes_a_moment(text: str, name: str) -> None:
    started = time.monotonic()
    clean(Document(name, text))
    assert time.monotonic() - started < 5  # half a second on an idle machine; minutes where something is quadratic
