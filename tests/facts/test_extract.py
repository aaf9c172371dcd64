"""Facts out of text: by rules and by a model, with the characters that say them, and nothing that the text does not name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accrete.facts.extract import extract, unread
from accrete.facts.rules import by_rules
from accrete.facts.simple_sentences import Found
from accrete.lm.tasks import LIST_FACTS
from accrete.types import Fact, Passage


def passage(text: str, start: int = 0) -> Passage:
    return Passage(text, "town.txt", start, start + len(text))


def facts(text: str, **options) -> list[Fact]:
    return [one.fact for one in extract(passage(text), [passage(text)], **options)]


@pytest.mark.parametrize(
    ("sentence", "fact"),
    [
        ("In 2020, the mayor of Tolvane is Ada W. Bree.", Fact("Tolvane", "mayor", "Ada W. Bree", "2020")),
        ("[2018-03] The mayor of Tolvane was Bo.", Fact("Tolvane", "mayor", "Bo", "2018-03")),
        ("As of 3 May 2001, Tolvane's river is the Mern.", Fact("Tolvane", "river", "the Mern", "2001-05-03")),
        ("Ada Bree was elected mayor of Tolvane in 2019.", Fact("Tolvane", "mayor", "Ada Bree", "2019")),
        ("In 2020, Bo Lind succeeded Ada Bree as mayor of Tolvane.", Fact("Tolvane", "mayor", "Bo Lind", "2020")),
        ("Cy Dorn was appointed as the captain of the Guild in May 2021.",
         Fact("the Guild", "captain", "Cy Dorn", "2021-05")),
        ("From 2011 to 2015, Ada Bree served as treasurer of the Guild.",
         Fact("the Guild", "treasurer", "Ada Bree", "2011", "2015")),
        ("The council announced on 3 May 2021 that Petra Voss has been appointed harbour master of Tolvane.",
         Fact("Tolvane", "harbour master", "Petra Voss", "2021-05-03")),
        ("Will May said that the mayor of Tolvane is Ada.", Fact("Tolvane", "mayor", "Ada")),
        ("In 2020, it was confirmed that the mayor of Tolvane is Ada.", Fact("Tolvane", "mayor", "Ada", "2020")),
        ("Ada Bree said that Bo stepped down as mayor of Tolvane in 2021.", Fact("Tolvane", "mayor", "Bo", None, "2021")),
        ("Bo was succeeded by Ada as mayor of Tolvane in 2020.", Fact("Tolvane", "mayor", "Ada", "2020")),
        ("Until the flood of 2021, the harbour master of Tolvane was Kit Orr.",
         Fact("Tolvane", "harbour master", "Kit Orr", None, "2021")),
        ("Between 2014 and 2018, the mayor of Tolvane was Ada.", Fact("Tolvane", "mayor", "Ada", "2014", "2018")),
        ("In March of 2020, the mayor of Tolvane was Ada.", Fact("Tolvane", "mayor", "Ada", "2020-03")),
        ("In early 2020, the current mayor of Tolvane was Ada.", Fact("Tolvane", "mayor", "Ada", "2020")),
        ("In 2021, Bo stepped down as mayor of Tolvane.", Fact("Tolvane", "mayor", "Bo", None, "2021")),
        ("Mayor of Tolvane: Ada Bree (2018-2022)", Fact("Tolvane", "mayor", "Ada Bree", "2018", "2022")),
        ("The revenue of Halden Foods in 2020 was €312 million, up from €298 million in 2019.",
         Fact("Halden Foods", "revenue", "€312 million", "2020")),
        ("Dr. Ivo Lenz was appointed chief executive of Halden Foods in 2019.",
         Fact("Halden Foods", "chief executive", "Dr. Ivo Lenz", "2019")),
        ("The CEO of Basalt Ltd. is Bo Holm.", Fact("Basalt Ltd.", "CEO", "Bo Holm")),
        ("The owner of the mill was Bo until 2015, then Cy.", Fact("the mill", "owner", "Bo", None, "2015")),
        ("Tolvane has a population of 12,100.", Fact("Tolvane", "population", "12,100")),
        ("Oslet is Norvia's capital.", Fact("Norvia", "capital", "Oslet")),
        ("In 2018, a tailor's workshop is the main tenant of the Northern Keep.",
         Fact("the Northern Keep", "main tenant", "a tailor's workshop", "2018")),
        ('The author of "The Winter of Bread" is Ada Bree.', Fact("The Winter of Bread", "author", "Ada Bree")),
        ('The motto of Tolvane is "Never the last".', Fact("Tolvane", "motto", "Never the last")),
        ("The protection status of the warbler is at risk.", Fact("the warbler", "protection status", "at risk")),
        ("The place of printing of Ashbury and the Tide is Port Deess as of 2018.",
         Fact("Ashbury and the Tide", "place of printing", "Port Deess", "2018")),
        ("From March 1990 to 1995, the price of Kluo was 5.5 crowns.", Fact("Kluo", "price", "5.5 crowns", "1990-03", "1995")),
        ("A note from 2018 says that Kloopru is the seat of Ronu Mills.", Fact("Ronu Mills", "seat", "Kloopru", "2018")),
        ("According to a source from 2018, Deess is the port of Mern.", Fact("Mern", "port", "Deess", "2018")),
        ("Head of state of Mern on 3 May 2020: Cy BREE (since 1 April 2018).",
         Fact("Mern", "head of state", "Cy BREE", "2018-04-01")),
        ("Population of Mern on 3 May 2020: 46,245 (2020 guess).", Fact("Mern", "population", "46,245", "2020-05-03")),
        ("Population of Mern on 3 May 2020: 46,245 (2020 est.", Fact("Mern", "population", "46,245", "2020-05-03")),
        ("The population of the Mern Isles in 2020: 1,200.", Fact("the Mern Isles", "population", "1,200", "2020")),
        ("On 3 March 2019 the mayor of Tolvane was Ada.", Fact("Tolvane", "mayor", "Ada", "2019-03-03")),
        ("The mayor of Tolvane was Ada until 2019.", Fact("Tolvane", "mayor", "Ada", None, "2019")),
        ("Since 2020 the mayor of Tolvane has been Ada.", Fact("Tolvane", "mayor", "Ada", "2020")),
        ("The owner of Pitholm Mill is Dr. J. Smith.", Fact("Pitholm Mill", "owner", "Dr. J. Smith")),
        ("The head of Ombria is President Col. Ada Bree.", Fact("Ombria", "head", "President Col. Ada Bree")),
        ("Ada is the keeper of Pitholm Mill since 1850.", Fact("Pitholm Mill", "keeper", "Ada", "1850")),
        ("In 2019, a member of the Larkmoor Choir is Jana Oss.", Fact("the Larkmoor Choir", "member", "Jana Oss", "2019")),
        ("Piet Solm is one of the patrons of Vonnat.", Fact("Vonnat", "patron", "Piet Solm")),
        ("The mayor of Tolvane in 2018 was Ada.", Fact("Tolvane", "mayor", "Ada", "2018")),
        ("The mayor of Tolvane until May 2019 was Ada.", Fact("Tolvane", "mayor", "Ada", None, "2019-05")),
        ("Since 2015 Tolvane's mayor is Ada!", Fact("Tolvane", "mayor", "Ada", "2015")),
        ("Until 2019, the mayor of Tolvane was Ada.", Fact("Tolvane", "mayor", "Ada", None, "2019")),
        ("Ada Bree was mayor of Tolvane from 2011 to 2015.", Fact("Tolvane", "mayor", "Ada Bree", "2011", "2015")),
        ("Ada Bree became the mayor of Tolvane on May 3, 2011.", Fact("Tolvane", "mayor", "Ada Bree", "2011-05-03")),
        ("In march 2020, the mayor of Tolvane is now Ada.", Fact("Tolvane", "mayor", "Ada", "2020-03")),
        ("In Feb 2020, the mayor of Tolvane was Ada Bree, a lawyer.", Fact("Tolvane", "mayor", "Ada Bree", "2020-02")),
        ("On 31 February 2020, the mayor of Tolvane is \"Ada\".", Fact("Tolvane", "mayor", "Ada", "2020-02")),
        ("In 2020-13, the mayor of Tolvane is Ada.", Fact("Tolvane", "mayor", "Ada", "2020")),
    ],
)  # fmt: skip
def test_simple_sentences_are_read_by_rules(sentence, fact):
    (found,) = by_rules(passage(sentence, start=7))
    assert found.fact == fact
    assert (found.start, found.end) == (7, 7 + len(sentence))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The capital of Norland is not Oster.",
        "It is the beginning of the End.",
        "Here is the end of the Story.",
        "Note: bring milk",
        "Who is the mayor of Tolvane?",
        "He left early.",
        "The mayor of Tolvane is no longer Ada Bree.",
        "The mayor of Tolvane was once Ada Bree.",
        "Her husband was the mayor of Tolvane.",
        "From 1992 until 2001 she was the rector of the University of Os.",
        "The mayor of Tolvane isn't Ada.",
        "The mayor of Tolvane is said to be Ada Bree.",
        "The mayor of Tolvane is elected every four years.",
        "Ada Bree is proud of Tolvane.",
        "The mayor of Tolvane is in hospital.",
        "The mayor of Tolvane is very popular.",
        "The mayor of Tolvane is 54 years old.",
        "The price of bread is going up.",
        "The rest of the day was spent in Linz.",
        "The purpose of the visit was to see the harbour.",
        "The owner of the mill is Bo or Cy.",
        "The owner of the mill was probably Bo.",
        "Nobody said that the mayor of Tolvane is Ada.",
        "The council has not announced that the mayor of Tolvane is Ada.",
        "The council didn't say that the mayor of Tolvane is Ada.",
        "It was once said that the mayor of Tolvane is Ada.",
        "The council said that the mayor of Tolvane is in hospital.",
        "Bo almost became mayor of Tolvane in 2012.",
        "The former mayor of Tolvane is Eve Holt.",
        "Bo stepped down as mayor of Tolvane.",
        "The mayors of Tolvane are never Ada and Bo.",
        "A third of the Houses is empty.",
        "Vonnat is a village of 300 people and Oster a number of the Farms.",
        "Love is a kind of Madness.",
        "It rained: a lot.",
        "a | b\n",
        "\n\n# Tolvane\n",
    ],
)
def test_what_states_nothing_gives_nothing(text):
    assert facts(text) == []


def test_rows_are_about_the_heading_above_them_or_about_the_document():
    text = "population: 1,200\n\n# Ashmere\n\n| area | 12.5 km² |\n|---|---|\n| ruler | Cy |\n"
    assert facts(text, subject="Tolvane", date="2022") == [
        Fact("Tolvane", "population", "1,200", "2022"),
        Fact("Ashmere", "area", "12.5 km²", "2022"),
        Fact("Ashmere", "ruler", "Cy", "2022"),
    ]
    assert facts("population: 1,200") == []


@pytest.mark.parametrize(
    ("sentence", "values"),
    [
        (
            "In 2018, the mayor of Os is Ada Bree and in 2020, the mayor of Os is Cy.",
            {"Ada Bree": "2018", "Cy": "2020"},
        ),
        ("In 2018 the beadle of Os was Una; in 2020 it was Cy.", {"Una": "2018", "Cy": "2020"}),
        ("The mayor of Os in 2018 was Ada, and in 2020 Cy.", {"Ada": "2018", "Cy": "2020"}),
        ("The population of Os was 1,200 in 2018 and 1,300 in 2020.", {"1,200": "2018", "1,300": "2020"}),
        ("In 2018, the mayor of Os is Ada and the river of Os is the Mern.", {"Ada": "2018", "the Mern": "2018"}),
        ("The mayor of Os is Ada and the river is the Mern.", {"Ada": None}),
        ("The mayor of Os was Ada Bree (2014-2018).", {"Ada Bree": "2014"}),
        ("The reeve of Os was Ben Ash between 2014 and 2018.", {"Ben Ash": "2014"}),
        ("The headquarters of Os are in Linz.", {"Linz": None}),
        ("The mayor of Os was then Bo.", {"Bo": None}),
        ('The motto of Os is "by sea; by land".', {"by sea; by land": None}),
        ("The director of Bree and the Sons is Ada.", {"Ada": None}),
        ("The captain of the Brave is Bo, and its owner is Cy.", {"Bo": None}),
        ("The mayor of Os was Ada in 2018, Bo in 2020 and Cy in 2022.", {"Ada": "2018", "Bo": "2020", "Cy": "2022"}),
        ("The members of the Guild are Bo (chair), Cy and Dee.", {"Bo": None, "Cy": None, "Dee": None}),
    ],
)
def test_a_sentence_may_state_several_things(sentence, values):
    assert {one.fact.value: one.fact.valid_from for one in by_rules(passage(sentence))} == values


@pytest.mark.parametrize(
    ("table", "stated"),
    [
        ("| Year | Mayor |\n|--|--|\n| 2018 | Ada |\n| 2020 | Cy |",
         [("Os", "mayor", "Ada", "2018"), ("Os", "mayor", "Cy", "2020")]),
        ("|Office|Holder|Since|\n|:-|-:|-|\n| reeve | Bo | May 2019 |", [("Os", "reeve", "Bo", "2019-05")]),
        ("| Office | Holder | To |\n|--|--|--|\n| reeve | Bo (2011-2013) | |", [("Os", "reeve", "Bo", "2011")]),
        ("| Town | Mayor | CEO |\n|--|--|--|\n| Vonnat | Ada | - |\n| Kirk | | Bo |",
         [("Vonnat", "mayor", "Ada", None), ("Kirk", "CEO", "Bo", None)]),
        ("| Year | Mayor of Cork |\n|--|--|\n| 2018 | Ada |", [("Cork", "mayor", "Ada", "2018")]),
        ("| Town | Mayor |\n|--|--|", [("Os", "Town", "Mayor", None)]),  # a row above a line, as far as one can tell
    ],
)  # fmt: skip
def test_tables_have_heads(table, stated):
    text = f"# Os\n\n{table}\n"
    found = list(by_rules(passage(text, start=5)))
    assert [(f.fact.subject, f.fact.relation, f.fact.value, f.fact.valid_from) for f in found] == stated
    assert all(text[one.start - 5 : one.end - 5].startswith("|") for one in found)


def test_a_list_of_names_is_several_facts():
    text = "In 2020, the members of the Cask Guild are Orla Penn, Tobin Marsh and Issa Vane. The owners of Os are Bo and Co."
    found = list(by_rules(passage(text)))
    assert [(one.fact.relation, one.fact.value, one.several) for one in found] == [
        ("member", "Orla Penn", True), ("member", "Tobin Marsh", True), ("member", "Issa Vane", True),
        ("owner", "Bo", True), ("owner", "Co", True)]  # fmt: skip
    assert facts("The parties of Os are the Reds and a few.") == [Fact("Os", "parties", "the Reds and a few")]


def test_a_heading_that_names_a_part_of_what_is_told_is_no_subject():
    text = "# Tolvane\n\n## 2. Key facts\n\n- Mayor: Ada\n- River: the Mern\n\n## The Government Mill\n\n- Owner: Bo\n"
    assert [(one.subject, one.relation) for one in facts(text)] == [
        ("Tolvane", "Mayor"), ("Tolvane", "River"), ("The Government Mill", "Owner"),
    ]  # fmt: skip
    assert [one.subject for one in facts("## Government\n\n- Mayor: Ada\n", subject="Oster")] == ["Oster"]
    assert [one.subject for one in facts("## Government\n\n- Mayor: Ada\n")] == ["Government"]


def test_rows_may_be_a_list_have_heads_and_say_since_when():
    table = "# Orrin\n| what | who |\n|:---|---:|\n| CEO (since 2019) | Ada |\n| clerk | Bo (2015-2018) |\n"
    listed = "## Orrin Two\n- Founder: Peta Orrin\n* staff: 12 (until May 2020)\n"
    assert facts(table + listed) == [
        Fact("Orrin", "CEO", "Ada", "2019"),
        Fact("Orrin", "clerk", "Bo", "2015", "2018"),
        Fact("Orrin Two", "Founder", "Peta Orrin"),
        Fact("Orrin Two", "staff", "12", None, "2020-05"),
    ]


def test_what_is_denied_is_not_what_a_model_reads_there():
    lines = "Tolvane | mayor | Ada Bree | - | -"
    assert facts("The mayor of Tolvane is no longer Ada Bree.", generate=lambda prompts: [lines] * len(prompts)) == []


def test_who_is_named_by_a_pronoun_is_not_known():
    lines = "Karl Dahl | mentor | Her husband | - | -\nShe | teacher | Karl Dahl | - | -"
    assert (
        facts("She was taught by Karl Dahl. Her husband was a smith.", generate=lambda prompts: [lines] * len(prompts))
        == []
    )


def test_a_model_lists_facts_which_count_where_the_text_names_them():
    text = "Back in 2020, booksellers asked 119 crowns for Ashbury. Ronu Mills published it."
    asked = []

    def generate(prompts):
        asked.extend(prompts)
        return ["Ashbury | price | 119 crowns | 2020 | -\nAshbury | publisher | Ronu Mills | - | -\n"
                "Ashbury | author | Nobody | - | -\nTolvane | price | 119 crowns | - | -\nnot a fact"]  # fmt: skip

    found = extract(passage(text, start=3), [passage(text, start=3)], generate, date="2021-06")
    assert [one.fact for one in found] == [
        Fact("Ashbury", "price", "119 crowns", "2020"), Fact("Ashbury", "publisher", "Ronu Mills", "2021-06")]  # fmt: skip
    assert [text[one.start - 3 : one.end - 3].strip() for one in found] == [
        s + "." for s in text.rstrip(".").split(". ")
    ]
    assert len(asked) == 1 and asked[0].startswith(LIST_FACTS) and asked[0].endswith(text)


def test_what_both_find_counts_once_with_what_the_rules_say():
    lines = "tolvane | Mayor | ada | 2020 | -"
    found = facts("In 2020, the mayor of Tolvane is Ada.", generate=lambda prompts: [lines] * len(prompts))
    assert found == [Fact("Tolvane", "mayor", "Ada", "2020")]


def test_dates_that_are_none_are_left_out():
    text = "Ada rules Tolvane."
    lines = "Tolvane | ruler | Ada | in spring | 1990"
    found = extract(passage(text), [passage(text)], lambda prompts: [lines] * len(prompts), "2020")
    assert found == [Found(Fact("Tolvane", "ruler", "Ada", None, "1990"), 0, 18)]  # and not from 2020 on


@given(st.text(max_size=200), st.text(max_size=80))
def test_any_text_is_read_and_spans_lie_within_it(text, lines):
    for one in extract(passage(text), [passage(text)], lambda prompts: [lines] * len(prompts), subject="x"):
        assert 0 <= one.start < one.end <= len(text)


def test_a_sentence_of_which_nothing_was_found_is_read_alone():
    text = "In 2018, the Mern carried oil. The mayor of Tolvane is Ada."
    asked = []

    def generate(prompts):
        asked.append([one.rpartition("\n")[2] for one in prompts])
        return ["the Mern | cargo | oil | 2018 | -" if one.endswith("carried oil.") else "" for one in prompts]

    found = extract(passage(text), [passage(text)], generate)
    assert [one.fact.value for one in found] == ["oil", "Ada"]
    assert asked == [[text], ["In 2018, the Mern carried oil."]]
    assert text[found[0].start : found[0].end] == "In 2018, the Mern carried oil."


def test_the_date_of_a_fact_is_no_fact_of_its_own():
    lines = "the Mern | cargo | oil | 2018 | -\nthe Mern | year of launch | 2018 | - | -"
    assert facts("In 2018, the Mern carried oil.", generate=lambda prompts: [lines] * len(prompts)) == [
        Fact("the Mern", "cargo", "oil", "2018")
    ]
    launched = "the Mern | year of launch | 1902 | - | -"
    assert facts("In 1902, the Mern was launched.", generate=lambda prompts: [launched] * len(prompts)) == [
        Fact("the Mern", "year of launch", "1902")
    ]


def test_one_value_of_a_subject_has_one_name_in_a_sentence():
    said = "Ada is the owner of Os Hall."
    assert facts(said, generate=lambda prompts: ["Os Hall | caretaker | Ada | - | -"] * len(prompts)) == [
        Fact("Os Hall", "owner", "Ada")
    ]


def test_a_heading_and_the_heads_of_a_table_count_beyond_the_passage_they_stand_in():
    text = "| Office | Holder | Since |\n|---|---|---|\n| mayor | Ada | 2018 |\n| captain | Bo | 2019 |"
    cut = text.index("| captain")
    parts = [Passage(text[:cut], "town.txt", 0, cut), Passage(text[cut:], "town.txt", cut, len(text))]
    found = extract(passage(text), parts, lambda prompts: [""] * len(prompts), subject="Tolvane")
    assert [one.fact for one in found] == [
        Fact("Tolvane", "mayor", "Ada", "2018"), Fact("Tolvane", "captain", "Bo", "2019")]  # fmt: skip


def test_a_name_names_what_the_rows_below_are_about():
    assert facts("Name: Dorothea Quint\nHome town: Linz\nTrade: carpentry", subject="cv") == [
        Fact("Dorothea Quint", "Home town", "Linz"), Fact("Dorothea Quint", "Trade", "carpentry")]  # fmt: skip


def test_what_is_said_beside_a_value_has_not_ended_it():
    text = "The mayor of Tolvane is Ada Bree, who resigned as captain of the Guild."
    assert facts(text) == [Fact("Tolvane", "mayor", "Ada Bree")]
    both = facts("The mayor of Tolvane is Bo. In 2021, Bo stepped down as mayor of Tolvane.")
    assert both == [Fact("Tolvane", "mayor", "Bo"), Fact("Tolvane", "mayor", "Bo", None, "2021")]
    assert facts("In 2021, the river of Os is the Mern; Bo is no longer mayor of Os.", date="2024")[1] == (
        Fact("Os", "mayor", "Bo", None, "2021"))  # fmt: skip


def test_what_has_ended_ended_when_the_document_says_so():
    text = "Bo stepped down as mayor of Tolvane."
    assert facts(text, date="2021-06") == [Fact("Tolvane", "mayor", "Bo", None, "2021-06")]
    asked = []
    assert facts(text, generate=lambda prompts: [asked.append(one) or "" for one in prompts]) == [] and asked == []


def test_rows_are_a_matter_of_rules():
    text = "Present: Ann Moss, Tom Reed\n\nIt rained in Tolvane, says Ann Moss."
    lines = "Tolvane | present | Tom Reed | - | -\nTolvane | weather | rained | - | -"
    assert [one.value for one in facts(text, generate=lambda prompts: [lines] * len(prompts))] == ["rained"]
    assert facts("Present: Ann Moss, Tom Reed", generate=lambda prompts: [lines] * len(prompts)) == []


def test_what_states_nothing_and_could_not_is_not_unread():
    text = "# Tolvane\n\nEducation\n1.\n| Office | Holder |\n|---|---|\nFOR IMMEDIATE RELEASE\nWho is she?\nIt rained."
    assert unread(text, []) == ["It rained."]


def test_a_row_counts_among_others_or_under_a_heading_and_alone_it_is_a_remark():
    far = "\nIt rained.\n\n\nIt rained.\n"
    assert facts(f"mayor: Ada{far}captain: Bo", subject="Tolvane") == []
    assert [one.value for one in facts(f"mayor: Ada\n\ncaptain: Bo{far}note: well", subject="Tolvane")] == ["Ada", "Bo"]
    assert facts(f"# Tolvane\n\nmayor: Ada{far}note: well") == [Fact("Tolvane", "mayor", "Ada")]
