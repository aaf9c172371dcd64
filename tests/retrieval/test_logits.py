"""The closed-form update makes kNN-LM's mixture of the logits, and leaves alone what no neighbour says."""

import pytest
import torch

from accrete.retrieval.logits import neighbour_advantage

LOGITS = torch.log_softmax(torch.tensor([[2.0, 0.0, -1.0, 1.0]]), -1)
LIKENESS, TOKENS = torch.tensor([[0.9, 0.8, 0.8]]), torch.tensor([[2, 1, 2]])


@pytest.mark.parametrize("mix", [0.1, 0.5, 0.9])
def test_added_once_it_is_the_mixture(mix):
    shifted = LOGITS + neighbour_advantage(LOGITS, LIKENESS, TOKENS, 0.05, mix)
    weights = torch.softmax(LIKENESS[0] / 0.05, -1)
    neighbours = torch.tensor([0.0, weights[1], weights[0] + weights[2], 0.0])
    expected = mix * neighbours + (1 - mix) * torch.softmax(LOGITS[0], -1)
    torch.testing.assert_close(torch.softmax(shifted[0], -1), expected)


def test_a_token_that_the_model_thinks_impossible_can_be_said():
    logits = torch.tensor([[0.0, -1e4]])  # as good as normalised
    advantage = neighbour_advantage(logits, torch.tensor([[0.9]]), torch.tensor([[1]]), 0.05, 0.9)
    assert torch.isfinite(advantage).all() and int((logits + advantage).argmax()) == 1


def test_neighbours_that_are_padding_count_nothing():
    padded = torch.tensor([[0.9, 0.8, 0.8, -torch.inf]])
    tokens = torch.tensor([[2, 1, 2, 0]])
    one = neighbour_advantage(LOGITS, LIKENESS, TOKENS, 0.05, 0.5)
    torch.testing.assert_close(neighbour_advantage(LOGITS, padded, tokens, 0.05, 0.5), one)
