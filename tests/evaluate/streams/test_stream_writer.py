"""Richer passages: what is sent, what it would cost, and that no passage loses a fact."""

import pytest

from accrete.evaluate.streams import Options, make
from accrete.evaluate.streams._writer import INSTRUCTION, plan, richer


@pytest.fixture(scope="module")
def stream():
    return make("temporal", Options(facts=16, lessons=2))


def plain(prompt):
    return prompt.removeprefix(INSTRUCTION).strip()


def test_the_plan_is_every_passage_and_its_price(stream):
    paragraphs = [text for task in stream.tasks for text in task.document.text.split("\n\n")]
    planned = plan(stream, price_in=1.0, price_out=10.0)
    assert list(map(plain, planned["prompts"])) == paragraphs and planned["requests"] == len(paragraphs)
    assert planned["answer_tokens"] == pytest.approx(sum(map(len, paragraphs)) / 4, rel=0.05)
    assert planned["prompt_tokens"] > planned["answer_tokens"] and planned["tokens"] < 10_000
    assert planned["cost"] == pytest.approx((planned["prompt_tokens"] + 10 * planned["answer_tokens"]) / 1e6)
    assert plan(stream)["cost"] is None


def test_a_good_passage_takes_the_place_of_the_plain_one(stream):
    def teacher(prompts, *, max_new_tokens):
        assert max_new_tokens > 32
        return [f"It is told:\n\n{plain(prompt)}" for prompt in prompts]

    told = richer(stream, teacher)
    for task, before in zip(told.tasks, stream.tasks, strict=True):
        paragraphs = task.document.text.split("\n\n")
        assert len(paragraphs) == len(before.document.text.split("\n\n"))
        assert all(text.startswith("It is told: ") for text in paragraphs)
        assert [probe.context for probe in task.probes] == [f"It is told: {p.context}" for p in before.probes]
        assert task.document.items == before.document.items
    assert told.about["passages by a teacher"] == told.about["passages"] > 4


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text, fact, date: text.replace(fact.value, "someone", 1),
        lambda text, fact, date: f"{text} Indeed it was {fact.value}.",  # twice is not once
        lambda text, fact, date: text.replace(date, "then"),
        lambda text, fact, date: text.replace(fact.subject, "it").replace(
            fact.subject[0].upper() + fact.subject[1:], "It"
        ),
        lambda text, fact, date: "",
    ],
)
def test_a_passage_that_lost_a_fact_is_not_taken(stream, spoil):
    task = stream.tasks[0]
    victim = task.probes[0]

    def teacher(prompts, *, max_new_tokens):
        texts = map(plain, prompts)
        return [spoil(text, victim.fact, task.name) if text == victim.context else f"So: {text}" for text in texts]

    told = richer(stream, teacher)
    assert told.tasks[0].probes[0].context == victim.context
    assert victim.context in told.tasks[0].document.text.split("\n\n")
    assert told.about["passages"] - told.about["passages by a teacher"] == 1


def test_facts_that_are_studied_but_not_asked_count_too():
    stream = make("temporal", Options(facts=4, lessons=1, limit=1))
    unasked = stream.tasks[0].document.items[2].answer
    assert (
        unasked not in stream.tasks[0].probes[0].answers
        and unasked.lower() in stream.tasks[0].probes[0].context.lower()
    )
    told = richer(stream, lambda prompts, max_new_tokens: [plain(p).replace(unasked, "x") for p in prompts])
    assert told.tasks == stream.tasks


def test_it_works_for_undated_streams():
    stream = make("world", Options(lessons=1, facts=5))
    told = richer(stream, lambda prompts, max_new_tokens: [f"Well, {plain(p)}" for p in prompts])
    assert told.tasks[0].document.text.startswith("Well, ")
