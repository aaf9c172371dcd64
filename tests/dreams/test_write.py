"""Writers: the model itself in batches, each row at its own temperature; and what is asked of a writer, in what order."""

from __future__ import annotations

import pytest
import torch
from conftest import tiny_lm

from accrete.dreams.reread import reread
from accrete.dreams.write import ModelWriter, can_write, restate, write_questions
from accrete.lm import decode
from accrete.lm.model import LM
from accrete.lm.prompts import prompt_ids
from accrete.lm.tasks import ANSWER, RESTATE, REVERSE, WRITE_QUESTIONS, prompt
from accrete.types import Example

PASSAGES = ("Brota lies by a spring.", "The Vau sails from Quorv.")


@pytest.fixture(scope="module")
def lm() -> LM:
    return tiny_lm(layers=2)


class Script:
    """A writer whose texts are looked up by the prompt, the n-th time it comes the n-th; it notes what it is asked."""

    name = "script"

    def __init__(self, **texts: list[str]) -> None:
        self.texts, self.calls = texts, []

    def __call__(self, prompts, *, max_new_tokens, temperatures=(), seed=0):
        self.calls.append((list(prompts), list(temperatures), seed, max_new_tokens))
        return [self._text(text) for text in prompts]

    def _text(self, text: str) -> str:
        for key, said in self.texts.items():
            if key in text:
                return said.pop(0) if len(said) > 1 else said[0]
        return ""


# --- the model --------------------------------------------------------------------------------------------------------


def greedy(lm: LM, text: str, count: int) -> str:
    (ids,) = decode.generate(lm, [prompt_ids(lm, text)], count)
    return lm.tokenizer.decode(ids, skip_special_tokens=True).strip()


def test_the_model_writes_greedily_what_it_would_alone(lm: LM) -> None:
    prompts = [prompt(WRITE_QUESTIONS, PASSAGES[0]), "Who?", prompt(RESTATE, PASSAGES[1])]
    assert ModelWriter(lm)(prompts, max_new_tokens=9) == [greedy(lm, text, 9) for text in prompts]


def test_rows_of_one_batch_have_temperatures_of_their_own(lm: LM) -> None:
    writer, text = ModelWriter(lm), prompt(WRITE_QUESTIONS, PASSAGES[0])
    one = writer([text] * 4, max_new_tokens=12, temperatures=[0.0, 1.5, 1.5, 0.0], seed=3)
    assert one[0] == one[3] == greedy(lm, text, 12) and len({*one}) == 3
    assert writer([text] * 4, max_new_tokens=12, temperatures=[0.0, 1.5, 1.5, 0.0], seed=3) == one
    assert writer([text] * 4, max_new_tokens=12, temperatures=[0.0, 1.5, 1.5, 0.0], seed=4) != one


def test_many_prompts_are_written_in_several_batches(lm: LM, monkeypatch) -> None:
    monkeypatch.setattr("accrete.dreams.write.ROWS", 2)
    prompts = [f"Who is {'very ' * (i % 3)}number {i}?" for i in range(7)]
    assert ModelWriter(lm)(prompts, max_new_tokens=4) == [greedy(lm, text, 4) for text in prompts]


def test_what_the_model_cannot_read_whole_gets_no_text(lm: LM) -> None:
    texts = ModelWriter(lm)(["word " * 2_000, "Who?"], max_new_tokens=4)
    assert texts == ["", greedy(lm, "Who?", 4)]
    nearly = "word " * 240
    assert len(prompt_ids(lm, nearly)) < lm.context_length
    assert ModelWriter(lm)([nearly], max_new_tokens=2_000), "it stops where its context ends"


def test_a_model_that_babbles_cannot_write(lm: LM) -> None:
    assert not can_write(PASSAGES, ModelWriter(lm))


@pytest.mark.parametrize(
    ("text", "can"),
    [("Q: Who?\nA: Edda", True), ("Here they are:\n\n**Question:** Who?", True), ("FAQ: no", False), ("", False)],
)
def test_a_writer_begins_with_a_question(text: str, can: bool) -> None:
    assert can_write(PASSAGES, Script(Brota=[text])) is can


