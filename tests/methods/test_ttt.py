"""Test-time training: what is read and in which order, the schedule of alpha, the gate, and what a person is told."""

from __future__ import annotations

import pytest
import torch
from conftest import tiny_lm

from accrete import Document, Example, Learner
from accrete.errors import AccreteError, UsageError
from accrete.methods import ttt
from accrete.types import Lesson

TEXT = " ".join(
    f"Harbour {n} of the northern coast was built in {1700 + n} by the guild of rope makers." for n in range(12)
)
QUIET = {"calibration": 0, "max_steps": 4}


def method(home=None, lm=None, **options) -> ttt.TestTimeTraining:
    return ttt.TestTimeTraining(lm or tiny_lm(layers=8), ttt.Options(**(QUIET | options)))


def lesson(text: str = TEXT, items: int = 0) -> Lesson:
    document = Document(
        "harbours", text, tuple(Example(f"When was harbour {n} built?", str(1700 + n)) for n in range(items))
    )
    return Lesson(document, items=document.items)


def read(made: ttt.TestTimeTraining, text: str = TEXT, items: int = 0, seen=None):
    return made.learn(lesson(text, items), lambda *told: seen.append(told) if seen is not None else None)


def test_every_token_of_the_text_is_scored_before_it_is_learned():
    made = method(window=128)
    before = made.lm.mean_loss(ttt.text_sequences(made.lm, lesson().document, 128))
    seen: list[tuple] = []
    report = read(made, seen=seen)
    tokens = sum(s.targets for s in ttt.text_sequences(made.lm, lesson().document, 128))
    assert report.tokens == report.details["text_tokens"] == tokens
    assert report.details["learned_from"] == f"{tokens:,} tokens of its text"
    # What comes later was easier for what had been learned by then, and the text is easier now than it was.
    assert report.loss_before < before and [step for step, *_ in seen] == [4 * n for n in range(1, len(seen) + 1)]
    assert made.lm.mean_loss(ttt.text_sequences(made.lm, lesson().document, 128)) < before
    assert seen[-1][1:] == (pytest.approx(report.loss_before), tokens) and seen[0][2] == 32


def test_the_first_mini_batch_is_scored_by_the_base():
    made = method(window=128, mini_batch=256, steps=3)
    text = TEXT[:120]
    (window,) = ttt.text_sequences(made.lm, Document("t", text), 128)
    before = made.lm.mean_loss([window])
    assert read(made, text).loss_before == pytest.approx(before, abs=1e-4)


def test_more_steps_learn_more():
    after = []
    for steps in (1, 8):
        made = method(steps=steps, read_rate=0.3)
        read(made)
        after.append(made.lm.mean_loss(ttt.text_sequences(made.lm, lesson().document, 256)))
    assert after[1] < after[0]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_both_optimisers_learn(optimizer):
    made = method(optimizer=optimizer, read_rate=1.0 if optimizer == "sgd" else 1e-2)
    before = made.lm.mean_loss(ttt.text_sequences(made.lm, lesson().document, 256))
    read(made)
    assert made.lm.mean_loss(ttt.text_sequences(made.lm, lesson().document, 256)) < before - 0.1


def test_what_is_left_out_is_told():
    made = method(max_tokens=40, window=32)
    report = read(made)
    assert 0 < report.details["text_tokens"] <= 40
    whole = sum(s.targets for s in ttt.text_sequences(made.lm, lesson().document, 32))
    assert report.details["text_tokens"] + report.details["text_tokens_left_out"] == whole
    assert f"({report.details['text_tokens_left_out']:,} left out: max_tokens)" in report.details["learned_from"]


def test_text_and_items_are_both_learned_and_told():
    report = read(method(), items=5)
    assert report.details["learned_from"].endswith("tokens of its text and 5 questions")
    assert report.steps > 4 and report.details["stopped_at_limit"] is True
    assert read(method(), text="", items=5).details["learned_from"] == "5 questions"


def test_alpha_falls_with_every_document_down_to_its_floor_and_the_function_stays():
    made = method(alpha=0.9, alpha_decay=0.8, alpha_floor=0.6)
    alphas = [read(made, TEXT[: 200 + n]).details["alpha"] for n in range(4)]
    assert alphas == pytest.approx([0.9, 0.72, 0.6, 0.6])
    ids = torch.arange(5, 30)[None]
    with torch.no_grad():
        before = made.lm.model(input_ids=ids).logits
        made.adapter.move_alpha(0.2)
        torch.testing.assert_close(made.lm.model(input_ids=ids).logits, before, atol=1e-5, rtol=1e-4)


