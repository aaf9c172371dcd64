"""The Learner: a lesson is a transaction, undo is exact, and nothing but the lesson reaches the method."""

import json
from types import SimpleNamespace

import pytest
import torch

from accrete import Answer, Document, Example, Learner, Probe, Query, Report
from accrete.errors import DocumentError, HistoryError, HomeError, LessonError, UsageError
from accrete.lm import batch, decode
from accrete.lm.prompts import study_sequence
from accrete.store import sentinels

CONFIG = {"max_steps": 3, "batch_size": 4, "kl_batch": 2, "text_epochs": 1}
TEXT = "The lighthouse of Morvane was built in 1871 by Edda Kolm. Its light is green and seen for nine miles."


@pytest.fixture
def make_learner(make_lm, home):
    def make(home=home, seed=0, **options):
        return Learner(make_lm(layers=2, seed=seed), method="full_finetune", home=home, config=CONFIG, **options)

    return make


@pytest.fixture
def learner(make_learner):
    return make_learner()


def document(number=1, name=None):
    items = tuple(Example(f"What is part {i} of thing {number}?", f"Value {number}{i}.") for i in range(4))
    return Document(name or f"d{number}.jsonl", items=items)


def logits(learner):
    sequence = study_sequence(learner.lm, "What is part 1 of thing 1?", "Value 11.")
    with torch.no_grad():
        return learner.lm.logits(batch.collate([sequence], learner.lm.device, learner.lm.pad))


def fail_halfway(learner, monkeypatch, error):
    """The method changes weights, replay and random state, and then raises."""

    def learn(lesson, progress):
        progress(1, 0.0)
        type(learner.method).learn(learner.method, lesson, progress)
        raise error

    monkeypatch.setattr(learner.method, "learn", learn)


# --- learning -------------------------------------------------------------------------------------------------------


def test_a_lesson_changes_the_model_and_says_what_it_did(learner):
    birth, before = learner.digest, logits(learner)
    probes = [Probe("What is part 2 of thing 1?", ("Value 12.",))]
    commit = learner.learn(document(), probes=probes, domain="things")
    assert (commit.digest_before, commit.digest_after) == (birth, learner.digest)
    assert commit.digest_before != commit.digest_after and not torch.equal(before, logits(learner))
    assert (commit.document, commit.domain, commit.number, commit.parent) == ("d1.jsonl", "things", 1, None)
    assert commit.config["max_steps"] == 3 and not commit.already
    metrics = commit.metrics
    assert metrics["loss_after"] < metrics["loss_before"]
    assert metrics["steps"] == 3 and metrics["tokens"] > 8 and metrics["probes"] == 1
    assert all(0 <= metrics[key] <= 1 for key in ("kept_before", "kept_after", "probes_before", "probes_after"))
    assert 0 < metrics["learning_seconds"] <= metrics["seconds"]


def test_a_lesson_that_does_harm_is_taken_back(learner, monkeypatch):
    birth, before = learner.digest, logits(learner)

    def learn(lesson, progress):
        with torch.no_grad():
            for parameter in learner.lm.model.parameters():
                parameter.add_(torch.randn_like(parameter))
        return Report()

    monkeypatch.setattr(learner.method, "learn", learn)
    with pytest.raises(LessonError, match="taken back"):
        learner.learn(document())
    assert learner.digest == birth and torch.equal(logits(learner), before)
    (refused,) = learner.log()
    assert refused.undone and "taken back" in refused.metrics["refused"]


def test_a_model_has_one_learner(make_lm, home):
    lm = make_lm(layers=2)
    Learner(lm, home=home)
    with pytest.raises(UsageError, match="already has a learner"):
        Learner(lm, home=home / "other")


def test_a_disk_without_room_is_seen_before_the_lesson(learner, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1_000))
    monkeypatch.setattr(learner.method, "learn", lambda *_: pytest.fail("it was learned first"))
    with pytest.raises(HomeError, match=r"full.*Nothing was lost"):
        learner.learn(document())


