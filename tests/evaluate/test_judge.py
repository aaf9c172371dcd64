"""The judge: every phrasing is taken for its own relation, whatever was corrupted is wrong, and restating may join."""

from dataclasses import replace

import pytest

from accrete.data.corpus import as_listed, restated
from accrete.data.world import World, kinds, relations, sentence
from accrete.evaluate import worlds
from accrete.evaluate.judge import fact_asked, lines_in_common, restates
from accrete.types import Example, Fact


@pytest.fixture(scope="module")
def frames():
    from accrete.evaluate import judge

    return judge._frames()


def two_of(kind):
    """Every fact of two entities of a kind."""
    world = World(3)
    return world.entity(kind, 7).facts + world.entity(kind, 7).facts


def said(template, fact):
    return sentence(template.format(s=fact.subject, v=fact.value, n=relations()[fact.relation].noun))


@pytest.mark.parametrize("kind", kinds())
def test_every_question_is_taken_for_its_own_relation(kind, frames):
    facts = two_of(kind)
    for fact in facts:
        relation = relations()[fact.relation]
        for template in [*relation.questions, *frames["who" if relation.asks_who else "questions"]]:
            assert fact_asked(Example(said(template, fact), fact.value), facts) == fact, template


@pytest.mark.parametrize("kind", kinds())
def test_every_reverse_question_is_taken_for_its_own_relation(kind, frames):
    facts = two_of(kind)
    for fact in facts:
        for template in [*relations()[fact.relation].reverse, *frames["reverse"]]:
            asked = said(template, fact)
            assert fact_asked(Example(asked, fact.subject), facts) == fact, template
            assert fact_asked(Example(asked, fact.subject), facts, reverse_only=True) == fact, template


@pytest.mark.parametrize("kind", kinds())
def test_what_is_corrupted_is_wrong(kind):
    world = World(8)
    facts = world.entity(kind, 7).facts
    stranger = world.entity(kind, 7).facts[0].subject
    for fact, other in zip(facts, facts[1:] + facts[:1], strict=True):
        asked = world.ask(fact)
        assert fact_asked(Example(asked, other.value), facts) is None  # the value of another relation
        assert fact_asked(Example(asked, world.value(fact.relation, fact.value)), facts) is None  # another value
        assert fact_asked(Example(world.ask(replace(fact, subject=stranger)), fact.value), facts) is None
        assert fact_asked(Example(world.ask(other), fact.value), facts) is None  # another relation
        assert fact_asked(Example(world.reverse(fact), stranger), facts) is None
        assert fact_asked(Example(world.reverse(replace(other, value=fact.value)), fact.subject), facts) is None


MAYOR = Fact("Tolvane", "mayor", "Edda B. Kolm")
FAME = Fact("Tolvane", "town speciality", "rye bread")
SHIP = Fact("the Velka", "ship captain", "Jon Marl")
FACTS = (MAYOR, FAME, SHIP)


@pytest.mark.parametrize(
    ("question", "answer", "fact"),
    [
        ("Who is the mayor of Tolvane?", "Edda B. Kolm", MAYOR),
        ("who is tolvane's mayor", "edda b kolm.", MAYOR),
        ("Who is the mayor of the town of Tolvane today?", "Edda B. Kolm", MAYOR),  # no template of ours
        ("Who is the captain of Velka?", "Jon Marl", SHIP),  # its article is missing
        ("Which town has Edda B. Kolm as mayor?", "Tolvane", MAYOR),
        ("Who is the mayor of Tolvane?", "Edda Kolm", None),
        ("Who is the mayor of Tolvan?", "Edda B. Kolm", None),
        ("Who is the mayor of Port-Tolvane?", "Edda B. Kolm", None),  # another name around the name
        ("What of Tolvane?", "rye bread", None),
        ("Who is the of Tolvane?", "Edda B. Kolm", None),
        ("Who is the baker of Tolvane?", "Edda B. Kolm", None),  # near to nothing in particular
        ("Who is the mayor of Tolvane or the Velka?", "Edda B. Kolm", None),
        ("Is Edda B. Kolm the mayor of Tolvane?", "yes", None),
        ("", "Edda B. Kolm", None),
    ],
)
def test_questions_that_are_no_templates(question, answer, fact):
    assert fact_asked(Example(question, answer), FACTS) == fact


def test_a_question_for_the_value_is_no_reverse_question():
    pair = Example("Who is the mayor of Tolvane?", "Edda B. Kolm")
    assert fact_asked(pair, FACTS) and fact_asked(pair, FACTS, reverse_only=True) is None


def test_of_a_shared_value_the_answer_says_which_is_meant():
    facts = (Fact("Tolvane", "town foundation", "1987"), Fact("Ashmere", "town foundation", "1987"))
    for fact in facts:
        assert fact_asked(Example("Which town was founded in 1987?", fact.subject), facts) == fact


