"""Questions to statements: by names, by words, by how alike they are asked, at their date; and nowhere."""

from __future__ import annotations

import datetime

import pytest

from accrete.dates import asked_as_of
from accrete.facts.graph import FactGraph
from accrete.facts.questions import AS_ASKED, answered, plain_questions
from accrete.facts.router import Router
from accrete.retrieval.words import words
from accrete.types import Example, Fact


def alike(pairs):
    """As far as words tell: the share of both that is in both."""
    found = []
    for one, other in pairs:
        a, b = set(words(one)), set(words(other))
        found.append(len(a & b) / len(a | b) if a | b else 0.0)
    return found


FACTS = (
    Fact("Tolvane", "mayor", "Ada Bree", "2018"),
    Fact("Tolvane", "mayor", "Cy Dorn", "2020-03"),
    Fact("Tolvane", "river", "the Mern"),
    Fact("Tolvane Mill", "owner", "Bo Karst", "2018"),
    Fact("Vonnat Mill", "owner", "Bo Karst", "2021"),
    Fact("Kirk Mill", "owner", "Sy Umber", "2018"),
    Fact("Kirk Mill", "owner", "Bo Karst", "2020"),
    Fact("Kirk Mill", "owner", "Al Drey", "2022"),
    Fact("the Mern", "cargo", "oil", "2018"),
    Fact("the Charter of 1702", "author", "Rolf Ume", "2020"),
    Fact("Tolvane Bridge", "year", "1850"),
    Fact("Who sings the song of the old harbour?", AS_ASKED, "Zed Quill"),
)


@pytest.fixture
def router():
    graph = FactGraph()
    for fact in FACTS:
        added = graph.add(fact)
        for item in plain_questions(fact):
            graph.add_question(added.id, item.question, item.answer)
    return Router(graph, alike, certain=0.1)


def said(router, question, as_of=None, **options):
    (route,) = router.routes([(question, as_of)], **options)
    return route and [one.subject if route.backwards else one.value for one in route.statements]


