"""Indicators: what the journal says was lost, by hand on a small history."""

from __future__ import annotations

import pytest

from accrete.store.indicators import by_domain, forgetting
from accrete.store.journal import Commit


def commit(number: int, before=None, after=None, domain="sea", undone=None, **metrics) -> Commit:
    return Commit(
        id=f"c{number}", parent=None, number=number, time="2026-01-01", document=f"d{number}", sha256=f"s{number}",
        domain=domain, digest_before="b", digest_after="a", config={}, undone=undone,
        metrics={"kept_before": before, "kept_after": after} | metrics,
    )  # fmt: skip


HISTORY = [
    commit(1, 0.9, 0.8),
    commit(2, 1.0, 0.4, domain="land"),
    commit(3, 0.8, 0.1, undone="2026-01-02"),
    commit(3, 0.8, 0.0, undone="2026-01-03", refused="It cost too much."),
    commit(3, 0.8, 0.6, steps=7),
    commit(4, None, None, domain="air"),
]


def test_an_empty_history_lost_nothing():
    assert forgetting([]) == {"lessons": 0, "refused": 0, "domains": [], "worst": None, "last": {}, "since": []}
    assert by_domain([], {}) == []


def test_birth_and_now_by_domain():
    found = forgetting(HISTORY)
    sea, land = found["domains"]
    assert (found["lessons"], found["refused"]) == (4, 1)
    assert (sea["domain"], sea["lessons"], sea["kept_at_birth"], sea["kept_now"]) == ("sea", 2, 0.9, 0.6)
    assert sea["ratio"] == pytest.approx((0.9 - 0.6) / 0.9)
    assert (land["lessons"], land["kept_at_birth"], land["kept_now"]) == (1, 1.0, 0.4)
    assert land["ratio"] == pytest.approx(0.6)


def test_the_dearest_lesson_is_one_that_stands():
    worst = forgetting(HISTORY)["worst"]
    assert (worst["commit"], worst["document"]) == ("c2", "d2") and worst["cost"] == pytest.approx(0.6)


def test_the_last_lesson_says_what_it_measured():
    assert forgetting(HISTORY[:-1])["last"]["steps"] == 7


def test_a_loaded_state_and_a_document_taken_out_are_no_lessons():
    """They have no figures of a lesson: those of the last one stand, and what came after it is told."""
    loaded = commit(5, 0.6, 0.95, domain="default", holds=[])
    taken_out = commit(6, None, None, domain="sea", holds=[])
    found = forgetting([*HISTORY, loaded, taken_out])
    before = forgetting(HISTORY)
    assert {key: value for key, value in found.items() if key != "since"} == {
        key: value for key, value in before.items() if key != "since"
    }
    assert found["since"] == [
        {"commit": "c5", "what": "d5", "kept": 0.95},
        {"commit": "c6", "what": "d6", "kept": None},
    ]
    assert forgetting([*HISTORY, loaded, commit(6, 0.9, 0.8)])["since"] == []
    alone = forgetting([loaded])
    assert (alone["lessons"], alone["last"], alone["worst"], len(alone["since"])) == (0, {}, None, 1)


def test_what_was_measured_on_one_side_alone_does_no_harm():
    """A model that had no sentinels before the lesson, and has some after it."""
    found = forgetting([commit(1, None, 0.9), commit(2, 0.9, 0.8)])
    assert found["lessons"] == 2 and found["worst"]["commit"] == "c2"


def test_a_birth_of_nothing_has_no_ratio():
    (row,) = forgetting([commit(1, 0.0, 0.0)])["domains"]
    assert row["ratio"] is None


def test_a_gain_is_negative_forgetting():
    found = forgetting([commit(1, 0.5, 1.0)])
    assert found["domains"][0]["ratio"] == -1.0 and found["worst"]["cost"] == -0.5


def test_what_was_taught_by_domain():
    rows = by_domain([c for c in HISTORY if c.undone is None], {"sea": 100, "air": 5, "nowhere": 9})
    assert [(r["domain"], r["lessons"], r["last"], r["kept"], r["parameters"]) for r in rows] == [
        ("sea", 2, "d3", 0.6, 100), ("land", 1, "d2", 0.4, None), ("air", 1, "d4", None, 5),
        ("nowhere", 0, None, None, 9),
    ]  # fmt: skip
