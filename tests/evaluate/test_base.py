"""`evaluate`: a reader that knows the truth scores 1 everywhere, one that says nothing 0, and the sums are right."""

import json
import lzma
import math

import pytest

from accrete.data.corpus import restated
from accrete.data.real import held_out
from accrete.data.world import World
from accrete.errors import DocumentError, UsageError
from accrete.evaluate import base, real, worlds
from accrete.evaluate.base import BARS, MAIN, MEASURES, evaluate, measures
from accrete.evaluate.figures import Figure, share
from accrete.lm.prompts import question_text
from accrete.lm.tasks import (
    ANSWER,
    LIST_FACTS,
    RESTATE,
    REVERSE,
    WRITE_QUESTIONS,
    about,
    prompt,
    write_facts,
    write_pairs,
)
from accrete.types import Answer, Example

WORLD = [key for measure in MEASURES if not measure.real for key in measure.keys]
SIZE = 8


def truth():
    """The right reply to every (context, question) that is put on held-out worlds."""
    known = {}
    for unseen in (True, False):
        for make in (worlds.questions, worlds.histories, worlds.by_heart):
            known |= {(p.context, p.question): p.answers[0] for p in make(SIZE, unseen)}
    known |= {(f"{ANSWER}\n\n{p.context}", p.question): p.answers[0] for p in worlds.half_unanswerable(SIZE)}
    world = World(1)
    for reading in worlds.passages(SIZE):
        asked = [Example(world.ask(fact), fact.value) for fact in reading.facts]
        backwards = [Example(world.reverse(fact), fact.subject) for fact in reading.facts]
        known["", prompt(WRITE_QUESTIONS, reading.text)] = write_pairs(asked)
        known["", prompt(REVERSE, reading.text)] = write_pairs(backwards)
    for reading in [*worlds.listings(SIZE), *worlds.dated_listings(SIZE)]:
        known["", prompt(LIST_FACTS, reading.text)] = write_facts(reading.facts)
    sayer = World(worlds.SEED)
    for reading in worlds.sentences(SIZE):
        entity = sayer.entity(facts=sayer.random.choice((1, 1, 2, 3)))
        sayer.passage([entity], True)
        assert entity.facts == reading.facts
        known["", prompt(RESTATE, reading.text)] = restated(world, entity, reading.text)
    return known


@pytest.fixture
def replies(monkeypatch):
    """What the model under test says, as a function of a query."""

    def say(reply):
        monkeypatch.setattr(base.decode, "answer", lambda lm, queries, **_: [Answer(reply(query)) for query in queries])

    return say


def test_a_reader_that_knows_the_truth_scores_one(make_lm, replies):
    known = truth()
    replies(lambda query: known.get((query.context, query.question), "I do not know."))
    found = evaluate(make_lm(), limit=SIZE)
    assert [key for key in found if key in WORLD] == WORLD
    assert found["in_context_without_passage"] == 0.0
    assert {key: found[key] for key in WORLD if found[key] != 1.0} == {"in_context_without_passage": 0.0}
    assert found["n"]["in_context"] == SIZE and found["n"]["not_stated_recall"] == SIZE // 2
    assert found["n"]["questions_covered"] == sum(len(reading.facts) for reading in worlds.passages(SIZE))
    assert set(found["interval"]) == set(BARS) and found["interval"]["in_context"] == [1.0, 1.0]
    json.dumps(found, allow_nan=False)


def test_a_reader_that_says_nothing_scores_zero_and_nothing_is_divided_by_zero(make_lm, replies):
    replies(lambda query: "")
    found = evaluate(make_lm(), limit=SIZE)
    assert {found[key] for key in WORLD} == {0.0} and found["n"]["questions_right"] == 0


def test_always_not_stated_is_right_half_of_the_time(make_lm, replies):
    replies(lambda query: "Not stated.")
    found = evaluate(make_lm(), limit=SIZE, only=["not_stated_f1"])
    assert (found["not_stated_precision"], found["not_stated_recall"], found["not_stated_f1"]) == (0.5, 1.0, 0.667)
    assert "in_context" not in found


def test_one_right_pair_written_many_times_counts_once(make_lm, replies):
    reading = worlds.passages(1)[0]
    fact = reading.facts[0]
    pair = Example(World(1).ask(fact), fact.value)
    replies(lambda query: write_pairs([pair] * 9 + [Example("Who?", "me")]))
    found = evaluate(make_lm(), limit=1, only=["questions_right"])
    assert found["questions_right"] == 0.5 and found["n"]["questions_right"] == 2
    assert found["questions_covered"] == round(1 / len(reading.facts), 3)


def test_the_passage_that_is_copied_is_not_restated(make_lm, replies):
    replies(lambda query: query.question.partition("\n\n")[2])
    assert evaluate(make_lm(), limit=SIZE, only=["restating"])["restating"] == 0.0


