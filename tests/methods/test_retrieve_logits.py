"""The datastore as a method: what it does to answers and likelihoods, what it leaves alone, what it forgets."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import tiny_lm

from accrete import Document, Example, Learner, Probe, Query, reader
from accrete.data.world import World, kinds
from accrete.lm.decode import NOTHING, answer
from accrete.methods import base
from accrete.methods.retrieve_logits import Asked, Options, RetrieveLogits
from accrete.types import Lesson


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Guard questions are answered in a few tokens."""
    monkeypatch.setattr(reader, "SENTINEL_TOKENS", 4)


def lesson(number: int = 1, text: str = "") -> Lesson:
    """Five facts of somebody or something of its own."""
    world = World(number)
    facts = world.entity(kinds()[number % len(kinds())]).facts
    items = tuple(Example(world.question(fact, 0), fact.value) for fact in facts)
    return Lesson(Document(f"d{number}", text, items), items=items)


def taught(*lessons: Lesson, **options) -> RetrieveLogits:
    method = RetrieveLogits(tiny_lm(), Options(**options))
    for one in lessons:
        method.learn(one, lambda step, loss: None)
    return method


def answers(method: RetrieveLogits, questions: list[str]) -> list[str]:
    queries = [Query(question) for question in questions]
    found = answer(method.lm, queries, conditionings=method.condition(queries), max_new_tokens=12)
    return [one.text for one in found]


def questions(one: Lesson) -> list[str]:
    return [item.question for item in one.items]


def test_what_was_studied_is_answered_and_the_sentinels_are_as_before():
    method = taught(lesson(1), lesson(2), sure=0.0)  # a random model is never sure
    known = [question for question, _, _ in method.lm.sentinels]
    for one in (lesson(1), lesson(2)):
        assert answers(method, questions(one)) == [item.answer for item in one.items]
    assert answers(method, known) == [
        one.text for one in answer(method.lm, [Query(q) for q in known], max_new_tokens=12)
    ]


def test_answers_do_not_depend_on_who_is_asked_beside_whom():
    method = taught(lesson(1), lesson(2), items=3)
    together = answers(method, questions(lesson(1)) + questions(lesson(2)))
    alone = [answers(method, [question])[0] for question in questions(lesson(1)) + questions(lesson(2))]
    assert together == alone


def test_a_question_of_before_the_lesson_does_not_disturb_another():
    """It has no neighbours, and so no layer at which its states are looked at: the two run apart."""
    method, dated = RetrieveLogits(tiny_lm(), Options(depth=0.5, sure=1.0)), replace(lesson(1), dates=("2020",))
    method.learn(dated, lambda step, loss: None)
    queries = [Query("Why?", as_of="2010"), *(Query(question) for question in questions(dated))]
    conditionings = method.condition(queries)
    assert conditionings[0] is NOTHING
    found = answer(method.lm, queries, conditionings=conditionings, max_new_tokens=12)
    assert [one.text for one in found[1:]] == [item.answer for item in dated.items]
    early = [Query(query.question, as_of="2019-12") for query in queries]
    assert method.condition(early) == [NOTHING] * len(queries)


def test_dates_reach_it_through_a_learner(home):
    learner = Learner(tiny_lm(), method="retrieve_logits", home=home, max_forgetting=1.0, config={"sure": 1.0})
    learner.learn(lesson(1).document, dates=["2020"])
    item = lesson(1).items[0]
    assert learner.ask(item.question).text == item.answer
    assert learner.ask(item.question, as_of="2019").text != item.answer


def test_it_says_nothing_before_a_lesson():
    assert taught().condition([Query("Who?")]) == [NOTHING]


@pytest.mark.parametrize("silent", [{"strength": 0.0}, {"gate": 1.0}])
def test_without_strength_or_behind_a_closed_gate_the_model_speaks_alone(silent):
    method, asked = taught(lesson(1), depth=0.5, **silent), [f"{question} Now?" for question in questions(lesson(1))]
    bare = [one.text for one in answer(method.lm, [Query(question) for question in asked], max_new_tokens=12)]
    assert answers(method, asked) == bare
    assert answers(taught(lesson(1), depth=0.5, sure=1.0), asked) != bare


def test_a_sure_model_hears_only_what_is_nearer_than_a_sentinel():
    """Of a key: one that says something else to the very question of a sentinel wants all likeness there is."""
    method = taught(lesson(1))
    question, *_ = next(row for row in method.lm.sentinels if row[2] == "guard")
    near = Document("near", items=(Example(question, "Quite another answer."),))
    method.learn(Lesson(near, items=near.items), lambda step, loss: None)
    state = method.store.state_dict()
    assert float(state[f"{near.sha256}/reach"].max()) > 0.9
    assert float(state[f"{lesson(1).document.sha256}/reach"].median()) < 0.9