@pytest.mark.parametrize(
    ("question", "values"),
    [
        ("Who is the mayor of Tolvane?", ["Cy Dorn"]),
        ("What is Tolvane's mayor?", ["Cy Dorn"]),
        ("As of 2018, who is the mayor of Tolvane?", ["Ada Bree"]),
        ("[2020-02] The mayor of Tolvane is", ["Ada Bree"]),
        ("[2020] The mayor of Tolvane is", ["Cy Dorn"]),
        ("Who was the mayor of Tolvane in 2019?", ["Ada Bree"]),
        ("Who was the mayor of Tolvane last year?", ["Cy Dorn"]),
        ("Who was the mayor of Tolvane seven years ago?", ["Ada Bree"]),
        ("As of 2017, who is the mayor of Tolvane?", None),  # before the first statement nothing is known
        ("Who is the owner of Tolvane Mill?", ["Bo Karst"]),  # the longer name
        ("Of what or whom is Bo Karst the owner?", ["Tolvane Mill", "Vonnat Mill"]),  # of all that are his now
        ("As of 2019, of what or whom is Bo Karst the owner?", ["Tolvane Mill"]),
        ("As of 2021, of what or whom is Bo Karst the owner?", ["Tolvane Mill", "Vonnat Mill", "Kirk Mill"]),
        ("Of what or whom is Sy Umber the owner?", ["Kirk Mill"]),  # of none any more: of the one that was
        ("As of 2017, of what or whom is Sy Umber the owner?", None),
        ("As of 2024, of what or whom is Sy Umber the owner?", None),
        ("Who was the mayor of Tolvane before 2020?", ["Ada Bree"]),
        ("Who was the mayor of Tolvane before March 2020?", ["Ada Bree"]),
        ("Who was the mayor of Tolvane before 2018?", None),
        ("Who was the mayor of Tolvane after 2019?", ["Cy Dorn"]),
        ("Who was the previous mayor of Tolvane?", ["Ada Bree"]),
        ("Who was the first mayor of Tolvane?", ["Ada Bree"]),
        ("Who was the owner of Kirk Mill before Al Drey?", ["Bo Karst"]),
        ("Who was the predecessor of Al Drey?", ["Bo Karst"]),
        ("Who was the successor of Sy Umber?", ["Bo Karst"]),
        ("Who was the owner of Kirk Mill after Bo Karst?", ["Al Drey"]),
        ("Who was the owner of Kirk Mill after Al Drey?", None),
        ("Who was the owner of Kirk Mill in the nineties?", None),
        ("As of 2019, who was the previous mayor of Tolvane?", None),
        ("Who was the owner of Kirk Mill in Mar 2021?", ["Bo Karst"]),
        ("On March 3, 2021, who was the owner of Kirk Mill?", ["Bo Karst"]),
        ("Who was the owner of Kirk Mill a decade ago?", None),
        ("Who is the author of the Charter of 1702?", ["Rolf Ume"]),  # the year is a part of the name
        ("As of 2019, who is the author of the Charter of 1702?", None),
        ("What is the year of Tolvane Bridge?", ["1850"]),
        ("What is the river of Tolvane?", ["the Mern"]),
        ("What is the cargo of the Mern?", ["oil"]),
        ("Who sings the song of the old harbour?", ["Zed Quill"]),
        ("Who is the mayor of Vonnat?", None),
        ("Who was the mayor of Tolvane between 2018 and 2019?", ["Ada Bree"]),
        ("Who was the mayor of Tolvane from 2018 to 2020?", ["Ada Bree", "Cy Dorn"]),
        ("Who was the owner of Kirk Mill in the 2020s?", ["Bo Karst", "Al Drey"]),
        ("As of 2017, who was the mayor of Tolvane from 2012 until 2018?", None),
        ("Of what or whom was Bo Karst the owner between 2018 and 2020?", ["Tolvane Mill", "Kirk Mill"]),
        ("Who was the second owner of Kirk Mill?", ["Bo Karst"]),
        ("Who was the fourth owner of Kirk Mill?", None),
        ("When did Cy Dorn become mayor of Tolvane?", None),  # no slot says when
        ("Since when is Cy Dorn the mayor of Tolvane?", None),
        ("How many mayors has Tolvane had?", None),
        ("When was the year of Tolvane Bridge?", ["1850"]),
        ("Who was the mayor of Tolvane when the calendar showed 2019?", ["Ada Bree"]),
        ("Why is the sky blue?", None),
        ("", None),
    ],
)
def test_a_question_goes_to_what_it_is_about(router, question, values):
    assert said(router, question, today=datetime.date(2026, 6, 1)) == values


def test_a_question_that_has_a_date_is_about_that(router):
    assert said(router, "Who was the mayor of Tolvane in 2018?", "2022") == ["Ada Bree"]
    assert said(router, "Who was the mayor of Tolvane in 2020?", "2020-02") == ["Ada Bree"]  # the same, more closely
    assert asked_as_of("Who was the mayor of Tolvane in 2018?", "2022") == "Who was the mayor of Tolvane in 2018?"


def test_a_date_beside_the_question_counts_like_one_in_it(router):
    assert said(router, "Who is the mayor of Tolvane?", "2019-05") == ["Ada Bree"]


def test_what_is_asked_otherwise_than_anything_known_goes_nowhere(router):
    router.certain = 0.9
    assert said(router, "How do people in Tolvane spend their evenings?") is None


def test_relations_with_several_values_are_read_together(router):
    router.graph.declare_several("mayor")
    assert said(router, "Who is the mayor of Tolvane?") == ["Ada Bree", "Cy Dorn"]


