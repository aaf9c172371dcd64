"""The reservoir keeps everything with the same probability and goes on exactly after a reload."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import torch

from accrete.data.replay import Replay
from accrete.lm.batch import Sequence


def replay(capacity: int = 5, seed: int = 0) -> Replay:
    return Replay(capacity, torch.Generator().manual_seed(seed))


def sequences(count: int) -> list[Sequence]:
    return [Sequence((i, i + 1, i + 2), target_from=i % 3) for i in range(count)]


def test_while_there_is_room_everything_is_kept() -> None:
    memory = replay(capacity=5)
    memory.add(sequences(5))
    assert memory.kept == sequences(5)
    assert len(memory) == 5


def test_every_sequence_is_kept_with_the_same_probability() -> None:
    kept = Counter()
    for seed in range(1000):
        memory = replay(capacity=5, seed=seed)
        for start in range(0, 20, 4):  # lesson after lesson
            memory.add(sequences(20)[start : start + 4])
        assert len(memory) == len(set(memory.kept)) == 5
        kept.update(sequence.ids[0] for sequence in memory.kept)
    # 1000 draws of probability 1/4: the standard deviation is 13.7, five of them are allowed.
    assert all(kept[i] == pytest.approx(250, abs=69) for i in range(20))


def test_samples_are_different_sequences() -> None:
    memory = replay(capacity=8)
    memory.add(sequences(8))
    assert len(set(memory.sample(6))) == 6
    assert set(memory.sample(100)) == set(sequences(8))
    assert len({tuple(memory.sample(3)) for _ in range(20)}) > 10
    assert memory.sample(0) == []
    assert replay().sample(3) == []


def test_without_capacity_nothing_is_kept() -> None:
    memory = replay(capacity=0)
    memory.add(sequences(10))
    assert len(memory) == 0


def test_the_state_survives_json_and_goes_on() -> None:
    memory, other = replay(), replay(seed=9)
    memory.add(sequences(17))
    other.load_state_dict(json.loads(json.dumps(memory.state_dict())))
    other.generator.set_state(memory.generator.get_state())
    assert other.kept == memory.kept
    assert other.offered == 17
    for one in (memory, other):
        one.add(sequences(40)[17:])
    assert other.kept == memory.kept
    assert other.sample(3) == memory.sample(3)


def test_a_state_is_a_copy() -> None:
    memory = replay()
    memory.add(sequences(5))
    state = memory.state_dict()
    before = json.dumps(state)
    memory.add(sequences(50))
    assert json.dumps(state) == before
