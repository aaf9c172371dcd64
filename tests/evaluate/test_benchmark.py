"""The short check: the base's figures are taken once and stand, and what a lesson cost is what was answered before it."""

import json
from pathlib import Path

import pytest

from accrete import Learner, methods
from accrete.errors import DocumentError, HomeError
from accrete.evaluate import benchmark as checking
from accrete.evaluate.benchmark import benchmark, questions, scores
from accrete.types import Document, Example, Probe, Query

WORDS = ("amber 0-0", "basil 0-1")


@pytest.fixture(autouse=True)
def parrot(monkeypatch):
    monkeypatch.setattr(
        methods, "__path__", [*methods.__path__, str(Path(__file__).parents[1] / "doubles" / "methods")]
    )


@pytest.fixture
def learner(make_lm, home):
    return Learner(make_lm(), method="parrot", home=home)


@pytest.fixture
def probes(learner, monkeypatch):
    """Two questions whose right answers are what the base says, so that it is always right."""
    monkeypatch.setattr("accrete.evaluate.ask.LONGEST", 24)  # a random model never comes to an end
    asked = [f"Which word stands for {word}?" for word in WORDS]
    answers = learner.reader.answer([Query(question, "Read this.") for question in asked], max_new_tokens=24)
    return [Probe(q, ("never", a.text), "Read this.") for q, a in zip(asked, answers, strict=True)]


def teach(learner, word=WORDS[0], answer="cedar"):
    text = f"The word for {word} is {answer}."
    learner.learn(Document(word, text, (Example(f"What is the word for {word}?", answer),)))


def test_without_lessons_the_baseline_is_measured_and_kept(learner, probes):
    found = benchmark(learner, probes)
    assert found["lessons"] == 0 and found["baseline_was"] == "measured"
    assert found["now"] == found["baseline"] == {"exact_match": 1.0, "f1": 1.0}
    assert found["forgetting_ratio"] == {"exact_match": 0.0, "f1": 0.0}
    kept = json.loads(Path(found["baseline_file"]).read_text())
    assert kept["scores"] == {"exact_match": [1.0, 1.0], "f1": [1.0, 1.0]} and kept["base_digest"] == learner.base
    assert Path(found["baseline_file"]).parent == learner.home / "benchmarks" and json.dumps(found)


def test_what_a_lesson_cost_is_seen_whether_the_baseline_was_there_or_not(learner, probes, make_lm, tmp_path):
    early = benchmark(learner, probes)
    teach(learner)
    found = benchmark(learner, probes)
    assert found["baseline_was"] == "stored" and found["lessons"] == 1
    assert found["now"]["exact_match"] == 0.5 and found["forgetting_ratio"]["exact_match"] == 0.5
    Path(found["baseline_file"]).unlink()
    late = benchmark(learner, probes)
    assert late["baseline_was"] == "measured" and late["baseline"] == early["baseline"]
    assert late | {"baseline_was": "stored"} == found
    assert learner.ask(probes[0].question).text == "cedar"  # the lesson is back
    teach(learner, WORDS[1])
    assert benchmark(learner, probes)["forgetting_ratio"] == {"exact_match": 1.0, "f1": 1.0}


def test_the_ratio_is_none_where_the_base_knows_nothing(learner):
    found = benchmark(learner, [Probe("Who?", ("no such answer",), "Text.")])
    assert found["forgetting_ratio"] == {"exact_match": None, "f1": None}


def test_other_questions_and_other_bases_have_baselines_of_their_own(learner, probes, make_lm, home):
    first = benchmark(learner, probes)
    assert benchmark(learner, probes[:1])["baseline_file"] != first["baseline_file"]
    other = benchmark(Learner(make_lm(seed=1), method="parrot", home=home), probes)
    assert other["baseline_was"] == "measured" and other["baseline_file"] != first["baseline_file"]


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "{", '{"scores": {"exact_match": [1, 1]}}', '{"scores": {"exact_match": [1, 2], "f1": [1, 1]}}',
        '{"scores": {"exact_match": [1], "f1": [1]}}', '{"scores": {"exact_match": [1, NaN], "f1": [1, 1]}}',
        '{"scores": {"exact_match": 0.5, "f1": 0.5}}',  # as it was kept before
    ],
)  # fmt: skip
def test_a_damaged_baseline_is_measured_again(learner, probes, content):
    found = benchmark(learner, probes)
    Path(found["baseline_file"]).write_text(content)
    assert benchmark(learner, probes) == found