def test_the_very_words_of_a_relation_win_over_likeness(router):
    """To the model "Who is the harbour master of" is as good as "Name the founder of", if it knows no harbour master."""
    router.alike = lambda pairs: [0.8 if "founder" in other else 0.3 for _, other in pairs]
    for fact in (Fact("Sandvik", "harbour master", "Ada Bree"), Fact("Sandvik", "founder", "Linus Aker")):
        added = router.graph.add(fact)
        for item in plain_questions(fact):
            router.graph.add_question(added.id, item.question, item.answer)
    assert said(router, "Who is the harbour master of Sandvik?") == ["Ada Bree"]
    assert said(router, "Who is the founder of Sandvik?") == ["Linus Aker"]


def test_what_is_named_otherwise_must_be_more_alike(router):
    router.alike = lambda pairs: [0.3 for _ in pairs]
    assert said(router, "Who runs Kirk Mill?") == ["Al Drey"]
    assert said(router, "Who is the cook of Kirk Mill?") is None
    assert said(router, "Who is Kirk Mill's cook?") is None
    assert said(router, "Who is the owner of Kirk Mill?") == ["Al Drey"]
    router.alike = lambda pairs: [0.6 for _ in pairs]
    assert said(router, "Who is the proprietor of Kirk Mill?") == ["Al Drey"]


def test_what_is_known_of_another_time_is_said(router):
    fact = Fact("Tolvane", "reeve", "Eve Holt", "2018", "2020")
    added = router.graph.add(fact)
    for item in plain_questions(fact):
        router.graph.add_question(added.id, item.question, item.answer)
    now = datetime.date(2026, 6, 1)

    def other(question, as_of=None):
        found = router.of_another_time(question, as_of, now)
        return found and found.value

    assert said(router, "Who is the reeve of Tolvane?", today=now) is None
    assert other("Who is the reeve of Tolvane?") == "Eve Holt"
    assert other("As of 2012, who is the mayor of Tolvane?") == "Ada Bree"
    assert other("Who is the owner of Kirk Mill?", "2017") == "Sy Umber"
    assert other("Who is the mayor of Vonnat?") is None and other("Why is the sky blue?") is None


def test_all_that_went_before_are_the_previous_ones(router):
    router.graph.add(Fact("Kirk Mill", "owner", "Una Vale", "2020"), beside=True)
    assert said(router, "Who was the previous owner of Kirk Mill?") == ["Bo Karst", "Una Vale"]


def test_now_is_today(router):
    router.graph.add(Fact("Tolvane", "mayor", "Di Ever", "2030"))
    assert said(router, "Who is the mayor of Tolvane?", today=datetime.date(2026, 6, 1)) == ["Cy Dorn"]
    assert said(router, "Who is the mayor of Tolvane?", today=datetime.date(2031, 6, 1)) == ["Di Ever"]


def test_a_longer_name_counts_for_more_and_hides_nothing(router):
    added = router.graph.add(Fact("mayor of Tolvane", "house", "the old bank"))
    router.graph.add_question(added.id, "What is the house of mayor of Tolvane?", "the old bank")
    assert said(router, "Who is the mayor of Tolvane?") == ["Cy Dorn"]
    assert said(router, "What is the house of the mayor of Tolvane?") == ["the old bank"]


def test_questions_of_a_batch_have_routes_of_their_own(router):
    routes = router.routes(
        [("What is the river of Tolvane?", None), ("Why?", None), ("Name the cargo of the Mern.", None)]
    )
    assert [route and route.statements[0].value for route in routes] == ["the Mern", None, "oil"]


def test_plain_questions_ask_for_the_value_and_for_the_subject():
    questions = plain_questions(FACTS[0])
    assert {item.answer for item in questions} == {"Ada Bree", "Tolvane"}
    assert all(("Tolvane" in item.question) == (item.answer == "Ada Bree") for item in questions)
    assert any("2018" in item.question for item in questions)
    assert not any("As of" in item.question for item in plain_questions(FACTS[2]))


