"""Product-key memories: exact products of keys, silent at birth, only open rows move, a table remembers who wrote what."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import FAMILIES, tiny_lm
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel

from accrete.adapters.memory_layer import MemoryAdapter
from accrete.adapters.memory_table import ReadSlots, Table, found, gathered
from accrete.adapters.product_keys import ProductKeys, Shape, at_random
from accrete.errors import HistoryError, ModelError, UsageError
from accrete.lm.batch import Sequence, collate
from accrete.lm.decode import generate
from accrete.lm.model import LM, SuffixCache
from accrete.optim.rows import RowAdam

SHAPE = Shape(slots=64, heads=2, top_k=4, key_width=8)
WIDTH = 64


def batch(*lengths: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    rows = [tuple(torch.randint(5, 200, (n,), generator=generator).tolist()) for n in lengths or (20,)]
    return collate([Sequence(row) for row in rows])


def memory(lm: LM | None = None, depths=(0.5, 0.75), **options) -> MemoryAdapter:
    return MemoryAdapter(lm or tiny_lm(layers=4), SHAPE, depths, **options)


def everything(layer, slots_TS):
    return torch.unique(slots_TS)


def teach(adapter: MemoryAdapter, lesson="a", choose=everything, steps=3, optimizer=None, seed=0) -> None:
    rows = batch(12, 12, seed=seed)
    made = optimizer(adapter.parameters()) if optimizer else RowAdam(adapter.parameters(), lr=0.05)
    with adapter.writing(choose):
        for _ in range(steps):
            made.zero_grad()
            torch.nn.functional.cross_entropy(adapter.lm.target_logits(rows), rows.targets_N).backward()
            made.step()
    for table in adapter.tables.values():
        table.note(lesson)


@torch.no_grad()
def said(lm: LM, seed: int = 0) -> torch.Tensor:
    return lm.logits(batch(seed=seed))


# --- where a token looks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("top_k", [1, 4, 8])
def test_the_products_of_half_keys_find_the_best_of_all_slots(top_k):
    shape = replace(SHAPE, top_k=top_k)
    keys = ProductKeys(shape, at_random(shape, WIDTH, 0))
    x = torch.randn(7, WIDTH)
    slots, weights = keys.look(x)
    q = torch.nn.functional.linear(x, keys.queries, keys.offset).view(7, 2, 8)
    q = (q - q.mean(-1, keepdim=True)) / (q.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    for t in range(7):
        for head in range(2):
            whole = [
                float(q[t, head, :4] @ keys.keys[head, 0, i // 8] + q[t, head, 4:] @ keys.keys[head, 1, i % 8])
                for i in range(64)
            ]
            best = sorted(range(64), key=lambda i: -whole[i])[:top_k]
            mine = slice(top_k * head, top_k * head + top_k)
            assert slots[t, mine].tolist() == best
            exponents = [math.exp(whole[i]) for i in best]
            assert weights[t, mine].tolist() == pytest.approx([e / sum(exponents) for e in exponents], rel=1e-4)


@pytest.mark.parametrize("open_rows", [[0], [3, 9, 11], list(range(64))])
def test_reading_is_an_embedding_bag_and_its_gradient_that_of_the_open_rows(open_rows):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(64, 5, generator=generator, requires_grad=True)
    slots, weights = torch.randint(0, 64, (9, 8), generator=generator), torch.rand(9, 8, generator=generator)
    plain = (weights[..., None] * values[slots]).sum(1)
    target = torch.randn(9, 5, generator=generator)
    (dense,) = torch.autograd.grad((plain * target).sum(), values)
    m = ReadSlots.apply(values, slots, weights, torch.tensor(open_rows))
    torch.testing.assert_close(m, plain)
    (gradient,) = torch.autograd.grad((m * target).sum(), values)
    assert gradient.is_sparse and gradient.coalesce().indices()[0].tolist() == open_rows
    wanted = torch.zeros_like(dense)
    wanted[open_rows] = dense[open_rows]
    torch.testing.assert_close(gradient.to_dense(), wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_only_rows_that_hold_something_are_fetched(share):
    generator = torch.Generator().manual_seed(0)
    held = torch.rand(64, generator=generator) < share
    slots, weights = torch.randint(0, 64, (9, 8), generator=generator), torch.rand(9, 8, generator=generator)
    values = torch.where(held[:, None], torch.randn(64, 5, generator=generator), torch.nan)  # what is fetched shows
    plain = (weights[..., None] * values.nan_to_num()[slots]).sum(1)
    places = torch.where(held[slots], slots, -1)
    torch.testing.assert_close(found(values, places, weights), plain)


def test_rows_that_nothing_reads_gather_nothing():
    rows = gathered(torch.tensor([[1, 2]]), torch.ones(1, 2), torch.tensor([0, 3]), torch.ones(1, 5))
    assert torch.equal(rows, torch.zeros(2, 5))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"slots": 60}, "49 or 64, not 60"),
        ({"slots": 9, "top_k": 4}, "4 slots of 3"),
        ({"key_width": 7}, "even number"),
    ],
)
def test_impossible_shapes_are_refused(fields, said):
    with pytest.raises(UsageError, match=said):
        Shape(**fields)


# --- in a model ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("gated", [False, True])
def test_it_is_silent_at_birth_and_while_it_is_off_or_gone(family, gated):
    lm = tiny_lm(family, layers=4)
    before = said(lm)
    start = {}
    if gated:
        start = {f"{i}/{name}": t for i in (2, 3) for name, t in at_random(SHAPE, WIDTH, 5).items()}
        start |= {"2/gate": torch.randn(WIDTH, WIDTH), "2/gate_offset": torch.randn(WIDTH)}
        start |= {"2/out": torch.randn(WIDTH, WIDTH)}
    adapter = memory(lm, start=start)
    assert torch.equal(said(lm), before) and adapter.started == gated
    teach(adapter)
    assert not torch.equal(said(lm), before)
    with adapter.off():
        assert torch.equal(said(lm), before)
    adapter.remove()
    assert torch.equal(said(lm), before)


@pytest.mark.parametrize(("depths", "layers"), [((0.5, 0.625), [4, 5]), ((0.25, 0.5, 0.75), [2, 4, 6]), ((0.99,), [7])])
def test_layers_are_shares_of_the_depth(depths, layers):
    assert list(memory(tiny_lm(layers=8), depths).memories) == layers


def test_a_shared_table_is_one():
    adapter = memory(shared=True)
    assert len(adapter.parameters()) == 1 and len({id(m.table) for m in adapter.memories.values()}) == 1
    teach(adapter)
    assert [name for name in adapter.state_dict() if name.endswith("/lessons")] == ["2/lessons"]


@pytest.mark.parametrize("family", FAMILIES)
def test_it_learns_and_changes_only_its_tables(family):
    lm = tiny_lm(family, layers=4)
    adapter, rows = memory(lm), batch(12, 12)
    before = {name: p.detach().clone() for name, p in lm.model.named_parameters() if not p.requires_grad}
    with torch.no_grad():
        first = torch.nn.functional.cross_entropy(lm.target_logits(rows), rows.targets_N)
    teach(adapter, steps=20)
    with torch.no_grad():
        assert torch.nn.functional.cross_entropy(lm.target_logits(rows), rows.targets_N) < 0.9 * first
    assert all(torch.equal(dict(lm.model.named_parameters())[name], t) for name, t in before.items())


@pytest.mark.parametrize("optimizer", [None, lambda p: torch.optim.SGD(p, lr=50.0)])
@pytest.mark.parametrize("shared", [False, True])
def test_closed_rows_keep_their_bits(optimizer, shared):
    adapter = memory(shared=shared)
    teach(adapter, "before", steps=2, optimizer=optimizer, seed=3)
    before = [held(table) for table in adapter.tables.values()]
    chosen = torch.arange(0, 64, 3)
    teach(adapter, "after", choose=lambda layer, slots: chosen, steps=4, optimizer=optimizer)
    closed = torch.ones(64, dtype=torch.bool)
    closed[chosen] = False
    for table, old in zip(adapter.tables.values(), before, strict=True):
        now = held(table)
        assert torch.equal(now[closed], old[closed]) and not torch.equal(now[~closed], old[~closed])


@pytest.mark.parametrize("at", [1, 7, 19])
@pytest.mark.parametrize("hears", [False, True])
@torch.no_grad()
def test_later_tokens_never_move_earlier_logits(at, hears):
    lm = tiny_lm(layers=4)
    adapter = memory(lm, hears=hears)
    with torch.enable_grad():
        teach(adapter)
    one = batch()
    other = collate([Sequence((*one.ids_BT[0, :at].tolist(), *range(300, 320 - at)))])
    torch.testing.assert_close(lm.logits(one)[:, :at], lm.logits(other)[:, :at], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("hears", [False, True])
@torch.no_grad()
def test_cached_decoding_equals_the_whole_pass(hears):
    lm = tiny_lm(layers=4)
    adapter = memory(lm, hears=hears)
    with torch.enable_grad():
        teach(adapter)
    rows, cache = batch(18), SuffixCache()
    hidden = lm.prefix(rows, adapter.first_layer)
    parts = [lm.suffix(hidden.part(0, start, start + 6), cache) for start in (0, 6, 12)]
    torch.testing.assert_close(torch.cat(parts, 1), lm.logits(rows), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("hears", [False, True])
@torch.no_grad()
def test_rows_answered_together_are_answered_as_alone(hears):
    """Left-padded, of different lengths, after a beginning that all share and that is read once."""
    lm = tiny_lm(layers=4)
    adapter = memory(lm, hears=hears)
    with torch.enable_grad():
        teach(adapter, steps=20)
    shared = list(range(20, 70))
    prompts = [shared + list(range(80, 80 + n)) for n in (3, 9, 40)]
    assert generate(lm, prompts, 8) == [generate(lm, [prompt], 8)[0] for prompt in prompts]


def test_what_a_token_can_hear_tells_the_looks_of_equal_states_apart():
    start = {f"2/{name}": t for name, t in at_random(SHAPE, WIDTH + 32, 0).items()}
    adapter = memory(depths=(0.5,), start=start)
    assert adapter.memories[2].hearing is not None and memory(depths=(0.5,)).memories[2].hearing is None
    with torch.no_grad():
        adapter.memories[2].product_keys.queries[:, :WIDTH] = 0.0
    one, same_words, other = (
        next(iter(adapter.looks([Sequence(ids)])))[2][0][-1] for ids in ((7, 8, 9), (8, 7, 9), (5, 6, 9))
    )
    shared = [len(set(one.tolist()) & set(found.tolist())) for found in (same_words, other)]
    assert shared[0] > shared[1]


def test_a_start_says_what_is_listened_to_and_a_memory_that_listens_otherwise_is_another():
    start = {f"2/{name}": t for name, t in at_random(SHAPE, WIDTH + 32, 0).items()}
    states, reads = [], []
    for listen in (None, torch.zeros(32), 50 * torch.randn(32, generator=torch.Generator().manual_seed(1))):
        adapter = memory(depths=(0.5,), start=start | ({} if listen is None else {"2/listen": listen}))
        reads.append(next(adapter.looks([Sequence(tuple(range(5, 25)))]))[2][0])
        teach(adapter)
        states.append(adapter.state_dict())
    assert torch.equal(reads[0], reads[1]) and not torch.equal(reads[0], reads[2])
    with pytest.raises(HistoryError, match="look elsewhere"):
        adapter.load_state_dict(states[0])
    with pytest.raises(ModelError, match="trained for another shape"):
        memory(depths=(0.5,), start=start | {"2/listen": torch.zeros(31)})


@pytest.mark.parametrize("hears", [False, True])
def test_what_a_text_reads_is_what_its_tokens_look_at_alone(hears):
    adapter = memory(hears=hears)
    rows = [Sequence(tuple(range(5, 12))), Sequence(tuple(range(40, 60)))]
    together = next(adapter.looks(rows))
    for number, row in enumerate(rows):
        alone = next(adapter.looks([row]))
        assert all(torch.equal(together[i][number], alone[i][0]) for i in adapter.memories)
        assert together[2][number].shape == (len(row.ids), 8)


# --- who wrote what -----------------------------------------------------------------------------------------------------


def held(table: Table) -> torch.Tensor:
    """[N, D]: what every slot holds."""
    every = torch.arange(len(table.place_N))
    read = table.read(every[:, None], torch.ones(len(every), 1))
    assert torch.equal(table.holds(every), read)
    return read


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.sets(st.integers(0, 9), min_size=1)), min_size=1, max_size=7), st.data()
)
def test_a_table_against_a_list_of_writes(lessons, data):
    """Rows hold what was written last; a lesson that is forgotten leaves what was there before it."""
    table, written = Table(10, 2, torch.device("cpu")), {}
    for number, (name, rows) in enumerate(lessons):
        rows = torch.tensor(sorted(rows))
        table.read_to_write(rows[:, None], torch.ones(len(rows), 1), rows)
        with torch.no_grad():
            table.values[table.place_N[rows]] = float(number + 1)
        assert table.note(str(name)) == len(set(rows.tolist()) | set(written.get(str(name), {})))
        now = {row: float(held(table)[row, 0]) for row in written.pop(str(name), {})}
        written[str(name)] = now | {row: float(number + 1) for row in rows.tolist()}
    name = data.draw(st.sampled_from(sorted(written)))
    order = list(written)
    earlier, later = order[: order.index(name)], order[order.index(name) + 1 :]
    count, shared = table.forget(name)
    assert count == len(written[name]) and list(table.writes) == [*earlier, *later]
    assert set(shared.tolist()) == {row for row in written[name] if any(row in written[other] for other in later)}
    for row in range(10):
        names = earlier if row in written[name] else order
        values = [written[other][row] for other in names if row in written[other]]
        assert held(table)[row].tolist() == [values[-1] if values else 0.0] * 2


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="counts the pages of this process")
def test_a_large_table_takes_memory_by_what_is_written():
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4_096

    before, rows = resident(), torch.arange(0, 1024**2, 10_000)
    table = Table(1024**2, 256, torch.device("cpu"))
    table.become({"a": (rows, torch.ones(len(rows), 256))})
    read = table.read(torch.tensor([[0, 1, 10_000]]), torch.ones(1, 3))
    assert torch.equal(read, torch.full((1, 256), 2.0))
    assert resident() - before < 50e6, "a gigabyte of zeros was touched"


def test_a_lesson_that_breaks_off_leaves_nothing():
    adapter = memory()
    teach(adapter, "one")
    state, before = adapter.state_dict(), said(adapter.lm)
    state = {key: v.clone() if torch.is_tensor(v) else v for key, v in state.items()}
    with adapter.writing(everything):
        rows = batch(30, seed=9)
        adapter.lm.target_logits(rows).sum().backward()
        RowAdam(adapter.parameters(), lr=1.0).step()
    assert not torch.equal(said(adapter.lm), before)
    adapter.load_state_dict(state)
    assert torch.equal(said(adapter.lm), before)


def test_rows_written_again_are_noted_where_they_were():
    table = Table(6, 1, torch.device("cpu"))
    for name, rows in (("a", [0, 1, 2]), ("b", [2, 3]), ("c", [3, 4])):
        rows = torch.tensor(rows)
        table.read_to_write(rows[:, None], torch.ones(len(rows), 1), rows)
        with torch.no_grad():
            table.values[table.place_N[rows]] = float(ord(name))
        table.note(name)
    wrote = table.writes["c"]
    _, shared = table.forget("b")
    assert shared.tolist() == [3] and held(table)[:, 0].tolist() == [97, 97, 97, 0, 99, 0]
    assert table.writes["c"] is wrote, "what a commit would have to store anew"
    assert [part.tolist() for part in table.again["c"]] == [[3], [[0.0]]]
    table.read_to_write(shared[:, None], torch.ones(1, 1), shared)
    with torch.no_grad():
        table.values[table.place_N[shared]] = 7.0
    table.rewrite("c")
    table.become(dict(table.writes), dict(table.again))
    assert held(table)[:, 0].tolist() == [97, 97, 97, 7, 99, 0]


def test_rows_written_again_are_none_of_earlier_lessons():
    """Else a lesson that is forgotten next would leave there what this one has learned again."""
    table, every = Table(3, 1, torch.device("cpu")), torch.arange(3)
    for name in "abcd":
        table.read_to_write(every[:, None], torch.ones(3, 1), every)
        with torch.no_grad():
            table.values[table.place_N[every]] = float(ord(name))
        table.note(name)
    table.forget("b")
    for name, value in (("c", 5.0), ("d", 6.0)):
        table.read_to_write(every[:, None], torch.ones(3, 1), every)
        with torch.no_grad():
            table.values[table.place_N[every]] = value
        table.rewrite(name)
    assert {name: table.written(name)[1][0].item() for name in table.writes} == {"a": 97, "c": 5, "d": 6}


def test_where_no_row_is_open_nothing_is_gathered():
    nothing = gathered(torch.tensor([[0, 1]]), torch.ones(1, 2), torch.tensor([], dtype=torch.long), torch.ones(1, 4))
    assert nothing.shape == (0, 4)


def test_state_holds_written_rows_alone_and_comes_back():
    adapter = memory()
    assert {name: said for name, said in adapter.state_dict().items() if not name.endswith("/keys")} == {
        "2/lessons": [],
        "3/lessons": [],
    }
    teach(adapter, "one", choose=lambda layer, slots: torch.tensor([1, 5, 60]))
    state = adapter.state_dict()
    assert state["2/one/rows"].tolist() == [1, 5, 60] and state["2/one/values"].shape == (3, WIDTH)
    other = memory()
    other.load_state_dict(state)
    assert torch.equal(said(other.lm), said(adapter.lm))
    other.load_state_dict(memory().state_dict())
    assert torch.equal(said(other.lm), said(tiny_lm(layers=4)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"7/lessons": []}, "other layers"),
        ({"7/keys": "abc"}, "other layers"),
        ({"2/keys": "abc"}, "look elsewhere"),
        ({"2/one/rows": torch.tensor([1, 5, 64])}, "slots that this memory has not"),
        ({"2/one/rows": torch.tensor([1.0, 5, 6])}, "another shape"),
        ({"2/one/values": torch.zeros(3, 5)}, "another shape"),
        ({"2/one/values": None}, "another shape"),
        ({"2/one/again/rows": torch.tensor([2]), "2/one/again/values": torch.zeros(1, 64)}, "nobody had written"),
    ],
)
def test_a_state_of_another_memory_is_refused_and_changes_nothing(change, said):
    adapter = memory()
    teach(adapter, "one", choose=lambda layer, slots: torch.tensor([1, 5, 60]))
    before = [held(table) for table in adapter.tables.values()]
    with pytest.raises(HistoryError, match=said):
        adapter.load_state_dict(adapter.state_dict() | change)
    assert all(torch.equal(held(table), old) for table, old in zip(adapter.tables.values(), before, strict=True))


def test_a_start_of_another_shape_and_unknown_architectures_are_refused():
    start = {f"2/{name}": t for name, t in at_random(Shape(slots=16, heads=2, top_k=4, key_width=8), WIDTH, 0).items()}
    lm = tiny_lm(layers=4)
    with pytest.raises(ModelError, match="start=none"):
        memory(lm, start=start)
    assert all(type(layer.mlp).__name__ != "MemoryMLP" for layer in lm.anatomy.layers)
    gpt2 = GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=32, n_head=2, vocab_size=200))
    with pytest.raises(ModelError, match="gpt2"):
        memory(LM(gpt2, tiny_lm().tokenizer, "gpt2"))