def test_a_forgotten_document_is_as_if_it_had_never_been_taught():
    first, second = lesson(1), lesson(2)
    method = taught(first, second)
    method.forget(first.document.sha256)
    alone = taught(second)
    assert answers(method, questions(first)) == answers(alone, questions(first))
    assert answers(method, questions(first)) != [item.answer for item in first.items]
    assert answers(method, questions(second)) == [item.answer for item in second.items]
    assert base.digest(method) == base.digest(alone)


def test_a_text_without_items_is_read_on_from_memory():
    text = "The ferry to Quint sails at dawn. Its captain keeps three grey geese and a ledger of every crossing."
    method = taught(Lesson(Document("text", text)))
    assert len(method.store) > 15
    queries = [Query("The ferry to Quint sails at")]
    (beside,) = method.condition(queries)
    assert "dawn" in method.lm.tokenizer.decode(beside.beside.near.values_M.tolist())


def test_items_alone_or_with_their_text():
    text = "Thing 1 has five parts."
    assert (
        len(taught(lesson(1, text)).store)
        > len(taught(lesson(1, text), text=False).store)
        == len(taught(lesson(1)).store)
    )


@pytest.mark.parametrize("bare", ["background", "sentinels"])
def test_a_model_that_brings_no_background_or_no_sentinels(bare):
    lm = tiny_lm()
    setattr(lm, bare, ())
    method = RetrieveLogits(lm, Options())
    method.learn(lesson(1), lambda step, loss: None)
    assert answers(method, questions(lesson(1))) == [item.answer for item in lesson(1).items]


def test_an_unknown_architecture():
    lm = tiny_lm()
    lm.anatomy = None
    method = RetrieveLogits(lm, Options())
    method.learn(lesson(1), lambda step, loss: None)
    assert answers(method, questions(lesson(1))) == [item.answer for item in lesson(1).items]


def test_a_lesson_costs_its_own_bytes_and_the_loss_is_read_through_it(home):
    learner = Learner(tiny_lm(), method="retrieve_logits", home=home, max_forgetting=1.0)
    commits = [learner.learn(lesson(number).document) for number in range(1, 5)]
    later = [commit.bytes for commit in commits[1:]]
    assert max(later) < 2 * min(later) < commits[0].bytes, "the space is stored once, and each document once"
    for commit in commits:
        assert commit.metrics["loss_after"] < 0.5 < commit.metrics["loss_before"]
    fresh = Learner(tiny_lm(), method="retrieve_logits", home=home, max_forgetting=1.0)
    asked = [Probe(item.question, (item.answer,)) for item in lesson(2).items]
    assert fresh.digest == learner.digest and fresh.grade(asked) == learner.grade(asked) == 1.0


def test_what_was_heard_once_is_heard_on():
    """Sure of what its neighbours made it say, the model would break the answer off."""
    asked = Asked(near=None, gate=0.5, sure_gate=0.7)
    assert not asked.hears(0.8, reach=0.9, sure=True) and not asked.hears(0.6, reach=-1.0, sure=True)
    assert not asked.hears(0.4, reach=-1.0, sure=False)
    assert asked.hears(0.6, reach=0.9, sure=False)
    assert asked.hears(0.6, reach=0.9, sure=True) and not asked.hears(0.4, reach=-1.0, sure=False)
    assert Asked(near=None, gate=0.5, sure_gate=0.7).hears(0.95, reach=0.9, sure=True), "a new answer to what it knows"


# --- whom a question names --------------------------------------------------------------------------------------------


def keeper(place: str, answer: str) -> Lesson:
    items = (Example(f"Who keeps the lighthouse of {place}?", answer),)
    return Lesson(Document(place, items=items), items=items)


def test_a_stranger_does_not_get_the_answer_of_who_is_known():
    method = taught(keeper("Norvik", "Edda Kolm"), depth=0.5, sure=1.0)
    assert answers(method, ["Who keeps the lighthouse of Norvik?"]) == ["Edda Kolm"]
    stranger = ["Who keeps the lighthouse of Zorvania?"]
    assert method.condition([Query(stranger[0])]) == [NOTHING]
    assert answers(method, stranger) == answers(taught(), stranger)
    careless = taught(keeper("Norvik", "Edda Kolm"), depth=0.5, sure=1.0, named=0.0, gate=-1.0, sure_gate=-1.0)
    assert answers(careless, stranger) == ["Edda Kolm"]