# --- real sets ------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """A data folder with small sets under the names of the real ones, which are read whether packed or not."""
    (kept, seen) = (next(str(i) for i in range(9_999) if held_out(str(i)) is wanted) for wanted in (True, False))
    texts = [{"id": kept, "text": "A kept text, line by line. " * 60}, {"id": seen, "text": "S" * 3_000}]
    asked = [
        {"context": f"Anna has {i} cats. They sleep.", "question": "How many cats?", "answers": [f"{i}", f"{i} cats"]}
        for i in range(20)
    ]
    for names, rows in ((real.TEXTS, texts), (real.QUESTIONS, asked)):
        for name in names.values():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            with lzma.open(tmp_path / name, "wt", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
    return tmp_path


def test_real_questions_are_scored_by_the_best_of_their_answers_beside_trivial_readers(make_lm, replies, folder):
    replies(lambda query: query.context.split()[2] + " CATS.")
    found = evaluate(make_lm(), folder, 10, ["squad_em", "fairytale_f1"])
    assert (found["squad_em"], found["squad_f1"], found["fairytale_f1"]) == (1.0, 1.0, 1.0)
    assert found["squad_first_sentence_em"] == 0.0 and 0.5 < found["squad_first_sentence_f1"] < 0.8
    assert found["n"]["squad_f1"] == 10 and found["interval"]["squad_em"] == [1.0, 1.0]


def test_bits_per_byte_of_a_random_model_are_those_of_guessing(make_lm, folder):
    lm = make_lm()
    found = evaluate(lm, folder, 3, ["bits_per_byte"])
    (piece, *_) = real.pieces(folder, "openstax", 3)
    assert "kept" in piece and len(piece) <= real.PIECE
    guessing = math.log2(len(lm.tokenizer)) * lm.count_tokens(piece) / len(piece.encode())
    assert found["bits_per_byte_openstax"] == pytest.approx(guessing, rel=0.15)
    assert found["bits_per_byte"] == pytest.approx(found["bits_per_byte_wikipedia"], abs=0.002)
    assert found["n"]["bits_per_byte"] == 2 * len(real.pieces(folder, "openstax", 3))


def test_a_piece_longer_than_the_model_reads_is_cut(make_lm, folder):
    cut, whole = (evaluate(make_lm(max_position_embeddings=n), folder, 1, ["bits_per_byte"]) for n in (64, 512))
    assert cut["bits_per_byte"] == pytest.approx(whole["bits_per_byte"], rel=0.2)


def test_without_a_folder_the_real_sets_are_left_out_and_it_is_said(make_lm, replies):
    replies(lambda query: "")
    said = []
    found = evaluate(make_lm(), limit=1, only=["in_context", "squad_em"], announce=said.append)
    assert "squad_em" not in found and found["n"] == {"in_context": 1}
    assert sum("left out" in line for line in said) == 1
    evaluate(make_lm(), limit=1, only=["in_context"], announce=said.append)
    assert sum("left out" in line for line in said) == 1


def test_a_folder_that_lacks_a_set_is_one_sentence(make_lm, folder, tmp_path):
    (folder / real.QUESTIONS["squad"]).unlink()
    for wrong, words in ((folder, real.QUESTIONS["squad"]), (tmp_path / "nowhere", "nowhere")):
        with pytest.raises(DocumentError, match=words):
            evaluate(make_lm(), wrong, 1, ["bits_per_byte"])


def test_an_unknown_figure_is_answered_with_a_near_one():
    with pytest.raises(UsageError, match='Did you mean "in_context"'):
        measures(["in_contxt"])
    assert [measure.keys[0] for measure in measures(["squad_f1", "in_context"])] == ["in_context", "squad_em"]


# --- figures --------------------------------------------------------------------------------------------------------


def test_an_interval_holds_the_value_and_narrows_with_the_number_of_passages():
    few, many = (Figure((1.0, 0.0) * n, (1.0, 1.0) * n, 2 * n) for n in (10, 500))
    for figure in (few, many):
        low, high = figure.interval()
        assert low < figure.value < high
    assert few.interval()[1] - few.interval()[0] > 3 * (many.interval()[1] - many.interval()[0])
    assert few.interval() == few.interval()


def test_passages_are_drawn_whole():
    """Ten questions about one passage that are all right or all wrong are no ten independent ones."""
    alone = share(range(40), [1.0, 0.0] * 20)
    together = share([i // 10 for i in range(40)], [float(i // 10 % 2) for i in range(40)])
    assert alone.value == together.value and alone.n == together.n == 40
    assert together.interval()[1] - together.interval()[0] > alone.interval()[1] - alone.interval()[0]


def test_every_figure_has_one_name_and_every_bar_and_interval_a_figure():
    keys = [key for measure in MEASURES for key in measure.keys]
    assert len(keys) == len(set(keys)) and set(BARS) | set(MAIN) <= set(keys)


def test_a_tiny_model_is_measured_for_real(make_lm):
    """Nothing replaced: prompts fit, long outputs end, figures are shares."""
    found = evaluate(make_lm(), limit=2)
    assert all(0 <= found[key] <= 1 for key in WORLD)


def test_prompts_are_those_of_the_training(make_lm, replies):
    """What is put to the model reads, whole, as `tasks.about` and `tasks.prompt` write it for training."""
    asked = []
    replies(lambda query: asked.append(question_text(query.question, query.context)) or "")
    evaluate(make_lm(), limit=1, only=["in_context", "not_stated_f1", "restating"])
    (plain,), (silent,), (reading,) = worlds.questions(1), worlds.half_unanswerable(1), worlds.sentences(1)
    assert asked == [
        about(plain.context, plain.question),
        about(silent.context, silent.question, instructed=True),
        prompt(RESTATE, reading.text),
    ]