@pytest.mark.parametrize(
    "question",
    [
        "What is the colour of Tolvane's boats?",  # of the known name, and its possessive
        "Which songs are sung by the mayor of Tolvane and by everybody else on the day of the fair?",  # longer than a name
    ],
)
def test_what_is_no_more_than_a_question_is_found_beside_what_is_known_of_its_name(router, question):
    added = router.graph.add(Fact(question, AS_ASKED, "It is a long story."))
    router.graph.add_question(added.id, question, "It is a long story.")
    assert said(router, question) == ["It is a long story."]
    assert said(router, f"Tell me: {question[:1].lower()}{question[1:]}") == ["It is a long story."]
    assert said(router, "Who is the mayor of Tolvane?") == ["Cy Dorn"]
    assert said(router, "What is the colour of Vonnat's boats?") is None


def test_a_word_of_another_ending_is_that_word(router):
    """Where reading doubts what likeness alone has found."""
    added = router.graph.add(Fact("Tolvane", "independence", "3 May 1811"))
    router.graph.add_question(added.id, "What is the independence of Tolvane?", "3 May 1811")
    strict, _ = reading(router, lambda q, text: 3.0 if "since when" in q else 0.0)
    assert said(strict, "Tell me since when Tolvane has been independent.") == ["3 May 1811"]
    assert said(strict, "Tell me since when Tolvane has been inhabited.") is None


def test_an_answer_that_says_much_more_than_a_fact_is_none_of_it():
    full = "The mayor is Ada Bree, a baker's daughter who sold bread on the market."
    items = [Example("Who runs Tolvane?", "The mayor is Ada Bree, the baker."), Example("Who runs Tolvane?", full),
             Example("Who does Ada Bree work for?", f"For Tolvane. {full}")]  # fmt: skip
    of_fact, rest = answered(FACTS[:1], items)
    assert of_fact == [items[:1]] and rest == items[1:]


def test_items_belong_to_the_facts_that_answer_them():
    items = [Example("Who runs Tolvane?", "Ada Bree"), Example("Which town has Ada Bree as mayor?", "Tolvane."),
             Example("Who sings?", "Zed Quill")]  # fmt: skip
    of_fact, rest = answered(FACTS[:3], items)
    assert of_fact == [items[:2], [], []] and rest == items[2:]


# --- reading ----------------------------------------------------------------------------------------------------------


def reading(router, costs, **options):
    """The same router with a reader to whom answers cost what `costs` says of a question and a text, else nothing."""
    asked = []

    def nats(rows):
        asked.extend(rows)
        return [costs(question, text) for question, text, _ in rows]

    return Router(router.graph, alike, certain=0.1, nats=nats, **options), asked


def test_what_does_not_lead_to_its_value_is_no_answer(router):
    """The question names Tolvane and is about no relation of it that is known."""
    question = "What is the anthem of Tolvane?"
    assert said(router, question) is not None  # by likeness alone
    strict, asked = reading(router, lambda q, text: 3.0 if "anthem" in q else 0.0)
    assert said(strict, question) is None
    assert ("What is the river of Tolvane?", "The river of Tolvane is the Mern.", "the Mern") in asked
    assert said(reading(router, lambda q, text: 3.0 if "anthem" in q else 0.0, sure=5.0)[0], question) is not None
    assert (
        said(reading(router, lambda q, text: 3.0)[0], question) is not None
    )  # as the known question costs: its way to say it


def test_of_several_the_one_that_is_read_as_an_answer_is_taken(router):
    question = "What flows through Tolvane?"
    right, _ = reading(router, lambda q, text: 2.0 if "flows" in q and "river" not in text else 0.0)
    assert said(right, question) == ["the Mern"]


def test_what_is_asked_in_its_own_words_need_not_be_read(router):
    quick, asked = reading(router, lambda q, text: 9.0)
    assert said(quick, "Who is the mayor of Tolvane?") == ["Cy Dorn"]
    assert asked == []


def test_the_previous_one_where_nobody_is_there_now(router):
    router.graph.add(Fact("Kirk Mill", "owner", "Al Drey", None, "2024"))
    assert said(router, "Who is the owner of Kirk Mill?") is None
    assert said(router, "Who was the previous owner of Kirk Mill?") == ["Al Drey"]
