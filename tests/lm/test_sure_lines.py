"""The nats of the lines of a text: all of them are those of the text, and the lines that cost too much are left out."""

from __future__ import annotations

import pytest
from conftest import FAMILIES, tiny_lm

from accrete.lm.forced import log_likelihoods
from accrete.lm.prompts import study_sequence
from accrete.lm.sure_lines import line_nats, sure_lines

PROMPTS = ["List what is said.", "List it again.", "And again."]
TEXTS = ["Tolvane | mayor | Ada\nthe Mern | cargo | oil\n\nAshmere | ruler", "", "one line"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_nats_of_the_lines_are_those_of_the_text(family):
    lm = tiny_lm(family)
    found = line_nats(lm, PROMPTS, TEXTS)
    assert [len(nats) for nats in found] == [4, 1, 1] and found[1] == [0.0]
    for i in (0, 2):
        whole = -log_likelihoods(lm, [study_sequence(lm, PROMPTS[i], TEXTS[i])])[0]
        assert sum(found[i]) == pytest.approx(whole, rel=1e-4)
        assert found[i][0] > 0.0


def test_a_line_costs_what_it_does_after_those_above():
    lm = tiny_lm()
    (whole,), (first,) = (
        line_nats(lm, PROMPTS[:1], TEXTS[:1]),
        line_nats(lm, PROMPTS[:1], [TEXTS[0].split("\n")[0] + "\n"]),
    )
    assert whole[0] == pytest.approx(first[0], rel=1e-4)


def test_lines_that_cost_more_are_left_out():
    lm = tiny_lm()
    costs = line_nats(lm, PROMPTS, TEXTS)[0]
    lines = TEXTS[0].split("\n")
    middle = sorted(costs)[1]
    kept, none, _ = sure_lines(lm, PROMPTS, TEXTS, middle)
    assert kept.split("\n") == [line for line, cost in zip(lines, costs, strict=True) if cost <= middle]
    assert 0 < len(kept.split("\n")) < len(lines) and none == ""
    assert sure_lines(lm, PROMPTS, TEXTS, 1e9) == TEXTS
