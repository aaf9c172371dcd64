"""The harness on a method whose every answer is known: would it tell a lie? And a run that is killed goes on."""

from pathlib import Path

import pytest

from accrete import methods
from accrete.evaluate import compare as comparing
from accrete.evaluate import drift as drifting
from accrete.evaluate import record, results, streams
from accrete.evaluate.ask import ask, score
from accrete.evaluate.drift import Drift, shipped
from accrete.evaluate.run import Job, lines, run
from accrete.reader import Reader
from accrete.types import Probe


@pytest.fixture
def parrot(monkeypatch):
    """The double among the methods."""
    monkeypatch.setattr(
        methods, "__path__", [*methods.__path__, str(Path(__file__).parents[1] / "doubles" / "methods")]
    )


def in_this_process(path, threads, told):
    """What `compare` does in a process of its own, without one."""
    job = Job.model_validate_json(path.read_text())
    try:
        run(
            job,
            path.with_suffix(".jsonl"),
            lambda what, step, steps: told({"what": what, "step": step, "steps": steps}),
        )
    except RuntimeError as error:
        return str(error)
    return ""


@pytest.fixture
def measured(parrot, model_directory, tmp_path):
    """Compare parrots on words; returns the row of the first."""

    def measure(lessons=3, full_matrix=False, out=tmp_path / "out", **config):
        job = Job(
            stream="identity",
            options=streams.Options(lessons=lessons, facts=3),
            method="parrot",
            config=config,
            model=str(model_directory),
            full_matrix=full_matrix,
        )
        return comparing.compare(comparing.Comparison((job,)), out, launch=in_this_process)["rows"][0]

    return measure


def test_what_is_said_back_is_learned_and_kept(measured):
    row = measured()
    assert (row["learned"], row["kept"], row["floor"], row["forgetting"]) == (1.0, 1.0, 0.0, 0.0)
    assert row["error"] is None and row["ceiling"] == 0.0  # a random model cannot read


def test_one_that_learns_nothing_stands_at_the_floor(measured):
    row = measured(holds="nothing")
    assert row["learned"] == row["floor"] == row["kept"] == 0.0


def test_one_that_forgets_everything_has_all_forgetting(measured):
    row = measured(holds="last", full_matrix=True)
    assert row["learned"] == 1.0 and row["forgetting"] == 1.0 and row["bwt"] == -1.0
    assert row["kept"] == pytest.approx(1 / 3)


def test_answers_of_another_document_score_no_better_than_none(measured):
    """It knows three answers by heart after each lesson, and none is true of what is asked."""
    row = measured(of="other", lessons=2)
    assert row["learned"] == row["wrong_document"] == row["floor"] == 0.0


# --- over time: what changes and what does not, as `temporal` has it ---------------------------------------------------


@pytest.fixture
def over_time(parrot, model_directory, tmp_path):
    """The row of an oracle that says `says(probe, now)` after the lesson of period `now`; and the periods' probes."""

    def measure(says):
        options = streams.Options(lessons=3, facts=12)
        tasks = streams.make("temporal", options).tasks
        knows = [{p.question: says(p, now, tasks) for task in tasks for p in task.probes} for now in range(3)]
        job = Job(
            stream="temporal", options=options, method="oracle", config={"knows": knows}, model=str(model_directory)
        )
        return comparing.compare(comparing.Comparison((job,)), tmp_path, launch=in_this_process)["rows"][0], tasks

    return measure


def value_at(probe, tasks, period):
    """What is true of the probe's subject and relation in a period."""
    asked = probe.fact.subject, probe.fact.relation
    return next(p.answers[0] for p in tasks[period].probes if (p.fact.subject, p.fact.relation) == asked)


def test_who_knows_every_period_is_plastic_stable_and_versioned(over_time):
    row, _ = over_time(lambda probe, now, tasks: probe.answers[0])
    assert row["plasticity"] == row["stability"] == row["versioned"] == row["kept"] == 1.0


def test_who_knows_only_what_holds_now_knows_no_version_of_before(over_time):
    row, _ = over_time(lambda probe, now, tasks: value_at(probe, tasks, now))
    assert (row["plasticity"], row["stability"], row["versioned"]) == (1.0, 1.0, 0.0)
    assert row["kept"] < 1.0 and row["forgetting"] > 0.0


def test_who_stays_with_the_first_period_is_not_plastic_and_forgets_nothing(over_time):
    row, tasks = over_time(lambda probe, now, tasks: value_at(probe, tasks, 0))
    unchanged = [[p for p in task.probes if p.kind == "unchanged"] for task in tasks[1:]]
    still = [sum(p.answers[0] == value_at(p, tasks, 0) for p in probes) / len(probes) for probes in unchanged]
    assert (row["plasticity"], row["forgetting"]) == (0.0, 0.0)
    assert row["stability"] == pytest.approx(sum(still) / 2) and row["versioned"] > 0.0


def test_who_knows_nothing_has_the_floor_everywhere(over_time):
    row, _ = over_time(lambda probe, now, tasks: "nobody knows")
    assert row["floor"] == 0.0
    assert row["plasticity"] == row["stability"] == row["versioned"] == row["learned"] == row["floor"]


# --- asking -----------------------------------------------------------------------------------------------------------


def test_a_known_answer_is_likely(parrot, make_lm):
    lm = make_lm()
    from accrete.methods.parrot import Parrot, ParrotConfig

    method = Parrot(lm, ParrotConfig())
    method.memory.answers = {"amber 0-0": "cedar"}
    (row,), _ = ask(Reader(lm, method), [Probe("Which word stands for amber 0-0?", ("cedar",))])
    assert row["answer"] == "cedar" and row["contains"] == 1.0
    assert row["log_likelihood"] == pytest.approx(0.0, abs=1e-3)


