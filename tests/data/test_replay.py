"""The reservoir keeps everything with the same probability and goes on exactly after a reload."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from accrete.data.replay import Replay
from accrete.lm.batch import Sequence


def replay(capacity: int = 5, seed: int = 0) -> Replay:
    return Replay(capacity, torch.Generator().manual_seed(seed))


def sequences(count: int) -> list[Sequence]:
    return [Sequence((i, i + 1, i + 2), target_from=i % 3) for i in range(count)]


def held(memory: Replay, domain: str = "default") -> list[Sequence]:
    return [item.sequence for item in memory.kept.get(domain, [])]


def copied(state: dict) -> dict:
    return {key: value.clone() if torch.is_tensor(value) else value for key, value in state.items()}


def test_while_there_is_room_everything_is_kept() -> None:
    memory = replay(capacity=5)
    memory.add(sequences(5))
    assert held(memory) == sequences(5)
    assert len(memory) == 5


def test_every_sequence_is_kept_with_the_same_probability() -> None:
    kept = Counter()
    for seed in range(1000):
        memory = replay(capacity=5, seed=seed)
        for start in range(0, 20, 4):  # lesson after lesson
            memory.add(sequences(20)[start : start + 4])
        assert len(memory) == len(set(held(memory))) == 5
        kept.update(sequence.ids[0] for sequence in held(memory))
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


def test_importance_decides_what_stays_and_what_comes_up() -> None:
    stayed, drawn = Counter(), Counter()
    for seed in range(300):
        memory = replay(capacity=4, seed=seed)
        for i, sequence in enumerate(sequences(12)):
            memory.add([sequence], importance=4.0 if i < 3 else 1.0)
        stayed.update(sequence.ids[0] < 3 for sequence in held(memory))
        both = replay(seed=seed)
        both.add(sequences(1), importance=4.0)
        both.add(sequences(2)[1:], importance=1.0)
        drawn.update(sequence.ids[0] for sequence in both.sample(1))
    assert stayed[True] / 900 > 1.5 * stayed[False] / 2700  # 3 of 12 items, four times as heavy
    assert drawn[0] / 300 == pytest.approx(4.01**0.6 / (4.01**0.6 + 1.01**0.6), abs=0.09)


def test_what_is_old_comes_up_less_when_a_half_life_says_so() -> None:
    drawn = Counter()
    for seed in range(300):
        memory = Replay(5, torch.Generator().manual_seed(seed), half_life=1.0)
        for sequence in sequences(4):
            memory.add([sequence])
        drawn.update(sequence.ids[0] for sequence in memory.sample(1))
    assert drawn[3] > 2 * drawn[0]


def test_domains_are_kept_apart() -> None:
    memory = replay(capacity=3)
    memory.add(sequences(3), "ships")
    memory.add(sequences(9)[3:], "towns")
    assert memory.size("ships") == memory.size("towns") == 3 and memory.size("none") == 0
    assert set(memory.sample(9, "ships")) == set(sequences(3))
    assert len(memory.sample(9)) == 6 and memory.sample(2, "none") == []


def test_a_double_takes_the_place_of_the_earlier_one() -> None:
    long = tuple(range(60))
    near = Sequence((*long[:-1], 99), 5)
    memory = replay(capacity=10)
    memory.add([Sequence(long, 5), *sequences(2)])
    memory.add([*sequences(1), near])
    assert held(memory) == [sequences(2)[1], sequences(1)[0], near]


def test_a_new_answer_takes_the_place_of_the_old_one() -> None:
    question = tuple(range(20))
    memory = replay(capacity=10)
    memory.add([Sequence((*question, 50, 51), 20), Sequence((*question[::-1], 50, 51), 20)])
    memory.add([Sequence((*question, 60, 61, 62), 20)])
    assert held(memory) == [Sequence((*question[::-1], 50, 51), 20), Sequence((*question, 60, 61, 62), 20)]


def test_what_is_said_anew_is_dropped_before_it_is_studied() -> None:
    question = tuple(range(20))
    memory = replay(capacity=10)
    memory.supersede([Sequence((*question, 60), 20)], "default")  # nothing was there
    memory.add([Sequence((*question, 50, 51), 20), *sequences(2)])
    memory.supersede([Sequence((*question, 60), 20)], "default")
    assert held(memory) == sequences(2) and memory.lessons == {"default": 1}


def test_a_forgotten_domain_is_gone() -> None:
    memory = replay()
    memory.add(sequences(3), "ships")
    memory.add(sequences(3), "towns")
    memory.forget("ships")
    assert (
        memory.size("ships") == 0 and memory.size("towns") == 3 and not any("ships" in k for k in memory.state_dict())
    )


def test_weights_of_every_size_can_be_drawn() -> None:
    memory = replay()
    memory.add(sequences(2), importance=0.001)
    memory.add(sequences(4)[2:], importance=1000.0)
    assert len(memory.sample(4)) == 4


def test_diversity_is_the_share_of_distinct_grams() -> None:
    memory = replay()
    assert memory.diversity() is None
    memory.add([Sequence((1, 2, 3, 4, 5, 6))])
    assert memory.diversity() == 1.0
    memory.add([Sequence((1, 2, 3, 4, 5, 7))], "other")
    assert memory.diversity() == 3 / 4


def test_the_state_is_tensors_and_goes_on() -> None:
    memory, other = replay(), replay(seed=9)
    memory.add(sequences(17), importance=2.5)
    memory.add(sequences(3), "ships")
    other.load_state_dict(copied(memory.state_dict()))
    other.generator.set_state(memory.generator.get_state())
    assert other.kept == memory.kept
    for one in (memory, other):
        one.add(sequences(40)[17:])
    assert other.kept == memory.kept
    assert other.sample(3) == memory.sample(3)
    assert other.state_dict().keys() == memory.state_dict().keys()


def test_a_state_is_a_copy() -> None:
    memory = replay()
    memory.add(sequences(5))
    state = memory.state_dict()
    before = copied(state)
    memory.add(sequences(50))
    assert all(
        torch.equal(state[k], before[k]) if torch.is_tensor(before[k]) else state[k] == before[k] for k in before
    )


def test_a_lesson_is_dropped_and_the_later_ones_move_up():
    replay = Replay(100, torch.Generator().manual_seed(0))
    lessons = [[Sequence(tuple(range(start, start + 12)), target_from=9)] * 1 for start in (0, 100, 200)]
    for lesson in lessons:
        replay.add(lesson, "d")
    assert replay.of_lesson("d", 2) == lessons[1]
    replay.drop_lesson("d", 2)
    assert replay.of_lesson("d", 2) == lessons[2] and replay.of_lesson("d", 3) == []
    assert replay.all("d") == lessons[0] + lessons[2] and replay.lessons["d"] == 2
    replay.drop_lesson("d", 2)
    assert replay.all("d") == lessons[0]