# --- what is asked ----------------------------------------------------------------------------------------------------


def write(writer: Script, passages=PASSAGES, rounds=1, samples=2):
    return write_questions(
        passages, writer, max_new_tokens=50, rounds=rounds, samples=samples, temperature=0.7, seed=10
    )


def test_greedy_comes_first_and_all_in_one_batch() -> None:
    writer = Script(Brota=["Q: a?\nA: 1", "Q: b?\nA: 2", "Q: c?\nA: 1"], Vau=["nothing"])
    written = write(writer, rounds=0)
    assert written == [[Example("a?", "1"), Example("b?", "2"), *[Example("c?", "1")] * 3], []]
    ((prompts, temperatures, seed, most),) = writer.calls
    assert temperatures == [0.0] * 4 + [0.7] * 6 and (seed, most) == (10, 50)
    assert prompts[:4] == [prompt(task, passage) for task in (WRITE_QUESTIONS, REVERSE) for passage in PASSAGES]
    assert prompts[4:] == [
        prompt(task, passage) for task in (WRITE_QUESTIONS, WRITE_QUESTIONS, REVERSE) for passage in PASSAGES
    ]


def test_more_is_drawn_only_where_there_was_news() -> None:
    """News is an answer that stands in the passage and was not written greedily."""
    writer = Script(
        Brota=["Q: a?\nA: spring", "Q: b?\nA: spring", "Q: c?\nA: Brota"],
        Vau=["Q: a?\nA: Quorv", "Q: b?\nA: the Vau", "Q: c?\nA: Quorv\nQ: d?\nA: made up"],
    )
    write(writer, rounds=5)
    (first, *_), (second, temperatures, seed, _), *more = writer.calls
    assert len(first) == 10 and not more, "the second batch brought nothing new, so there is no third"
    assert all("Brota" in text for text in second) and len(second) == 3
    assert temperatures == [0.7] * 3 and seed == 11


def test_a_passage_with_nothing_to_ask_about_ends_it() -> None:
    writer = Script()
    assert write(writer, rounds=3) == [[], []] and len(writer.calls) == 1


def test_restating_asks_for_each_sentence() -> None:
    writer = Script(Brota=["By a spring lies Brota."])
    assert restate(["Brota lies by a spring."], writer, len) == ["By a spring lies Brota."]
    assert restate([], writer, len) == [] and len(writer.calls) == 1
    assert writer.calls[0][0] == [prompt(RESTATE, "Brota lies by a spring.")]


def test_what_is_answered_otherwise_on_reading_again_goes() -> None:
    reader = Script(**{"Who leads": ["the Edda Kolm.\nQ: and?"], "Where": ["not stated"], "How": ["46,700 people"]})
    pairs = [Example("Who leads Quorv?", "Edda Kolm"), Example("Where is Quorv?", "x"), Example("How many?", "46,700")]
    assert reread("A passage.", pairs, reader, 5) == pairs[:1]
    ((prompts, temperatures, _, most),) = reader.calls
    assert prompts[0] == f"{ANSWER}\n\nA passage.\n\nWho leads Quorv?" and temperatures == [] and most < 20
    assert reread("A passage.", [], reader, 5) == [] and len(reader.calls) == 1


def test_the_reader_is_the_model_itself_too(lm: LM) -> None:
    """Many questions about one passage share its tokens; the answers are those of one question alone."""
    passage = "Brota lies by a spring and sells silk to all who come. " * 8
    said = {q: greedy(lm, f"{ANSWER}\n\n{passage}\n\n{q}", 20) for q in ("Where?", "Who is it?", "What is sold there?")}
    pairs = [Example(question, answer.split("\n")[0] or "x") for question, answer in said.items()]
    with torch.no_grad():
        assert reread(passage, [*pairs, Example("Where?", "elsewhere")], ModelWriter(lm), 12) == pairs
