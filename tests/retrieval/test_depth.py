"""The layer that tells questions apart is found; where too little is said, the last one is taken."""

from __future__ import annotations

import torch

from accrete.retrieval.depth import LEAST, agreement, best_layer, candidates

WIDTH = 24


def states(answers: list[str], noise: float, seed: int = 0) -> torch.Tensor:
    """A direction for every answer, with noise, on top of one that all share."""
    draw = torch.Generator().manual_seed(seed)
    directions = {answer: torch.randn(WIDTH, generator=draw) for answer in dict.fromkeys(answers)}
    shared = 20 * torch.ones(WIDTH)
    return torch.stack([directions[a] + shared + noise * torch.randn(WIDTH, generator=draw) for a in answers])


def general(seed: int = 1) -> torch.Tensor:
    return 20 + torch.randn(400, WIDTH, generator=torch.Generator().manual_seed(seed))


ANSWERS = [f"answer {number}" for number in range(10)] * 2


def test_the_layer_in_which_wordings_of_a_question_lie_together_is_chosen():
    asked = {2: states(ANSWERS, 2.0), 3: states(ANSWERS, 0.2), 4: states(ANSWERS, 5.0)}
    found = {layer: agreement(asked[layer], general(), ANSWERS, 0.03) for layer in asked}
    assert found[3] > found[2] > found[4] and found[3] > -0.1
    assert best_layer(asked, dict.fromkeys(asked, general()), ANSWERS, 0.03) == 3


def test_what_all_states_share_does_not_count():
    with_it = states(ANSWERS, 0.5)
    assert agreement(with_it, general(), ANSWERS, 0.03) > -0.5
    assert agreement(with_it, general() - 20, ANSWERS, 0.03) < -1.5  # not seen as shared


def test_answers_are_compared_as_they_are_graded():
    spelled = [*ANSWERS[:10], *(f" The {answer.upper()}." for answer in ANSWERS[:10])]
    one = states(ANSWERS, 0.2)
    assert agreement(one, general(), spelled, 0.03) == agreement(one, general(), ANSWERS, 0.03)


def test_items_that_nothing_agrees_with_say_nothing():
    lonely = [f"answer {number}" for number in range(30)]
    assert agreement(states(lonely, 0.2), general(), lonely, 0.03) is None
    few = [*lonely, *lonely[: (LEAST - 1) // 2]]
    asked = {layer: states(few, noise) for layer, noise in ((2, 0.1), (3, 5.0))}
    assert best_layer(asked, dict.fromkeys(asked, general()), few, 0.03) == 3


def test_candidates_are_layers_of_the_model():
    assert candidates(8) == [4, 5, 6, 7, 8] and candidates(1) == [1] and candidates(2) == [1, 2]
