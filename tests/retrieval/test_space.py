"""Whitening makes what all have in common disappear, and the reach says how near new keys come to a sentinel."""

import pytest
import torch

from accrete.retrieval.space import Space, States, whitening

WIDTH = 6


def states(seed: int, items: int, tokens: int | None = None) -> States:
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.full((items,), 2)
    drawn = torch.randint(50, (2 * items,), generator=draw) if tokens is None else torch.full((2 * items,), tokens)
    spread = torch.tensor([9.0, 3.0, 1.0, 1.0, 0.3, 0.1])
    return States(
        3 + spread * torch.randn(items, WIDTH, generator=draw),
        lengths,
        3 + spread * torch.randn(2 * items, WIDTH, generator=draw),
        drawn,
    )


MARKS = torch.zeros(0, dtype=torch.int32), torch.zeros(0, dtype=torch.long)


def fitted(sentinels: States, cue_weight: float = 0.5) -> Space:
    space = Space(0.01, cue_weight)
    space.fit(3, states(0, 400), sentinels)
    return space


def test_whitened_states_have_no_direction_in_common():
    drawn = states(0, 4_000).states_ND
    mean, matrix = whitening(drawn, 1e-6)
    white = (drawn - mean) @ matrix
    torch.testing.assert_close(white.T @ white / len(white), torch.eye(WIDTH), atol=0.02, rtol=0)


def test_shrinkage_of_one_only_scales():
    drawn = states(0, 200).states_ND
    _, matrix = whitening(drawn, 1.0)
    assert torch.allclose(matrix, matrix[0, 0] * torch.eye(WIDTH), atol=1e-5)


def test_states_that_are_all_alike_do_no_harm():
    mean, matrix = whitening(torch.ones(5, WIDTH), 0.03)
    assert torch.isfinite(matrix).all() and torch.equal(mean, torch.ones(WIDTH))


def test_all_vectors_are_of_length_one():
    space = fitted(states(1, 3))
    made = space.entries(states(2, 5), *MARKS)
    for vectors in (made.cues_ID, made.keys_ND):
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(vectors)))


@pytest.mark.parametrize("cue_weight", [0.0, 0.5, 2.0])
def test_the_reach_of_a_key_is_the_likest_sentinel_that_goes_on_otherwise(cue_weight, monkeypatch):
    monkeypatch.setattr("accrete.retrieval.space.AT_ONCE", 5)
    sentinels = states(1, 3)
    space, alone = fitted(sentinels, cue_weight), fitted(states(1, 0), cue_weight)
    new, known = space.entries(states(2, 7), *MARKS), alone.entries(sentinels, *MARKS)
    expected = []
    for n in range(14):
        likest = -1.0
        for m in range(6):
            if known.values_N[m] != new.values_N[n]:
                cue = float(known.cues_ID[m // 2] @ new.cues_ID[n // 2])
                likest = max(likest, (float(known.keys_ND[m] @ new.keys_ND[n]) + cue_weight * cue) / (1 + cue_weight))
        expected.append(likest)
    torch.testing.assert_close(new.reach_N, torch.tensor(expected), atol=2e-3, rtol=0)


def test_what_would_say_the_same_does_no_harm():
    sentinels = states(1, 3, tokens=7)
    assert fitted(sentinels).entries(sentinels, *MARKS).reach_N.tolist() == [-1.0] * 6


def test_without_sentinels_nothing_is_reached():
    assert fitted(states(1, 0)).entries(states(2, 4), *MARKS).reach_N.tolist() == [-1.0] * 8


def test_its_state_is_all_of_it():
    space, again = fitted(states(1, 3)), Space(0.01, 0.5)
    assert space.fitted and not again.fitted
    again.load_state_dict(space.state_dict())
    new = space.entries(states(2, 7), *MARKS)
    assert again.layer == 3 and torch.equal(again.entries(states(2, 7), *MARKS).reach_N, new.reach_N)
    again.load_state_dict({})
    assert not again.fitted