def test_its_own_background_calibrates_the_gate_once():
    made = method(calibration=2_000, threshold=0.3)
    made.lm.background = ()
    assert made.about()["gate"].startswith("not calibrated")
    made.lm.background = tuple((f"What is {n}?", f"It is {n}.") for n in range(20))
    assert "itself" in made.about()["gate"]
    read(made)
    assert made.gate.texts == 20 and "calibrated on 20 texts" in made.about()["gate"]
    held = [len(twin.taught) for twin in made.adapter.twins.values()]
    assert all(0 < count < 128 for count in held)
    counts = {i: t.clone() for i, t in made.gate.counts.items()}
    read(made, TEXT[:200])
    assert all(torch.equal(made.gate.counts[i], t) for i, t in counts.items())


def test_without_calibration_everything_is_open():
    made = method()
    made.lm.background = ()
    read(made)
    assert [len(twin.taught) for twin in made.adapter.twins.values()] == [128, 128]
    assert "all neurons are open" in made.about()["gate"]


def test_a_calibration_is_a_commit_that_is_kept_and_undone(home):
    texts = [f"Sentence {n} about nothing." for n in range(20)]
    learner = Learner(tiny_lm(layers=8), method="ttt", home=home, config=QUIET, max_forgetting=1.0)
    commit = learner.calibrate(texts)
    assert commit.document == "calibration on 20 texts" and learner.method.gate.texts == 20
    assert "calibrated on 20 texts" in learner.status()["method"]["about"]["gate"]
    again = Learner(tiny_lm(layers=8), method="ttt", home=home, config=QUIET, max_forgetting=1.0)
    assert again.method.gate.texts == 20 and again.digest == learner.digest
    again.learn(Document("d", TEXT))
    assert all(0 < len(twin.taught) < 128 for twin in again.method.adapter.twins.values())
    again.undo()
    again.undo()
    assert again.method.gate.texts == 0
    with pytest.raises(UsageError, match="at least 8"):
        again.calibrate(texts[:3])
    with pytest.raises(UsageError, match="nothing to calibrate"):
        Learner(tiny_lm(), method="retrieve", home=home).calibrate(texts)


def test_a_checkpoint_holds_the_twins_alone_and_another_depth_is_refused(home, tmp_path):
    learner = Learner(tiny_lm(layers=8), method="ttt", home=home, config=QUIET, max_forgetting=1.0)
    learner.learn(Document("d", TEXT))
    learner.save_checkpoint(tmp_path / "saved")
    size = sum(path.stat().st_size for path in (tmp_path / "saved").iterdir())
    twins = 2 * 3 * 128 * 64 * 4
    assert twins < size < twins + 60_000
    other = Learner(
        tiny_lm(layers=8), method="ttt", home=home.with_name("other"), config=QUIET | {"depth": 0.9}, max_forgetting=1.0
    )
    with pytest.raises(AccreteError, match="other layers"):
        other.load_checkpoint(tmp_path / "saved")
    assert other.method.adapter.state_dict() == {"alpha": 0.5}


def test_a_loss_that_is_no_number_ends_the_lesson():
    made = method()
    made.lm.model.lm_head.weight.data[7] = torch.nan
    with pytest.raises(AccreteError, match="nan after 0 steps: a lower read_rate"):
        read(made)


def test_a_sliding_window_sees_as_much_before_every_mini_batch():
    lm = tiny_lm(layers=8)
    windows = ttt.text_sequences(lm, lesson().document, 96, 64)
    assert len(windows) > 8 and all(w.targets <= 32 for w in windows)
    assert [w.target_from for w in windows[-4:]] == [64] * 4
    whole = [token for w in windows for token in w.ids[w.target_from :]]
    assert whole == list(lm.tokenizer(TEXT, add_special_tokens=False)["input_ids"])
    assert read(method(window=96, context=64)).tokens == len(whole) - 1


@pytest.mark.parametrize("family", ["qwen2", "llama"])
def test_a_base_in_bfloat16_is_read_and_studied(home, family):
    lm = tiny_lm(family, layers=8)
    lm.model.to(torch.bfloat16)
    learner = Learner(lm, method="ttt", home=home, config=QUIET | {"max_steps": 30}, max_forgetting=1.0)
    for document in (Document("text", TEXT), Document("items", items=lesson(items=5).document.items)):
        metrics = learner.learn(document).metrics
        assert metrics["loss_after"] < metrics["loss_before"] - 0.05
    assert {p.dtype for twin in learner.method.adapter.twins.values() for p in twin.taught.parameters()} == {
        torch.float32
    }
    learner.undo()
    learner.undo()
    assert learner.method.adapter.state_dict() == {"alpha": 0.5}