def test_the_same_content_is_learned_once_whatever_its_name(learner, tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(TEXT)
    first = learner.learn(tmp_path / "a.txt")
    again = learner.learn(tmp_path / "b.txt")
    assert again.already and again.id == first.id
    assert learner.digest == first.digest_after and len(learner.log()) == 1


def test_an_undone_document_can_be_learned_again_and_gives_the_same(learner):
    first = learner.learn(document())
    learner.undo()
    second = learner.learn(document())
    assert not second.already and second.id != first.id
    assert second.digest_after == first.digest_after
    assert [commit.undone is None for commit in learner.log()] == [False, True]


def test_learning_in_a_fresh_process_gives_the_same(make_learner, tmp_path):
    """What another learner learns after loading the journal is what the first one would have learned."""
    one, two = make_learner(home=tmp_path / "one"), make_learner(home=tmp_path / "two")
    one.learn(document(1))
    two.learn(document(1))
    assert one.learn(document(2)).digest_after == make_learner(home=tmp_path / "two").learn(document(2)).digest_after


def test_learn_from_text(learner):
    commit = learner.learn_from_text(TEXT, domain="sea", importance=2.0)
    assert commit.document == "The lighthouse of Morvane was ..." and commit.domain == "sea"
    assert learner.learn_from_text(TEXT, name="other").already


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_an_empty_text_is_refused(learner, text):
    with pytest.raises(DocumentError, match="empty"):
        learner.learn_from_text(text)


def test_a_document_too_short_to_predict_anything_is_refused(learner):
    birth = learner.digest
    with pytest.raises(DocumentError, match="too little"):
        learner.learn_from_text("a")
    assert learner.log() == [] and learner.digest == birth


def test_an_unknown_method_or_option_suggests(make_lm, home):
    with pytest.raises(UsageError, match='Did you mean "full_finetune"'):
        Learner(make_lm(layers=2), home=home, method="ful_finetune")
    with pytest.raises(UsageError, match='Did you mean "max_steps"'):
        Learner(make_lm(layers=2), method="lora_replay_ewc", home=home, config={"max_step": 3})
    with pytest.raises(UsageError, match="rate"):
        Learner(make_lm(layers=2), method="lora_replay_ewc", home=home, config={"rate": "quick"})


def test_probes_and_sentinels_never_reach_the_method(learner, monkeypatch):
    seen = []

    def learn(lesson, progress):
        seen.append(lesson)
        return type(learner.method).learn(learner.method, lesson, progress)

    monkeypatch.setattr(learner.method, "learn", learn)
    probe = Probe("Which Zyxwort is asked?", ("Qwyzzle.",), context="Zyxwort context")
    learner.learn(document(), probes=[probe], domain="things", importance=0.5)
    (lesson,) = seen
    assert lesson.items == document().items and (lesson.domain, lesson.importance) == ("things", 0.5)
    hidden = ["Zyxwort", "Qwyzzle", *(question for question, _, _ in learner.lm.sentinels)]
    assert not any(text in repr(lesson) for text in hidden)


# --- transaction ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("error", "taught"), [(ValueError("broken"), False), (KeyboardInterrupt(), True)])
def test_a_lesson_that_fails_leaves_no_trace(learner, make_learner, monkeypatch, error, taught):
    if taught:
        learner.learn(document(1))
    digest, before, log = learner.digest, logits(learner), learner.log()
    with monkeypatch.context() as patch:
        fail_halfway(learner, patch, error)
        with pytest.raises(type(error)):
            learner.learn(document(2))
    assert learner.digest == digest and torch.equal(logits(learner), before) and learner.log() == log
    here = learner.learn(document(2))
    undisturbed = make_learner(home=learner.home.with_name("undisturbed"))
    if taught:
        undisturbed.learn(document(1))
    assert here.digest_after == undisturbed.learn(document(2)).digest_after


def test_a_failure_while_saving_or_measuring_leaves_no_trace(learner, monkeypatch):
    commit = learner.learn(document(1))
    before = logits(learner)
    for stage in ("measuring", "learning", "saving"):

        def stop(at, step, loss, stage=stage):
            if at == stage:
                raise KeyboardInterrupt

        monkeypatch.setattr(learner, "progress", stop)
        with pytest.raises(KeyboardInterrupt):
            learner.learn(document(2))
        assert learner.digest == commit.digest_after and torch.equal(logits(learner), before)
    assert learner.log() == [commit]


def test_an_undo_that_fails_leaves_the_lesson(learner, monkeypatch):
    commit = learner.learn(document(1))

    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(learner.history.journal, "undo", fail)
        with pytest.raises(KeyboardInterrupt):
            learner.undo()
    assert learner.digest == commit.digest_after and learner.log() == [commit]
    assert learner.undo().id == commit.id


# --- undo -----------------------------------------------------------------------------------------------------------


def test_undo_is_exact_down_to_birth(learner):
    states = [(learner.digest, logits(learner))]
    for number in (1, 2, 3):
        learner.learn(document(number) if number != 2 else Document("text", TEXT))
        states.append((learner.digest, logits(learner)))
    assert len({digest for digest, _ in states}) == 4
    for number in (3, 2, 1):
        undone = learner.undo()
        digest, before = states[number - 1]
        assert undone.number == number and undone.digest_before == learner.digest == digest
        assert torch.equal(logits(learner), before)
    with pytest.raises(HistoryError, match="nothing to undo"):
        learner.undo()


def test_undo_is_exact_in_a_fresh_process(learner, make_learner):
    birth = logits(learner)
    first = learner.learn(document(1))
    middle = logits(learner)
    learner.learn(document(2))
    fresh = make_learner()
    assert torch.equal(logits(fresh), logits(learner))
    fresh.undo()
    assert fresh.digest == first.digest_after and torch.equal(logits(fresh), middle)
    fresh = make_learner()
    fresh.undo()
    assert fresh.digest == first.digest_before and torch.equal(logits(fresh), birth)


# --- several learners -----------------------------------------------------------------------------------------------


def test_a_second_learner_sees_the_commits_of_the_first_at_its_next_lesson(learner, make_learner):
    second = make_learner()
    one = learner.learn(document(1))
    two = second.learn(document(2))
    assert two.parent == one.id and two.digest_before == one.digest_after
    assert learner.learn(document(2)).already and learner.digest == two.digest_after
    learner.undo()
    assert second.learn(document(3)).digest_before == one.digest_after


def test_two_learners_do_not_touch_each_other(learner, make_learner, tmp_path):
    other = make_learner(home=tmp_path / "other")
    birth, before = other.digest, logits(other)
    learner.learn(document(1))
    assert other.digest == birth and torch.equal(logits(other), before) and other.log() == []
    other.learn(document(2))
    assert [commit.document for commit in learner.log()] == ["d1.jsonl"]


def test_two_models_in_one_home_have_histories_of_their_own(learner, make_learner):
    commit = learner.learn(document(1))
    other = make_learner(seed=1)
    assert other.base != learner.base and other.log() == []
    assert not other.learn(document(1)).already
    other.undo()
    assert learner.log() == [commit] and make_learner().digest == commit.digest_after


# --- asking ---------------------------------------------------------------------------------------------------------


def test_answers_in_a_batch_are_those_of_one_question_each(learner):
    queries = [Query("What is thing 1?"), Query("Who built the lighthouse of Morvane?", context=TEXT)]
    batched = learner.answer(queries, max_new_tokens=6)
    single = [learner.ask(query.question, context=query.context, max_new_tokens=6) for query in queries]
    assert [answer.text for answer in batched] == [answer.text for answer in single]
    assert all(0 < answer.tokens <= 6 for answer in batched)


def test_generate_is_greedy_at_zero_and_seeded_above(learner):
    greedy = learner.generate("The lighthouse", max_new_tokens=12)
    assert greedy and learner.generate("The lighthouse", max_new_tokens=12, seed=5) == greedy
    warm = [learner.generate("The lighthouse", max_new_tokens=12, temperature=2.0, seed=seed) for seed in (0, 0, 1)]
    assert warm[0] == warm[1] and len({greedy, *warm}) == 3
    assert "".join(learner.stream("The lighthouse", max_new_tokens=12)) == greedy


def test_generate_takes_an_empty_and_an_endless_prompt(learner):
    assert learner.generate("", max_new_tokens=3) != ""
    assert learner.generate("word " * 2_000, max_new_tokens=3) != ""


def test_asking_changes_nothing(learner):
    digest = learner.digest
    learner.ask("What is thing 1?", max_new_tokens=4)
    learner.generate("Once", max_new_tokens=4, temperature=1.0)
    assert learner.digest == digest


def test_grades_are_shares(learner, monkeypatch):
    assert learner.grade([]) is None
    monkeypatch.setattr(decode, "answer", lambda lm, queries, **_: [Answer("Edda Kolm") for _ in queries])
    right, wrong = Probe("Who built it?", ("Edda Kolm", "E. Kolm")), Probe("Who built it?", ("Ragna",))
    assert (learner.grade([right]), learner.grade([wrong]), learner.grade([right, wrong])) == (1.0, 0.0, 0.5)


@pytest.fixture
def few_prompts(monkeypatch):
    few = sentinels.general_prompts()[:30]
    monkeypatch.setattr(sentinels, "general_prompts", lambda: few)


def test_a_model_without_sentinels_makes_its_own_once(make_learner, few_prompts):
    learner, again = (make_learner(max_forgetting=1.0) for _ in range(2))
    lm = learner.lm
    for one in (lm, again.lm):
        one.sentinels = one.background = ()
    before = learner.digest
    commit = learner.learn(document())
    assert commit.metrics["kept_before"] == 1.0 and commit.digest_before == before
    (path,) = (learner.home / "sentinels").iterdir()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert {row["split"] for row in rows} == {"guard", "scored", "background"}
    assert len({row["question"] for row in rows}) == len(rows)
    assert not {q for q, _ in lm.background} & {q for q, _, _ in lm.sentinels}
    again.learn(document(2))  # reads what was made, though the model has been taught since
    assert again.lm.sentinels == lm.sentinels and again.lm.background == lm.background


def test_sentinels_are_made_by_the_base_model_not_the_taught_one(make_learner, few_prompts):
    first, late = make_learner(max_forgetting=1.0), make_learner(max_forgetting=1.0)
    first.lm.sentinels = first.lm.background = ()
    first.learn(document())
    made = first.lm.sentinels
    (first.home / "sentinels" / f"{first.base[:16]}.jsonl").write_text("{damaged")
    late.lm.sentinels = late.lm.background = ()
    late.learn(document(2))
    assert late.lm.sentinels == made


# --- status and checkpoints -----------------------------------------------------------------------------------------


def test_status_says_what_is_there(learner):
    birth = learner.status()
    commit = learner.learn(document())
    status = learner.status()
    assert status["layers"] == {"total": 2, "modified": 2, "frozen": 0}
    assert status["parameters"]["total"] == status["parameters"]["trainable"] > 100_000
    assert status["method"]["name"] == learner.method_name and status["method"]["config"]["max_steps"] == 3
    assert set(status["method"]["parts"]) == set(learner.method.parts)
    assert (birth["lessons"], birth["head"], status["lessons"], status["head"]) == (0, None, 1, commit.id)
    assert (birth["digest"], status["digest"]) == (commit.digest_before, commit.digest_after)
    assert status["home"] == str(learner.home) and status["bytes"] > birth["bytes"] == 0
    assert {"model", "base_digest", "device", "dtype"} <= status.keys()


def test_a_checkpoint_carries_a_lesson_to_another_home_and_can_be_undone(learner, make_learner, tmp_path):
    taught = learner.learn(document(1))
    learner.save_checkpoint(tmp_path / "checkpoint")
    other = make_learner(home=tmp_path / "other")
    birth, before = other.digest, logits(other)
    commit = other.load_checkpoint(tmp_path / "checkpoint")
    assert other.digest == commit.digest_after == taught.digest_after and torch.equal(logits(other), logits(learner))
    assert other.learn(document(2)).digest_after == learner.learn(document(2)).digest_after
    other.undo()
    other.undo()
    assert other.digest == birth and torch.equal(logits(other), before)


def test_a_checkpoint_of_an_untaught_learner_is_birth(learner, make_learner, tmp_path):
    birth = learner.digest
    learner.save_checkpoint(tmp_path / "checkpoint")
    learner.learn(document(1))
    learner.load_checkpoint(tmp_path / "checkpoint")
    assert learner.digest == birth
    assert learner.undo().document == "checkpoint checkpoint"
    assert learner.digest == learner.log()[0].digest_after


def test_a_checkpoint_of_another_model_is_refused(learner, make_learner, tmp_path):
    learner.save_checkpoint(tmp_path / "checkpoint")
    other = make_learner(seed=1)
    birth = other.digest
    with pytest.raises(HistoryError, match="another base model"):
        other.load_checkpoint(tmp_path / "checkpoint")
    assert other.digest == birth and other.log() == []


def test_after_a_load_what_is_not_in_the_state_can_be_learned_again(learner, tmp_path):
    learner.learn(document(1))
    learner.save_checkpoint(tmp_path / "one")
    second = learner.learn(document(2)).digest_after
    learner.load_checkpoint(tmp_path / "one")
    assert learner.learn(document(1)).already  # it is in what was loaded
    again = learner.learn(document(2))
    assert not again.already and again.digest_after == second


def test_what_a_checkpoint_holds_is_known_in_another_home(learner, make_learner, tmp_path):
    learner.learn(document(1))
    learner.save_checkpoint(tmp_path / "one")
    other = make_learner(tmp_path / "other")
    other.load_checkpoint(tmp_path / "one")
    assert other.learn(document(1)).already and not other.learn(document(2)).already
    assert [(row["domain"], row["lessons"]) for row in other.domains()] == [("default", 2)]


@pytest.mark.parametrize(("method", "known"), [("full_finetune", True), ("lora_replay_ewc", False)])
def test_a_document_is_known_by_domain_where_domains_are_kept_apart(make_lm, home, method, known):
    options = {"max_steps": 2, "batch_size": 4}
    learner = Learner(make_lm(layers=2), method=method, home=home, config=options, max_forgetting=1.0)
    learner.learn(document(1), domain="ships")
    assert learner.learn(document(1), domain="towns").already is known
    assert learner.learn(document(1), domain="ships").already


@pytest.mark.parametrize("importance", [0.0, -1.0, 1e-9, 1e39, float("nan"), float("inf")])
def test_an_importance_that_is_none_is_refused(learner, importance):
    with pytest.raises(UsageError, match="importance"):
        learner.learn(document(1), importance=importance)
