"""The datastore finds what a search through everything finds, and forgets exactly what it is told to."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn import functional

from accrete.retrieval.datastore import Datastore, Entries, Neighbourhood, SideBySide
from accrete.retrieval.names import asked, marks, spoken_of

WIDTH = 8


def entries(seed: int, items: int = 5) -> Entries:
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 6, (items,), generator=draw)
    keys = functional.normalize(torch.randn(int(lengths.sum()), WIDTH, generator=draw), dim=1)
    cues = functional.normalize(torch.randn(items, WIDTH, generator=draw), dim=1)
    values = torch.randint(100, (len(keys),), generator=draw)
    reach = torch.rand(len(keys), generator=draw).half().float()
    counts = torch.randint(4, (items,), generator=draw)
    marks = torch.randint(5, (int(counts.sum()),), generator=draw).int()
    return Entries(cues, lengths, keys, values, reach, marks, counts)


def store(*seeds: int) -> Datastore:
    made = Datastore()
    for seed in seeds:
        made.add(f"document {seed}", entries(seed))
    return made


def questions(count: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(99)
    cues, states = (functional.normalize(torch.randn(count, WIDTH, generator=draw), dim=1) for _ in range(2))
    return cues, states


def found(where: Datastore, items: int = 1_000, count: int = 4) -> tuple[torch.Tensor, ...]:
    cues, states = questions()
    return SideBySide.of(where.around(cues, items), 0.5).nearest(states, count)[:3]


def test_it_finds_what_a_search_through_everything_finds():
    seeds = (1, 2, 3)
    cues, states = questions()
    likeness, tokens, reach = found(store(*seeds))
    everything = [entries(seed) for seed in seeds]
    keys = torch.cat([one.keys_ND for one in everything]).half().float()
    near = torch.cat(
        [(cues @ one.cues_ID.half().float().T).repeat_interleave(one.lengths_I, dim=1) for one in everything], dim=1
    )
    expected = ((states @ keys.T + 0.5 * near) / 1.5).topk(4)
    torch.testing.assert_close(likeness, expected.values, atol=1e-5, rtol=0)
    assert torch.equal(tokens, torch.cat([one.values_N for one in everything])[expected.indices])
    assert torch.equal(reach, torch.cat([one.reach_N for one in everything])[expected.indices])


def joined_way(seeds, cues, states, items: int, count: int) -> tuple[torch.Tensor, ...]:
    """As it was done when all keys of all documents lay side by side in memory."""
    every = [entries(seed) for seed in seeds]
    near_by = torch.cat([one.cues_ID.half() for one in every]).float()
    lengths = torch.cat([one.lengths_I for one in every])
    keys, values, reach = (
        torch.cat([getattr(one, name) for one in every]) for name in ("keys_ND", "values_N", "reach_N")
    )
    cosines, nearest = (cues @ near_by.T).topk(min(items, len(near_by)), dim=-1)
    starts = lengths.cumsum(0) - lengths
    places = [torch.cat([torch.arange(starts[i], starts[i] + lengths[i]) for i in row.tolist()]) for row in nearest]
    beside = [cosines[q].repeat_interleave(lengths[row]) for q, row in enumerate(nearest)]
    unique, inverse = torch.cat(places).unique(return_inverse=True)
    split = inverse.split([len(row) for row in places])
    padded = torch.nn.utils.rnn.pad_sequence(list(split), batch_first=True)
    cosine = torch.nn.utils.rnn.pad_sequence(beside, batch_first=True, padding_value=-torch.inf)
    across = (states @ (keys.half()[unique].float() / 1.5).T).gather(1, padded)
    best = (across + cosine * (0.5 / 1.5)).topk(min(count, padded.shape[1]), dim=-1)
    taken = unique[padded.gather(1, best.indices)]
    return best.values, values[taken], reach[taken]


@pytest.mark.parametrize("items", [1, 4, 1_000])
@pytest.mark.parametrize("seeds", [(1,), (5, 6, 7, 8), tuple(range(10, 40))])
def test_it_finds_bit_for_bit_what_it_found_when_all_keys_were_joined(seeds, items):
    cues, states = questions()
    expected = joined_way(seeds, cues, states, items, 6)
    got = SideBySide.of(store(*seeds).around(cues, items), 0.5).nearest(states, 6)[:3]
    assert all(torch.equal(one, other) for one, other in zip(got, expected, strict=True))


def test_of_what_is_not_near_nothing_but_cues_and_lengths_is_read():
    """Their keys have no values at all here: whoever looked at one, or copied it, would fail."""
    made, (cues, states) = store(1, 2, 3), questions()
    near = entries(2).cues_ID[:1]
    state = made.state_dict() | {
        f"document {seed}/{name}": made.state_dict()[f"document {seed}/{name}"].to("meta")
        for seed in (1, 3)
        for name in ("keys", "values", "reach")
    }
    expected = SideBySide.of(made.around(near, 1), 0.5).nearest(states[:1], 4)
    made.load_state_dict(state)
    got = SideBySide.of(made.around(near, 1), 0.5).nearest(states[:1], 4)
    assert all(torch.equal(one, other) for one, other in zip(got, expected, strict=True))
    assert all(made.state_dict()[key] is tensor for key, tensor in state.items())
    with pytest.raises((RuntimeError, NotImplementedError)):
        SideBySide.of(made.around(cues, 1_000), 0.5)


def test_keys_stay_in_the_file_that_they_came_from(tmp_path):
    made = store(1, 2)
    save_file(made.state_dict(), tmp_path / "pack.safetensors")
    with safe_open(tmp_path / "pack.safetensors", "pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    other = Datastore()
    other.load_state_dict(state)
    places = {name: tensor.data_ptr() for name, tensor in state.items()}
    assert all(torch.equal(one, again) for one, again in zip(found(other), found(made), strict=True))
    assert {name: tensor.data_ptr() for name, tensor in other.state_dict().items()} == places
    if (maps := Path("/proc/self/maps")).exists():
        assert "pack.safetensors" in maps.read_text(), "it was read into memory"


def test_the_order_of_documents_makes_no_difference():
    seeds, turned = (1, 2, 3), Datastore()
    made, keys = store(*seeds), list(store(*seeds).state_dict())
    other = store(*reversed(seeds))
    turned.load_state_dict({key: made.state_dict()[key] for key in sorted(keys, key=lambda key: key[::-1])})
    for items in (2, 1_000):
        for one in (other, turned):
            assert all(torch.equal(a, b) for a, b in zip(found(one, items), found(made, items), strict=True))
    twins = [Datastore(), Datastore()]  # all alike, so that every choice is one among equals
    for twin, names in zip(twins, ("abc", "cab"), strict=True):
        for name in names:
            twin.add(name, Entries(*(v if f != "values_N" else v + ord(name) for f, v in vars(entries(1)).items())))
    assert all(torch.equal(a, b) for a, b in zip(found(twins[0], 4, 5), found(twins[1], 4, 5), strict=True))


def test_a_neighbourhood_stays_what_it_is_whatever_happens_to_the_datastore():
    cues, states = questions()
    made = store(1, 2)
    near = made.around(cues, 4)
    expected = SideBySide.of(near, 0.5).nearest(states, 4)
    made.remove("document 1")
    made.add("document 0", entries(9))
    got = SideBySide.of(near, 0.5).nearest(states, 4)
    assert all(torch.equal(one, other) for one, other in zip(got, expected, strict=True))


def test_only_items_that_speak_of_whom_a_question_names_are_its_neighbours():
    cues, _ = questions()
    made, said = Datastore(), ["Norvik", "Elmholm", "the Elmholm of Norvik"]
    for number, text in enumerate(said):
        own = marks(spoken_of(text))
        made.add(text, replace(entries(number, items=1), marks_W=own, counts_I=torch.tensor([len(own)])))
    names = [asked(f"Who is {name}?", len) for name in ("Norvik", "Elmholm", "Zorvania", "it")]
    found = made.around(cues[:4], 10, asked=names, named=0.5)
    kept = [{document for document in said if len(near.places_M) and holds(made, near, document)} for near in found]
    assert kept == [{said[0], said[2]}, {said[1], said[2]}, set(), set(said)]


def holds(made: Datastore, near: Neighbourhood, document: str) -> bool:
    """Whether all values of a document are among those of the neighbourhood."""
    values = made.state_dict()[f"{document}/values"].tolist()
    return set(values) <= set(near.values_M.tolist())


def test_of_versions_the_nearest_to_a_date_counts_as_the_youngest():
    made = Datastore()
    for year in ("2018", "2020", "2022"):
        made.add(year, entries(int(year), items=1), [year])
    held = made.around(questions()[0][:1], 10)[0].held
    by_name = torch.arange(3)  # the documents lie in the order of their names
    assert held.ages(by_name).tolist() == [2, 1, 0]
    assert held.ages(by_name, "2020").tolist() == [1, 0, 2]
    assert held.ages(by_name, "2019-05").tolist() == [0, 1, 2]
    assert held.ages(by_name, "2010").tolist() == [0, 1, 2]


def test_what_was_undone_or_came_later_is_left_out_exactly():
    made, cues = store(1, 2), questions()[0]
    before = made.state_dict()
    made.add("document 3", entries(3), ["2020"])
    assert all(torch.equal(a, b) for a, b in zip(found(made), found(store(1, 2, 3)), strict=True))
    early = SideBySide.of(made.around(cues, 1_000, "2019"), 0.5).nearest(questions()[1], 4)[:3]
    made.load_state_dict(before)
    assert all(torch.equal(a, b) for a, b in zip(found(made), found(store(1, 2)), strict=True))
    torch.testing.assert_close(early, found(made), atol=1e-6, rtol=0)


@pytest.mark.parametrize("broken", [{"document 1/keys": None}, {"document 1/cues": torch.zeros(1, WIDTH)}])
def test_what_is_no_state_is_refused_and_changes_nothing(broken):
    made = store(1)
    state = {key: tensor for key, tensor in (made.state_dict() | broken).items() if tensor is not None}
    with pytest.raises(ValueError, match="datastore"):
        made.load_state_dict(state)
    assert all(torch.equal(a, b) for a, b in zip(found(made), found(store(1)), strict=True))


def test_only_the_items_nearest_by_their_cue_are_looked_at():
    cues, _ = questions()
    made = store(1, 2)
    both = [entries(1), entries(2)]
    near = torch.cat([cues @ one.cues_ID.half().float().T for one in both], dim=1).topk(2).indices
    lengths = torch.cat([one.lengths_I for one in both])
    for one, items in zip(made.around(cues, 2), near, strict=True):
        assert len(one.values_M) == int(lengths[items].sum())


def test_neighbourhoods_of_different_sizes_do_not_disturb_each_other():
    cues, states = questions()
    made = store(1, 2, 3)
    near = [made.around(cues[i : i + 1], 1 + i)[0] for i in range(len(cues))]
    likeness, tokens, *_ = SideBySide.of(near, 0.5).nearest(states, 2)
    for i, one in enumerate(near):
        alone = SideBySide.of([one], 0.5).nearest(states[i : i + 1], 2)
        width = alone[0].shape[1]
        torch.testing.assert_close(likeness[i : i + 1, :width], alone[0])
        assert torch.equal(tokens[i : i + 1, :width], alone[1])


def test_many_steps_in_one_neighbourhood_share_it():
    cues, states = questions()
    (near,) = store(1, 2).around(cues[:1], 5)
    together = SideBySide.of([near] * len(states), 0.5).nearest(states, 2)
    for i, state in enumerate(states):
        alone = SideBySide.of([near], 0.5).nearest(state[None], 2)
        torch.testing.assert_close(together[0][i : i + 1], alone[0])
        assert torch.equal(together[1][i : i + 1], alone[1])


def test_rows_that_are_left_are_those_of_the_table_before():
    cues, states = questions()
    near = store(1, 2, 3).around(cues, 4)
    whole = SideBySide.of(near, 0.5)
    assert SideBySide.of(list(near), 0.5, whole) is whole
    for left in ([0, 2, 5], [6], [5, 1]):
        rows = [near[i] for i in left]
        again, fresh = (
            SideBySide.of(rows, 0.5, whole).nearest(states[left], 3),
            SideBySide.of(rows, 0.5).nearest(states[left], 3),
        )
        torch.testing.assert_close(again[0], fresh[0])
        assert torch.equal(again[1], fresh[1]) and SideBySide.of(rows, 0.5, whole).rows == tuple(rows)
    others = store(4).around(cues, 4)
    assert SideBySide.of([near[0], others[0]], 0.5, whole).rows == (near[0], others[0])


def test_a_document_that_is_removed_is_as_if_it_had_never_been():
    made = store(1, 2, 3)
    found(made)
    made.remove("document 2")
    made.remove("nobody")
    assert "document 2" not in made and len(made) == len(store(1, 3))
    assert all(torch.equal(one, other) for one, other in zip(found(made), found(store(1, 3)), strict=True))


def test_what_is_added_after_a_search_is_found():
    made = store(1)
    found(made)
    made.add("document 2", entries(2))
    assert all(torch.equal(one, other) for one, other in zip(found(made), found(store(1, 2)), strict=True))
    made.add("document 2", entries(3))
    replaced = store(1)
    replaced.add("x", entries(3))
    assert all(torch.equal(one, other) for one, other in zip(found(made), found(replaced), strict=True))


def test_its_state_is_the_documents_own_tensors():
    made, other = store(1, 2), Datastore()
    before = made.state_dict()
    made.add("document 3", entries(3))
    assert all(made.state_dict()[key] is tensor for key, tensor in before.items()), (
        "an old document costs a commit again"
    )
    other.load_state_dict(made.state_dict())
    assert all(torch.equal(one, again) for one, again in zip(found(made), found(other), strict=True))
    other.load_state_dict(before)
    assert all(torch.equal(one, again) for one, again in zip(found(other), found(store(1, 2)), strict=True))


def test_an_empty_one_has_no_neighbours():
    assert Datastore().around(questions()[0], 3) == []


def test_what_is_of_a_later_date_is_not_looked_at():
    made, cues = store(1), questions()[0]
    made.add("old", entries(2), ["2019-06", "2018"])
    made.add("new", entries(3), ["2020"])
    for as_of, seeds in (
        ("2017", (1,)),
        ("2018", (1, 2)),
        ("2019-12-31", (1, 2)),
        ("2020-01", (1, 2, 3)),
        (None, (1, 2, 3)),
    ):
        near = made.around(cues, 1_000, as_of)
        assert [len(one.values_M) for one in near] == [sum(len(entries(seed).values_N) for seed in seeds)] * len(cues)
        for one in near:
            assert sorted(one.values_M.tolist()) == sorted(v for seed in seeds for v in entries(seed).values_N.tolist())
    other = Datastore()
    other.load_state_dict(made.state_dict())
    assert [len(one.values_M) for one in other.around(cues, 1_000, "2018")] == [
        len(one.values_M) for one in made.around(cues, 1_000, "2018")
    ]
    made.remove("document 1")
    assert made.around(cues, 3, "2017") == [] and len(made.around(cues, 3, "2018")) == len(cues)


def test_what_is_older_is_taken_for_less_near():
    """By `recency` for every later date there was at the time; what has no date is of any."""
    made, (cues, _) = store(1), questions()
    made.add("old", entries(2), ["2018"])
    made.add("older", entries(3), ["2010-05"])
    made.add("new", entries(4), ["2020"])
    ages = {None: {1: 0, 4: 0, 2: 1, 3: 2}, "2019": {1: 0, 2: 0, 3: 1}}
    for as_of, expected in ages.items():
        plain, aged = (made.around(cues, 1_000, as_of, recency) for recency in (0.0, 0.25))
        taken = {(v, round(float(a), 4)) for p, q in zip(plain, aged, strict=True)
                 for v, a in zip(p.values_M.tolist(), p.cosines_M - q.cosines_M, strict=True)}  # fmt: skip
        assert taken == {(v, 0.25 * age) for seed, age in expected.items() for v in entries(seed).values_N.tolist()}