def test_a_home_that_takes_nothing_is_one_sentence(learner, probes, monkeypatch):
    def full(path, write):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checking, "write_text", full)
    with pytest.raises(HomeError, match="the disk is full"):
        benchmark(learner, probes)


def test_every_answer_that_is_accepted_counts(learner, probes):
    halves = [Probe(p.question, ("never",), p.context) for p in probes[:1]] + list(probes[1:])
    assert scores(learner.reader, halves)["exact_match"] == (0.0, 1.0)


def measured(learner, monkeypatch, before, now):
    """The benchmark of a learner with one lesson whose questions are right (1) or wrong (0) as told."""
    asked = [Probe(f"Question {n}?", ("yes",), "Text.") for n in range(len(before))]
    told = iter([now, before])
    monkeypatch.setattr(checking, "scores", lambda *_: dict.fromkeys(checking.SCORES, next(told)))
    return benchmark(learner, asked)


def test_how_many_are_right_how_sure_that_is_and_whether_a_ratio_means_anything(learner, monkeypatch):
    teach(learner)
    found = measured(learner, monkeypatch, (1.0,) * 20 + (0.0,) * 20, (1.0,) * 15 + (0.0,) * 25)
    assert found["right"] == {"baseline": 20, "now": 15} and found["few"] == {"exact_match": False, "f1": False}
    low, high = found["intervals"]["baseline"]["exact_match"]
    assert 0.3 < low < 0.4 < 0.6 < high < 0.7  # 0.5 ± 1.96 sqrt(0.25 / 40) = 0.155
    low, high = found["intervals"]["forgetting_ratio"]["f1"]
    assert 0.02 < low < 0.1 and found["forgetting_ratio"]["f1"] == 0.25 and 0.4 < high < 0.5


def test_few_right_answers_give_no_interval_of_a_ratio_and_none_at_all_no_interval(learner, monkeypatch):
    teach(learner)
    found = measured(learner, monkeypatch, (1.0,) * 9 + (0.0,) * 20, (0.0,) * 29)
    assert found["few"]["exact_match"] and found["forgetting_ratio"]["exact_match"] == 1.0
    assert found["intervals"]["forgetting_ratio"]["exact_match"] is None
    assert found["intervals"]["now"]["exact_match"] is None, "where nothing is right, drawing anew says nothing"
    assert found["intervals"]["baseline"]["exact_match"] is not None and json.dumps(found, allow_nan=False)


def test_as_base_goes_back_whatever_happens(learner):
    teach(learner)
    digest, question = learner.digest, f"Which word stands for {WORDS[0]}?"
    with learner.as_base() as reader:
        assert reader.answer([Query(question)], 24)[0].text != "cedar"
    with pytest.raises(KeyboardInterrupt), learner.as_base():
        raise KeyboardInterrupt
    assert learner.digest == digest and learner.ask(question).text == "cedar"


def test_questions_are_the_same_every_time_and_have_answers(tmp_path, monkeypatch):
    rows = [
        {"title": f"T{n // 3}", "context": f"Text {n}.", "question": f"Q{n}?", "answers": ["Text"] if n % 4 else []}
        for n in range(40)
    ]
    path = tmp_path / "dev.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    drawn = questions(path, 10)
    assert len(drawn) == 10 and drawn == questions(path, 10) and all(probe.answers == ("Text",) for probe in drawn)
    assert len(questions(path)) == 30
    path.write_text(json.dumps(rows[0]))
    with pytest.raises(DocumentError, match="no question that its passage answers"):
        questions(path)
    monkeypatch.delenv("ACCRETE_DATA", raising=False)
    with pytest.raises(DocumentError, match="--data or ACCRETE_DATA"):
        questions(None)
