"""Sparse memory finetuning: which rows a lesson opens, under which optimiser, and what forgetting a document leaves."""

from __future__ import annotations

import pytest
import torch
from conftest import tiny_lm

from accrete import Document, Example, Learner
from accrete.adapters.product_keys import Shape, at_random
from accrete.errors import ModelError
from accrete.evaluate.streams import Options, make
from accrete.lm.batch import collate
from accrete.lm.prompts import study_sequence
from accrete.losses.distill import kl_divergence
from accrete.methods import base, sparse_memory
from accrete.optim.rows import RowAdam
from accrete.types import Lesson

SMALL = {"layers": (0.5, 0.75), "slots": 256, "top_k": 4, "heads": 2, "key_width": 16, "rows": 40, "max_steps": 6}


def method(lm=None, **options) -> sparse_memory.SparseMemory:
    return sparse_memory.SparseMemory(lm or tiny_lm(layers=4), sparse_memory.Options(**(SMALL | options)))


def lesson(name: str = "harbours", items: int = 5, text: str = "") -> Lesson:
    examples = tuple(Example(f"When was the {name} number {n} built?", str(1700 + n)) for n in range(items))
    return Lesson(Document(name, text, examples), items=examples)


def learn(made: sparse_memory.SparseMemory, *arguments, **options):
    return made.learn(lesson(*arguments, **options), lambda *told: None)


def values(made: sparse_memory.SparseMemory) -> list[torch.Tensor]:
    return [table.holds(torch.arange(len(table.place_N))) for table in made.adapter.tables.values()]


