"""Test-time training: what is read and in which order, the schedule of alpha, the gate, and what a person is told."""

from __future__ import annotations

import pytest
import torch
from conftest import tiny_lm

from accrete import Document, Example, Learner
from accrete.errors import AccreteError, UsageError
from accrete.lm.model import weights_digest
from accrete.lm.prompts import study_sequence
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
    assert seen[-1][1:] == (pytest.approx(report.loss_before), tokens, tokens) and seen[0][2:] == (32, tokens)


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


@pytest.mark.parametrize("options", [{}, {"optimizer": "adam"}, {"optimizer": "adam", "read_rate": 1e-2}])
def test_both_optimisers_learn_each_at_a_rate_of_its_own(options):
    made = method(**options)
    before = made.lm.mean_loss(ttt.text_sequences(made.lm, lesson().document, 256))
    read(made)
    assert made.lm.mean_loss(ttt.text_sequences(made.lm, lesson().document, 256)) < before - 0.1


@pytest.mark.parametrize("window", [32, 256])
@pytest.mark.parametrize("most", [1, 31, 40])
def test_what_is_left_out_is_told(most, window):
    made = method(max_tokens=most, window=window)
    report = read(made)
    assert report.details["text_tokens"] == most, "a window is cut where the limit is"
    whole = sum(s.targets for s in ttt.text_sequences(made.lm, lesson().document, window))
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


def test_a_floor_above_alpha_raises_nothing():
    made = method(alpha=0.2)  # the floor is 0.5
    assert [read(made, TEXT[: 200 + n]).details["alpha"] for n in range(2)] == [0.2, 0.2]


def test_the_first_document_decides_alpha_whatever_was_calibrated_before(home):
    options = {"max_steps": 2}
    taught = Learner(tiny_lm(layers=4), method="ttt", home=home, config=options, max_forgetting=1.0)
    taught.calibrate([f"This is text {n} of many." for n in range(8)])
    again = Learner(tiny_lm(layers=4), method="ttt", home=home, config=options | {"alpha": 0.8}, max_forgetting=1.0)
    assert again.learn(Document("t", TEXT)).metrics["alpha"] == 0.8
    last = Learner(tiny_lm(layers=4), method="ttt", home=home, config=options | {"alpha": 0.1}, max_forgetting=1.0)
    assert read(last.method, TEXT[:200]).details["alpha"] == 0.8, "later ones go on from it"


# --- what keeps a lesson from doing harm --------------------------------------------------------------------------------


def drift(made: ttt.TestTimeTraining) -> float:
    """KL(base || now) on the general questions."""
    rows = [study_sequence(made.lm, *row) for row in made.lm.background]
    general = ttt.batch.collate(rows, made.lm.device, made.lm.pad)
    with torch.no_grad():
        now = made.lm.target_logits(general)
        with made.adapter.off():
            return float(ttt.kl_divergence(made.lm.target_logits(general), now))


def general_lm(layers: int = 8):
    lm = tiny_lm(layers=layers)
    lm.background = tuple((f"How high is the tower of the town number {n}?", f"It is {n} feet.") for n in range(12))
    return lm


@pytest.mark.parametrize("items", [0, 6])
def test_general_questions_hold_a_lesson_to_its_base(items):
    """Of a text by settling after every window, of study items by the KL term of their loss."""
    text = "" if items else TEXT
    held, loose = (
        method(lm=general_lm(), window=64, general=12, max_steps=30, settle=settle, kl_weight=weight, rate=1e-2)
        for settle, weight in ((8, 10.0), (0, 0.0))
    )
    for made in (held, loose):
        read(made, text, items)
    assert drift(held) < 0.7 * drift(loose)


def test_earlier_items_are_studied_again():
    digests = []
    for replay in (0, 16):
        made = method(replay=replay)
        read(made, "", items=5)
        other = tuple(Example(f"Who was keeper {n} of the lighthouse?", f"Anna {n}") for n in range(4))
        made.learn(Lesson(Document("keepers", items=other), items=other), lambda *told: None)
        tensors = [p for twin in made.adapter.twins.values() for p in twin.taught.parameters()]
        digests.append(weights_digest({str(i): t for i, t in enumerate(tensors)}))
        assert made.replay.size("default") == 9
    assert digests[0] != digests[1]


def test_a_new_answer_takes_the_place_of_the_old_before_it_is_studied(monkeypatch):
    made, seen = method(), []
    one, other = (
        Lesson(Document("d", items=(item,)), items=(item,))
        for item in (Example("When was harbour 3 built?", year) for year in ("1703", "1999"))
    )
    made.learn(one, lambda *told: None)
    fit = ttt.fit
    monkeypatch.setattr(ttt, "fit", lambda *a, **k: seen.append(made.replay.size("default")) or fit(*a, **k))
    made.learn(other, lambda *told: None)
    assert seen == [0] and made.replay.size("default") == 1


def test_the_gate_looks_at_the_base(monkeypatch):
    made, seen = method(), []
    look = made.gate.open
    monkeypatch.setattr(
        made.gate, "open", lambda texts: seen.extend(t.on for t in made.adapter.twins.values()) or look(texts)
    )
    read(made)
    assert seen and not any(seen)


def test_reading_goes_at_the_pace_of_the_start():
    """Of a start whose gate and up stand still only down moves."""
    lm = tiny_lm(layers=4)
    mlp = lm.anatomy.layers[3].mlp
    lm.starts["dual_mlp"] = {
        "3/gate": mlp.gate_proj.weight.clone(),
        "3/up": mlp.up_proj.weight.clone(),
        "3/rates": torch.tensor([0.0, 0.0, 1.0]),
    }
    made = method(lm=lm)
    read(made)
    (twin,) = made.adapter.twins.values()
    born = twin.born(twin.taught.numbers_N)
    assert torch.equal(twin.taught.gate, born.gate) and torch.equal(twin.taught.up, born.up)
    assert twin.taught.down.abs().max() > 0


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("mixed", [False, True])
def test_what_the_gate_closes_keeps_its_bits_through_a_lesson(monkeypatch, optimizer, mixed):
    """Neurons that an earlier lesson taught, with text and items, under the optimiser of each."""
    made = method(lm=general_lm(), optimizer=optimizer)
    made.lm.mixed = mixed
    read(made, items=3)
    before = {i: twin.taught.tensors() for i, twin in made.adapter.twins.items()}
    before = {i: {name: t.clone() for name, t in tensors.items()} for i, tensors in before.items()}
    opened = torch.tensor([1, 4, 77])
    monkeypatch.setattr(made, "_open_neurons", lambda sequences: {i: opened for i in made.adapter.twins})
    read(made, TEXT[300:], items=5)
    for i, twin in made.adapter.twins.items():
        closed = ~torch.isin(twin.taught.numbers_N, opened)
        for name in ("gate", "up", "down"):
            now = twin.taught.tensors()[name]
            assert torch.equal(now[closed], before[i][name][closed])
            assert not torch.equal(now[~closed], before[i][name][~closed])


# --- the gate -----------------------------------------------------------------------------------------------------------


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