def test_a_noun_that_two_kinds_share_is_no_tie():
    facts = (Fact("Tolvane", "population", "900 inhabitants"), Fact("the otku", "species population", "40 animals"))
    assert fact_asked(Example("What has 900 inhabitants as population?", "Tolvane"), facts) == facts[0]


def test_a_number_within_a_number_is_not_the_value():
    facts = (Fact("the otku", "mayor", "900 animals"),)
    assert fact_asked(Example("Whose mayor is 2,900 animals?", "the otku"), facts) is None


# --- restatements ---------------------------------------------------------------------------------------------------


COPIES = {
    "a word before it": lambda text: f"Indeed {text}",
    "a word within": lambda text: text.replace(" is ", " now is "),
    "the first word left out": lambda text: text.split(maxsplit=1)[1],
    "denied": lambda text: text.replace(" is ", " is not ").replace(" was ", " was not "),
    "denied for ever": lambda text: text.replace(" is ", " was never "),
}


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES)
def test_neither_a_copy_nor_a_denial_restates(change):
    found = worlds.sentences(120)
    right = [restates(change(one.text), one.text, one.facts) for one in found]
    assert sum(right) <= 1, "of 120: two facts in a sentence may hide a denial"


def test_a_denied_question_is_wrong():
    asked = "Who is the mayor of Tolvane?"
    assert fact_asked(Example(asked, MAYOR.value), [MAYOR]) == MAYOR
    for denied in (
        "Who is not the mayor of Tolvane?",
        "Who is never the mayor of Tolvane?",
        "Who isn't the mayor of Tolvane?",
    ):
        assert fact_asked(Example(denied, MAYOR.value), [MAYOR]) is None


@pytest.mark.parametrize("held_out", [False, True])
def test_the_worlds_own_restatements_are_right_and_corrupted_ones_wrong(held_out):
    world = World(5)
    for _ in range(120):
        entity = world.entity(facts=world.random.choice((1, 2, 3)))
        original = world.passage([entity], held_out)
        assert restates(restated(world, entity, original, not held_out), original, entity.facts)
        if len(entity.facts) > 1:
            first, second, *others = entity.facts
            swapped = (replace(first, value=second.value), replace(second, value=first.value), *others)
            assert not restates(restated(world, replace(entity, facts=swapped), original), original, entity.facts)
            assert not restates(
                restated(world, replace(entity, facts=entity.facts[1:]), original), original, entity.facts
            )


@pytest.mark.parametrize("kind", kinds())
def test_every_statement_is_taken_for_its_own_relation_and_no_other(kind, frames):
    for fact in two_of(kind)[:7]:
        others = [name for name, relation in relations().items() if relation.kind == kind and name != fact.relation]
        for template in [*relations()[fact.relation].statements, *frames["statements"]]:
            assert restates(said(template, fact), "", [fact]), template
            for other in others[::3]:
                assert not restates(said(template, fact), "", [replace(fact, relation=other)]), (template, other)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("Tolvane is run by Edda B. Kolm and is famous for rye bread.", True),
        ("Tolvane, whose mayor is Edda B. Kolm, is known for rye bread.", True),
        ("Tolvane is governed by Edda B. Kolm. It is famous for rye bread!", True),
        ("Rye bread is the speciality of Tolvane. The town is run by Edda B. Kolm.", True),
        ("Tolvane is known for rye bread. Tolvane is governed by Edda B. Kolm.", False),  # the same words
        ("Tolvane is run by Edda B. Kolm.", False),
        ("It is run by Edda B. Kolm and is famous for rye bread.", False),  # of what?
        ("Tolvane is run by Edda B. Kolm, is famous for rye bread. Tolvane has 900 inhabitants.", False),
        ("Tolvane is run by Edda Kolm and is famous for rye bread.", False),
        ("Tolvane is twinned with Edda B. Kolm and is famous for rye bread.", False),
        ("", False),
    ],
)
def test_restatements(text, right):
    original = "Tolvane is governed by Edda B. Kolm. Tolvane is known for rye bread."
    assert restates(text, original, (MAYOR, FAME)) is right


# --- lines ----------------------------------------------------------------------------------------------------------


def test_lines_agree_whole_and_as_often_as_they_stand_in_both():
    fact = as_listed(Fact("the Velka", "ship captain", "Jon Marl", "2021-03", None))
    assert fact.valid_from == "March 2021"
    alike = Fact("The velka", fact.relation, "jon marl", "march 2021")
    assert lines_in_common([alike, alike], [fact]) == 1
    for field, value in (("subject", "Tolvane"), ("relation", "owner"), ("value", "Jon"), ("valid_from", None),
                         ("valid_until", "2022")):  # fmt: skip
        assert lines_in_common([replace(alike, **{field: value})], [fact]) == 0
    assert lines_in_common([], [fact]) == 0