def test_who_names_nobody_is_answered_from_what_is_near_enough():
    method = taught(keeper("Norvik", "Edda Kolm"), depth=0.5, sure=1.0)
    (low,), (named,) = (method.condition([Query(q)]) for q in ("who keeps it?", "Who keeps that of Norvik?"))
    assert low.beside.gate == pytest.approx(named.beside.gate + method.config.nameless)
    assert low.beside.sure_gate > named.beside.sure_gate


def test_an_answer_names_the_documents_that_it_came_from():
    method = taught(keeper("Norvik", "Edda Kolm"), keeper("Elmholm", "Jo Palk"), depth=0.5, sure=1.0)
    asked = [
        "Who keeps the lighthouse of Elmholm?",
        "Who keeps the lighthouse of Zorvania?",
        "Who keeps the lighthouse of Norvik?",
    ]
    queries = [Query(question) for question in asked]
    found = answer(method.lm, queries, conditionings=method.condition(queries), max_new_tokens=12)
    assert [[source.document for source in one.sources] for one in found] == [["Elmholm"], [], ["Norvik"]]
    method.forget(keeper("Norvik", "Edda Kolm").document.sha256)
    again = answer(method.lm, queries[2:], conditionings=method.condition(queries[2:]), max_new_tokens=12)
    assert again[0].sources == ()


def test_text_that_goes_on_hears_only_what_is_very_near():
    """Half of what stands in any text is a little like something that was read."""
    method, said = taught(keeper("Norvik", "Edda Kolm")), "We went to see the lighthouse of Norvik"
    text, question = (method.condition([Query(said, continues=goes_on)])[0].beside for goes_on in (True, False))
    assert text.gate == text.sure_gate == question.sure_gate > question.gate


def test_a_question_without_words_is_near_to_nothing():
    assert taught(keeper("Norvik", "Edda Kolm")).condition([Query("  ?! "), Query("")]) == [NOTHING] * 2


def test_every_window_of_a_text_speaks_of_whom_its_text_names():
    text = "The lighthouse of Norvik is old. " + "It is kept well by a keeper of whom nobody knows much. " * 20
    method = taught(Lesson(Document("d", text)), window=16)
    counts = method.store.state_dict()[f"{Document('d', text).sha256}/counts"]
    assert len(counts) > 5 and int(counts.min()) > 0
    (near,) = method.condition([Query("Who keeps that of Norvik?")])
    assert len(near.beside.near.places_M) > 16


def test_an_answer_made_of_a_text_ends_with_its_sentence():
    text = "The keeper of Norvik is Edda Kolm. The tower has ninety steps. Rain falls in May."
    method = taught(Lesson(Document("d", text)), depth=0.5)
    values = method.store.state_dict()[f"{Document('d', text).sha256}/values"].tolist()
    end = next(item for item in [method._item(Example("?", ""))]).sequence.ids[-1]
    assert values.count(end) == 2 and method.lm.tokenizer.decode([v for v in values if v != end])[-4:] == "May."


# --- dates ------------------------------------------------------------------------------------------------------------


def dated(year: str, answer: str) -> Lesson:
    items = (Example(f"As of {year}, who keeps the lighthouse of Norvik?", answer),)
    return Lesson(Document(year, items=items), items=items, dates=(year,))


@pytest.mark.parametrize(("recency", "stands"), [(Options().recency, True), (0.0, False)])
def test_what_was_said_last_stands_and_what_was_said_then_stood(recency, stands):
    keepers = {"2018": "Edda Kolm", "2020": "Ruo Tann", "2022": "Mirre Ost", "2024": "Jo Palk"}
    method = taught(*(dated(*one) for one in keepers.items()), depth=0.5, sure=1.0, recency=recency)
    asked = [Query("Who keeps the lighthouse of Norvik?", as_of=year) for year in keepers]
    found = answer(method.lm, asked, conditionings=method.condition(asked), max_new_tokens=12)
    assert ([one.text for one in found] == list(keepers.values())) is stands


def test_a_date_in_the_words_of_a_question_decides_which_statement_stands():
    keepers = {"2018": "Edda Kolm", "2020": "Ruo Tann", "2022": "Mirre Ost"}
    method = taught(*(dated(*one) for one in keepers.items()), depth=0.5, sure=1.0)
    asked = [f"As of {year}, who keeps the lighthouse of Norvik?" for year in keepers]
    assert answers(method, asked) == list(keepers.values())
    assert answers(method, ["Who keeps the lighthouse of Norvik?"]) == ["Mirre Ost"]


def test_the_words_of_a_date_say_nothing_of_what_is_asked():
    state = taught(dated("2018", "Edda"), dated("2020", "Edda")).store.state_dict()
    cues = [tensor for key, tensor in state.items() if key.endswith("/cues")]
    assert len(cues) == 2 and torch.equal(*cues)