@pytest.mark.parametrize("selection", ["tfidf", "kl", "random"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_lesson_writes_at_most_t_rows_of_a_layer(selection, optimizer):
    made = method(selection=selection, optimizer=optimizer)
    report = learn(made)
    moved = [int((v != 0).any(-1).sum()) for v in values(made)]
    assert all(0 < count <= 40 for count in moved)
    assert report.details["rows_written"] == sum(
        len(t.writes[lesson().document.sha256][0]) for t in made.adapter.tables.values()
    )


def test_all_of_what_is_read_is_written_without_a_gate():
    gated, free = method(), method(selection="all")
    assert learn(free).details["rows_written"] > learn(gated).details["rows_written"] == 80


def test_rows_are_chosen_by_the_items_against_the_background():
    made = method()
    learn(made)
    other = method(background=0)
    learn(other)
    assert made.gate.batches == len(made.lm.background) and other.gate.batches == 0
    rows = [next(iter(m.adapter.tables.values())).writes[lesson().document.sha256][0] for m in (made, other)]
    assert not torch.equal(*rows)


@pytest.mark.parametrize("options", [{}, {"per": "batch"}, {"shared": True}])
def test_a_lesson_is_the_same_in_whatever_order_rows_lie(options):
    """Of a memory that comes back, rows lie in their order; of one that goes on, as they were opened."""
    made, other = method(**options), method(**options)
    learn(made, "harbours")
    base.restore(other, base.state_of(made))
    assert options.get("per") != "batch" or not torch.equal(places(made), places(other))
    for one in (made, other):
        learn(one, "lighthouses")
    assert base.digest(made) == base.digest(other)


def places(made: sparse_memory.SparseMemory) -> torch.Tensor:
    return torch.cat([table.place_N for table in made.adapter.tables.values()])


def test_what_is_read_of_strangers_too_is_written_less():
    """Slots that are read at the words "Who heads ... ?" are those of everybody."""
    shares = []
    for count in (0, 4):
        made = method(strangers=count, general=0)
        made.lm.background = (*made.lm.background, ("Who heads Sprocket?", "Mabel"), ("Where is Gantry?", "here"))
        asked = [("Who heads Zibrai?", "Fefrynk"), ("Where is Tuchau?", "there")]
        items = tuple(Example(*row) for row in asked)
        made.learn(Lesson(Document("heads", "", items), items=items), lambda *told: None)
        others = [
            study_sequence(made.lm, "Who heads Gantry?", "Mabel"),
            study_sequence(made.lm, "Where is Mabel?", "x"),
        ]
        texts = list(made._read(others))
        read = {i: torch.cat([text[i] for text in texts]) for i in made.adapter.memories}
        held = {i: (made.adapter.tables[i].place_N[slots] >= 0).float().mean() for i, slots in read.items()}
        shares.append(sum(held.values()))
        assert len(made.gate.lessons) == 1
    assert shares[1] < 0.8 * shares[0]


def test_what_was_taught_before_is_background_for_what_comes():
    made, forgetful = method(), method(remember=False)
    for one in (made, forgetful):
        learn(one)
        learn(one, "lighthouses")
    shas = [lesson(name).document.sha256 for name in ("harbours", "lighthouses")]
    assert list(made.gate.lessons) == shas and not forgetful.gate.lessons
    shared = [
        sum(int(torch.isin(t.writes[shas[1]][0], t.writes[shas[0]][0]).sum()) for t in one.adapter.tables.values())
        for one in (made, forgetful)
    ]
    assert shared[0] < shared[1], "what the first lesson wrote is written less by the second"
    made.calibrate([])
    assert list(made.gate.lessons) == shas
    made.forget(shas[0])
    assert list(made.gate.lessons) == shas[1:]


def test_chosen_anew_for_every_batch_padding_and_general_rows_do_not_count(monkeypatch):
    made, seen = method(per="batch", general=4), []
    open_rows = made.gate.open
    monkeypatch.setattr(made.gate, "open", lambda layer, slots: seen.append(len(slots)) or open_rows(layer, slots))
    learn(made)
    tokens = sum(len(study_sequence(made.lm, i.question, i.answer).ids) for i in lesson().items)
    assert seen and set(seen) == {tokens}
    assert all(len(t.writes[lesson().document.sha256][0]) >= 40 for t in made.adapter.tables.values())


def test_general_rows_hold_it_to_its_base():
    drifts = []
    for weight in (0.0, 10.0):
        made = method(kl_weight=weight, general=4, max_steps=40, rate=0.3)
        rows = collate([study_sequence(made.lm, *row) for row in made.lm.background])
        learn(made)
        with torch.no_grad(), made.adapter.off():
            base = made.lm.target_logits(rows)
        with torch.no_grad():
            drifts.append(float(kl_divergence(base, made.lm.target_logits(rows))))
    assert drifts[1] < 0.8 * drifts[0], drifts


def test_earlier_items_are_studied_again():
    tables = []
    for replay in (0, 16):
        made = method(replay=replay)
        learn(made)
        learn(made, "lighthouses")
        tables.append(values(made))
    assert not torch.equal(tables[0][0], tables[1][0])


def test_each_optimiser_has_a_rate_of_its_own():
    assert isinstance(method()._optimizer(), RowAdam)
    for options, rate in (({}, 0.1), ({"optimizer": "sgd"}, 2_000.0), ({"optimizer": "sgd", "rate": 3.0}, 3.0)):
        assert [group["lr"] for group in method(**options)._optimizer().param_groups] == [rate]


def test_a_model_brings_where_its_memories_look():
    lm = tiny_lm(layers=4)
    random = method(tiny_lm(layers=4)).adapter.memories[2].product_keys.queries
    lm.starts["memory_layer"] = {
        f"{i}/{n}": t for i in (2, 3) for n, t in at_random(Shape(256, 2, 4, 16), 64, 9).items()
    }
    made, without = method(lm), method(tiny_lm(layers=4), start="none")
    assert made.about()["looks"].startswith("as the model's") and without.about()["looks"] == "at random"
    assert torch.equal(without.adapter.memories[2].product_keys.queries, random)
    assert not torch.equal(made.adapter.memories[2].product_keys.queries, random)


def test_a_text_without_items_is_learned():
    made = method(max_steps=60)
    text = "The harbour of the northern coast was built in 1703 by the guild of rope makers."
    report = made.learn(Lesson(Document("h", text)), lambda *told: None)
    assert report.loss_after < report.loss_before - 0.1 and report.details["rows_written"] > 0


# --- forgetting a document ----------------------------------------------------------------------------------------------


def test_rows_that_no_later_lesson_touched_come_back_bit_for_bit():
    made = method()
    learn(made, "harbours")
    learn(made, "lighthouses")
    before = values(made)
    learn(made, "bridges")
    found = made.forget(lesson("bridges").document.sha256)
    assert (found["rows_restored"], found["rows_learned_again"], found["steps"]) == (80, 0, 0)
    assert found["forgot"] == "80 rows that are as they were before it; no later lesson shares any"
    assert all(torch.equal(now, old) for now, old in zip(values(made), before, strict=True))
    assert made.replay.size("all") == 10 and made.replay.lessons["all"] == 2


def test_shared_rows_are_learned_again_from_the_later_lessons():
    made = method(max_steps=30)
    learn(made, "harbours")
    learn(made, "lighthouses")
    shas = [lesson(name).document.sha256 for name in ("harbours", "lighthouses")]
    rows = [[t.writes[sha][0] for sha in shas] for t in made.adapter.tables.values()]
    alone = [one[~torch.isin(one, other)] for one, other in rows]
    shared = [one[torch.isin(one, other)] for one, other in rows]
    untouched = [other[~torch.isin(other, one)] for one, other in rows]
    before = values(made)
    found = made.forget(shas[0])
    assert found["rows_restored"] == sum(map(len, alone)) and found["rows_learned_again"] == sum(map(len, shared)) > 0
    assert found["steps"] > 0
    for table, old, mine, both, others in zip(values(made), before, alone, shared, untouched, strict=True):
        assert not table[mine].any() and torch.equal(table[others], old[others])
        assert table[both].any() and not torch.equal(table[both], old[both])
    (left,) = {t for table in made.adapter.tables.values() for t in table.writes}
    assert left == shas[1] and made.replay.size("all") == 5
    state = made.adapter.state_dict()
    again = method()
    again.adapter.load_state_dict(state)
    assert all(torch.equal(one, other) for one, other in zip(values(again), values(made), strict=True))


def test_lessons_that_share_rows_are_forgotten_one_after_the_other():
    """What the third has learned again is none of the first: forgetting both leaves the first as it was."""
    made = method(selection="all", slots=64, max_steps=12)
    learn(made, "harbours")
    before = values(made)
    for name in ("lighthouses", "bridges"):
        learn(made, name)
    for name in ("lighthouses", "bridges"):
        made.forget(lesson(name).document.sha256)
    assert all(torch.equal(now, old) for now, old in zip(values(made), before, strict=True))


def test_a_row_of_which_one_lesson_is_lost_counts_as_lost_though_another_is_learned_again(monkeypatch):
    made = method(selection="all", slots=64, max_steps=12)
    for name in ("harbours", "lighthouses", "bridges"):
        learn(made, name)
    shas = [lesson(name).document.sha256 for name in ("harbours", "lighthouses", "bridges")]
    made.studied.drop(shas[1])  # as of a home that was written before lessons were recorded
    shared = sum(
        int(torch.isin(t.writes[shas[0]][0], t.writes[shas[1]][0]).sum()) for t in made.adapter.tables.values()
    )
    found = made.forget(shas[0])
    assert found["rows_lost"] == shared > 0 and found["steps"] > 0 and "they lost these" in found["forgot"]


def test_a_table_for_all_layers_forgets_too():
    made = method(shared=True, selection="all", slots=64, max_steps=12)
    learn(made, "harbours")
    learn(made, "lighthouses")
    found = made.forget(lesson("harbours").document.sha256)
    assert found["rows_learned_again"] > 0 and len(values(made)) == 1


def test_later_lessons_are_learned_again_from_the_record_whatever_replay_keeps():
    made = method(replay_capacity=0, selection="all", slots=64, max_steps=12)
    learn(made, "harbours")
    learn(made, "lighthouses")
    found = made.forget(lesson("harbours").document.sha256)
    assert found["rows_learned_again"] > 0 == found["rows_lost"] and found["steps"] == 12
    assert list(made.studied.lessons) == [lesson("lighthouses").document.sha256]


def test_a_lesson_that_does_not_miss_what_it_shares_is_not_studied_again():
    made = method(selection="all", slots=64, enough=100.0)
    learn(made, "harbours")
    learn(made, "lighthouses")
    found = made.forget(lesson("harbours").document.sha256)
    assert found["rows_not_missed"] > 0 == found["rows_learned_again"] == found["rows_lost"] == found["steps"]
    assert "they answer as well without" in found["forgot"]


def test_a_home_of_before_the_record_is_taken_up():
    made, other = method(selection="all", slots=64), method(selection="all", slots=64)
    learn(made, "harbours")
    learn(made, "lighthouses")
    base.restore(other, {name: state for name, state in base.state_of(made).items() if name != "studied"})
    assert all(torch.equal(*pair) for pair in zip(values(made), values(other), strict=True))
    found = other.forget(lesson("harbours").document.sha256)
    assert found["rows_lost"] > 0 == found["rows_learned_again"] and "they lost these" in found["forgot"]


@pytest.mark.parametrize("given", [0.5, "0.5,0.75", [0.5, 0.75]])
def test_layers_can_be_written_in_every_way_that_one_tries(given):
    assert sparse_memory.Options(layers=given).layers in {(0.5,), (0.5, 0.75)}


@pytest.mark.parametrize("layers", [(), "half", (-0.1,), (1.0,), (0.5, 7)])
def test_layers_are_shares_of_the_depth(layers):
    with pytest.raises(ValueError, match="layers"):
        sparse_memory.Options(layers=layers)


@pytest.mark.parametrize("kept", [lambda name: name[0] == "2", lambda name: "keys" not in name])
def test_a_start_that_lacks_something_is_refused(kept):
    lm = tiny_lm(layers=4)
    whole = {f"{i}/{n}": t for i in (2, 3) for n, t in at_random(Shape(256, 2, 4, 16), 64, 9).items()}
    lm.starts["memory_layer"] = {name: t for name, t in whole.items() if kept(name)}
    with pytest.raises(ModelError, match="start=none"):
        method(lm)


def test_a_learner_forgets_says_how_and_undoes_it(home):
    learner = Learner(tiny_lm(layers=4), method="sparse_memory", home=home, config=SMALL, max_forgetting=1.0)
    documents = [lesson(name).document for name in ("harbours", "lighthouses")]
    digests = [learner.learn(document).digest_after for document in documents]
    commit = learner.forget(documents[0])
    assert commit.metrics["rows_restored"] + commit.metrics["rows_learned_again"] == 80
    assert learner.status()["method"]["about"]["documents"] == 1
    learner.undo()
    assert learner.digest == digests[1]
    assert learner.learn(documents[0]).already


def test_a_commit_stores_the_rows_of_its_lesson_alone(home):
    learner = Learner(tiny_lm(layers=4), method="sparse_memory", home=home, config=SMALL, max_forgetting=1.0)
    sizes = [learner.learn(lesson(name).document).bytes for name in ("harbours", "lighthouses", "bridges")]
    rows = 80 * (64 * 4 + 8)
    assert all(rows <= size < rows + 40_000 for size in sizes), "not the whole tables, whatever came before"


@pytest.mark.slow
def test_of_the_embedded_model_what_is_forgotten_goes_and_the_rest_stays(home):
    """Both documents are of the same world and share rows; what is said of the first is at the floor again."""
    first, second = make("world", Options(lessons=2, facts=8)).tasks
    learner = Learner(method="sparse_memory", home=home, offline=True, study="gold", max_forgetting=1.0)
    assert learner.grade(first.probes) == 0.0, "the floor"
    learner.learn(first.document)
    learner.learn(second.document)
    before = [learner.grade(task.probes) for task in (first, second)]
    assert min(before) >= 0.8
    metrics = learner.forget(first.document).metrics
    assert metrics["rows_restored"] > 0 and metrics["rows_learned_again"] > 0 == metrics["rows_lost"]
    assert learner.grade(first.probes) <= 0.1
    assert learner.grade(second.probes) >= before[1] - 0.1