def test_a_question_without_an_answer_is_likely_to_be_given_up(make_lm):
    """The likelihood of saying nothing at all would be that of an end, whatever is asked."""
    reader = Reader(make_lm(), None)
    (none,), _ = ask(reader, [Probe("Who?", ("",))])
    (told,), _ = ask(reader, [Probe("Who?", ("not stated",))])
    assert none["log_likelihood"] == told["log_likelihood"]


def test_drift_is_none_of_the_base_and_some_of_another(make_lm):
    lm, texts = make_lm(), ("The river rose in the night.", "Nobody saw it.")
    tokens = sum(len(lm.tokenizer(text, add_special_tokens=False)["input_ids"]) - 1 for text in texts)
    drift = Drift(lm, texts)
    still, moved = drift.measure(Reader(lm, None)), drift.measure(Reader(make_lm(seed=1), None))
    assert (still["kl_to_base"], still["top1_agreement"]) == (0.0, 1.0)
    assert still["positions"] == still["perplexity_positions"] == tokens
    assert moved["kl_to_base"] > 0.01 and moved["top1_agreement"] < 1.0 and moved["perplexity"] > 1.0


def test_drift_on_streams_without_text_is_measured_on_the_shipped_one(make_lm):
    lm = make_lm()
    found = Drift(lm).measure(Reader(lm, None))
    assert found["perplexity_of"] == drifting.SHIPPED and Drift(lm, ("One.",)).of == drifting.OWN
    assert len(shipped()) == 12 and found["positions"] > 1_000


def test_where_there_is_little_room_the_beginning_of_every_text_is_compared(make_lm, monkeypatch):
    lm, texts = make_lm(), ("The river rose in the night.", "Nobody in the town saw it.")
    whole = Drift(lm, texts).measure(Reader(lm, None))
    monkeypatch.setattr(drifting, "ENTRIES", len(lm.tokenizer) * 2 * 3)
    little = Drift(lm, texts).measure(Reader(lm, None))
    assert little["positions"] == 6 and little["perplexity_positions"] == whole["perplexity_positions"] > 6
    assert little["perplexity"] == pytest.approx(whole["perplexity"])


def test_scores_do_not_depend_on_batch_or_order(make_lm):
    """Long and short questions in one batch, alone, and the other way round."""
    reader = Reader(make_lm(), None)
    probes = [Probe(f"What is {'the very ' * i}word number {i}?", ("cedar",)) for i in range(7)]
    together, _ = ask(reader, probes)
    backwards, _ = ask(reader, probes[::-1])
    alone = [ask(reader, [probe])[0][0] for probe in probes]
    for rows in (backwards[::-1], alone):
        assert [row["answer"] for row in rows] == [row["answer"] for row in together]
        for one, other in zip(rows, together, strict=True):
            assert one["log_likelihood"] == pytest.approx(other["log_likelihood"], abs=1e-4)


def test_abstaining_is_right_only_where_there_is_no_answer():
    assert score("not stated", ("",)) == dict.fromkeys(("exact_match", "token_f1", "contains", "grade"), 1.0)
    assert score("In 1066", ("",))["token_f1"] == 0.0
    assert score("not stated", ("1066",))["contains"] == 0.0
    for said in ("Not stated.", "not stated in the passage", ""):  # as the model's own decoding has it (lm/decode.py)
        assert score(said, ("",))["exact_match"] == 1.0
    assert score("It is not stated", ("",))["contains"] == 0.0


def test_a_killed_run_goes_on_after_its_last_line(measured, tmp_path, monkeypatch):
    whole = measured(out=tmp_path / "whole")
    out = tmp_path / "killed"
    written = record.append

    def dies(path, line):
        if line["step"] == 2:
            raise RuntimeError("killed")
        written(path, line)

    monkeypatch.setattr(record, "append", dies)
    assert measured(out=out)["error"] == "killed"
    monkeypatch.setattr(record, "append", written)
    with (out / "seed-0" / "parrot.jsonl").open("a") as file:
        file.write('{"step": 2, "les')  # cut off
    row = measured(out=out)
    assert [line["step"] for line in lines(out / "seed-0" / "parrot.jsonl")] == [1, 2, 3]
    for key in ("learned", "kept", "matrix", "kl_to_base", "bytes"):
        assert row[key] == whole[key]
    assert not (out / "seed-0" / "parrot.home").exists()


def test_a_method_that_fails_is_a_row_with_its_error(measured):
    row = measured(fails_at=2)
    assert row["error"] == "the parrot is tired" and row["learned"] is None
    assert set(results.FIGURES) <= set(row)


def test_a_folder_holds_one_comparison(measured):
    measured()
    with pytest.raises(comparing.UsageError, match="holds another comparison"):
        measured(holds="last")


def test_seeds_draw_other_words_and_are_averaged(parrot, model_directory, tmp_path):
    job = Job(stream="identity", options=streams.Options(lessons=2), method="parrot", model=str(model_directory))
    found = comparing.compare(comparing.Comparison((job,), seeds=(0, 1)), tmp_path, launch=in_this_process)
    asked = [lines(tmp_path / f"seed-{seed}" / "base.jsonl")[0]["stream"]["tasks"][0]["probes"] for seed in (0, 1)]
    assert asked[0] != asked[1]
    assert found["rows"][0]["learned"] == 1.0 and found["rows"][0]["spread"]["learned"] == 0.0
