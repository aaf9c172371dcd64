"""The layer whose states find the next token is chosen; where too little is said, the last one is."""

from __future__ import annotations

import pytest
import torch

from accrete.retrieval.depth import LEAST, best_layer, candidates, found_share
from accrete.retrieval.space import States

WIDTH = 24
ANSWERS = [f"answer {number}" for number in range(10)] * 2


def items(answers: list[str], noise: float, seed: int = 0) -> States:
    """Two states an item: a direction for every answer and place, with noise, on top of what all states share."""
    draw = torch.Generator().manual_seed(seed)
    spelled = list(dict.fromkeys(answers))
    directions = torch.randn(len(spelled), 2, WIDTH, generator=draw)
    at = torch.tensor([spelled.index(answer) for answer in answers])
    states = (20 + directions[at] + noise * torch.randn(len(answers), 2, WIDTH, generator=draw)).reshape(-1, WIDTH)
    tokens = torch.stack([2 * at, 2 * at + 1], 1).reshape(-1)
    return States(torch.zeros(len(answers), 1), torch.full((len(answers),), 2), states, tokens)


def among(asked: States, token: int = 999, seed: int = 1) -> States:
    """The items first, and then a crowd of a hundred that says something else."""
    states = 20 + torch.randn(400, WIDTH, generator=torch.Generator().manual_seed(seed))
    return States(
        torch.zeros(len(asked.cues_ID) + 100, 1),
        torch.cat([asked.lengths_I, torch.full((100,), 4)]),
        torch.cat([asked.states_ND, states]),
        torch.cat([asked.tokens_N, torch.full((400,), token)]),
    )


def share(asked: States, answers: list[str] = ANSWERS, **crowd) -> float | None:
    return found_share(among(asked, **crowd), answers, 0.03)


def chosen(asked: dict[int, States], answers: list[str] = ANSWERS) -> int:
    return best_layer({layer: among(states) for layer, states in asked.items()}, answers, 0.03)


def test_the_layer_in_which_wordings_find_one_another_is_chosen():
    asked = {2: items(ANSWERS, 1.0), 3: items(ANSWERS, 0.2), 4: items(ANSWERS, 5.0)}
    found = {layer: share(states) for layer, states in asked.items()}
    assert found[3] > 0.9 and found[3] > found[2] > found[4]
    assert chosen(asked) == 3


def test_a_layer_in_which_the_first_token_alone_is_found_is_worse():
    both, first = items(ANSWERS, 0.2), items(ANSWERS, 0.2)
    first.states_ND[1::2] = 20 + torch.randn(len(ANSWERS), WIDTH, generator=torch.Generator().manual_seed(5))
    assert chosen({2: both, 3: first}) == 2


def test_an_item_does_not_find_itself():
    pairs = items(ANSWERS, 0.2)
    for wrong in range(20, 40):  # the second wordings lead elsewhere
        pairs.states_ND[wrong] = torch.randn(WIDTH, generator=torch.Generator().manual_seed(wrong)) * 3 + 20
    assert share(pairs) < 0.2


def test_a_crowd_that_says_the_same_helps_and_another_misleads():
    asked = items(ANSWERS, 2.0)
    assert share(asked, token=0) > share(asked)


def test_answers_are_compared_as_they_are_graded():
    spelled = [*ANSWERS[:10], *(f" The {answer.upper()}." for answer in ANSWERS[:10])]
    asked = items(ANSWERS, 0.2)
    assert share(asked, spelled) == share(asked)


@pytest.mark.parametrize(("pairs", "layer"), [((LEAST - 1) // 2, 3), ((LEAST + 1) // 2, 2)])
def test_a_few_items_that_agree_say_nothing(pairs, layer):
    few = [f"answer {number}" for number in range(30)]
    few += few[:pairs]
    assert chosen({2: items(few, 0.1), 3: items(few, 5.0)}, few) == layer


def test_nothing_known_is_the_last_layer():
    assert best_layer({2: items(ANSWERS, 0.1), 3: items(ANSWERS, 5.0)}, [], 0.03) == 3


def test_candidates_are_layers_of_the_model():
    assert candidates(8) == [4, 5, 6, 7, 8] and candidates(1) == [1] and candidates(2) == [1, 2]
