"""The figures of R against matrices worked out by hand, laws that hold for every matrix, and harnesses that would lie."""

import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accrete.evaluate import metrics
from accrete.evaluate.metrics import FIGURES, average, intervals, matrix, of_matrix, over_seeds, parts, values

FULL = [  # after 0, 1, 2, 3 lessons on tasks 1, 2, 3
    [0.1, 0.0, 0.2],
    [0.9, 0.1, 0.2],
    [0.6, 0.8, 0.5],
    [0.3, 0.7, 1.0],
]
DEFAULT = [  # what is asked by default: the base row, the diagonal, the next task, the last row
    [0.1, 0.0, 0.2],
    [0.9, 0.1, None],
    [None, 0.8, 0.5],
    [0.3, 0.7, 1.0],
]
BY_HAND = {
    "learned": 2.7 / 3, "kept": 2.0 / 3, "op": 2.0 / 3, "floor": 0.1, "wrong_document": 0.3,
    "bwt": (-0.6 - 0.1) / 2, "fwt": (0.1 + 0.3) / 2, "forgetting": (0.6 + 0.1) / 2, "forgetting_ratio": 0.7 / 1.7,
}  # fmt: skip


def answers(R, probes=4, kinds=("changed", "unchanged")):
    """Rows of answers, right or wrong, whose means are the entries of R (which are then whole parts of `probes`)."""
    rows = []
    for step, scores in enumerate(R):
        for task, score in enumerate(scores):
            for probe in range(probes if score is not None else 0):
                right = float(probe < round(score * probes))
                told = dict.fromkeys(("exact_match", "contains", "grade", "token_f1"), right)
                kind = kinds[probe % len(kinds)]
                rows.append({"step": step, "task": task, "probe": probe, "kind": kind, "as_of": None, **told})
    return rows


def learner(after_its_lesson, later, base=0.0, before=None, count=4):
    """R of one that scores the same on every task at the same distance from its lesson."""
    before = base if before is None else before
    return [
        [base if i == 0 else before if j >= i else after_its_lesson if j == i - 1 else later for j in range(count)]
        for i in range(count + 1)
    ]


# --- by hand ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("R", [FULL, DEFAULT])
def test_a_matrix_worked_out_by_hand(R):
    found = of_matrix(R)
    assert {name: found[name] for name in BY_HAND} == pytest.approx(BY_HAND)
    assert {name for name in FIGURES if found[name] is None} == {"plasticity", "stability", "token_f1", "versioned"}


def test_forgetting_looks_at_the_best_there_was_before_the_end_the_base_included():
    assert of_matrix([[0, 0], [0.5, 0], [0.4, 1]])["forgetting"] == pytest.approx(0.1)
    assert of_matrix([[0.9, 0], [0.5, 0], [0.4, 1]])["forgetting"] == pytest.approx(0.5)
    better_in_between = [[0, 0, 0], [0.5, 0, 0], [0.9, 0.7, 0], [0.4, 0.8, 1]]
    assert of_matrix(better_in_between)["forgetting"] == pytest.approx((0.5 - 0.1) / 2)  # task 2 gained


def test_one_task_has_neither_forgetting_nor_transfer():
    found = of_matrix([[0.25], [1.0]])
    assert (found["learned"], found["kept"], found["op"], found["floor"]) == (1.0, 1.0, 1.0, 0.25)
    assert {found[name] for name in ("bwt", "fwt", "forgetting", "forgetting_ratio", "wrong_document")} == {None}


@pytest.mark.parametrize("R", [[], [[]], [[None, None]] * 3, [[None]] * 2])
def test_nothing_measured_gives_no_figure(R):
    assert set(of_matrix(R).values()) == {None}


def test_a_run_that_broke_off_has_what_was_measured():
    found = of_matrix([[0.1, 0.0, 0.2], [0.9, 0.1, None], [None] * 3, [None] * 3])
    assert found["learned"] == 0.9 and found["kept"] is None and found["forgetting"] is None
    assert found["wrong_document"] == pytest.approx(0.1) and found["fwt"] == pytest.approx(0.1)


def test_the_forgetting_ratio_is_undefined_where_nothing_was_known():
    assert metrics.forgetting_ratio(0.8, 0.6) == pytest.approx(0.25)
    assert metrics.forgetting_ratio(0.5, 0.75) == -0.5
    for before, after in ((0.0, 0.5), (None, 0.5), (0.5, None)):
        assert metrics.forgetting_ratio(before, after) is None
    assert of_matrix([[0, 0], [0, 0], [0, 1]])["forgetting_ratio"] is None


# --- from answers -----------------------------------------------------------------------------------------------------


def test_the_matrix_of_answers():
    R = [[0.0, 0.25], [1.0, 0.5], [0.75, None]]
    assert matrix(answers(R)) == R
    assert matrix(answers(R), tasks=3) == [[0.0, 0.25, None], [1.0, 0.5, None], [0.75, None, None], [None] * 3]
    assert matrix([]) == [[]] and matrix([], tasks=1) == [[None], [None]]


def test_the_matrix_is_of_the_score_that_was_asked_for_and_skips_what_is_no_number():
    rows = [
        {"step": 0, "task": 0, "probe": 0, "contains": 1.0, "log_likelihood": -2.0},
        {"step": 0, "task": 0, "probe": 1, "contains": 0.0, "log_likelihood": -math.inf},
        {"step": 0, "task": 0, "probe": 2, "contains": None, "log_likelihood": math.nan},
    ]
    assert matrix(rows)[0] == [0.5] and matrix(rows, "log_likelihood")[0] == [-2.0]
    assert matrix(rows, "grade", tasks=1) == [[None], [None]]


def dated(step, task, probe, kind, as_of, right):
    return {
        "step": step,
        "task": task,
        "probe": probe,
        "kind": kind,
        "as_of": as_of,
        "contains": right,
        "token_f1": right / 2,
    }


PERIODS = ("2018", "2020", "2022")


def periods():
    """Three periods; by period, of the changed probes 1, 0 and 1 of 2 are right, of the unchanged 2, 2 and 1 of 2; then
    of the first period's probes 3 of 4 are right at the end, of the second's 1 of 4."""
    rows = []
    for task, (changed, unchanged) in enumerate(((1, 2), (0, 2), (1, 1))):
        for probe in range(2):
            rows.append(dated(task + 1, task, probe, "changed", PERIODS[task], float(probe < changed)))
            rows.append(dated(task + 1, task, 2 + probe, "unchanged", PERIODS[task], float(probe < unchanged)))
    for task, right in enumerate((3, 1)):
        kinds = ("changed", "changed", "unchanged", "unchanged")
        rows += [dated(3, task, k, kinds[k], PERIODS[task], float(k < right)) for k in range(4)]
    return rows


def test_plasticity_and_stability_are_of_periods_from_the_second_on():
    found = values(parts(periods()))
    assert found["plasticity"] == pytest.approx((0 / 2 + 1 / 2) / 2)
    assert found["stability"] == pytest.approx((2 / 2 + 1 / 2) / 2)


def test_token_f1_is_of_the_same_periods_and_of_all_probes_where_there_are_no_periods():
    """Half a point for every right answer: 2 of 4 in the second period, 2 of 4 in the third, 3 of 4 in the first."""
    assert values(parts(periods()))["token_f1"] == pytest.approx((2 / 4 + 2 / 4) / 2 / 2)
    undated = [row | {"kind": ""} for row in periods()]
    assert values(parts(undated))["token_f1"] == pytest.approx((3 + 2 + 2) / 12 / 2)
    more = [dated(3, 2, 9 + k, "unchanged", "2022", 0.0) for k in range(12)]  # a period weighs as much as any other
    assert values(parts([*periods(), *more]))["token_f1"] == pytest.approx((2 / 4 + 2 / 16) / 2 / 2)


def test_a_period_with_few_probes_weighs_as_much_as_one_with_many():
    rows = periods() + [dated(3, 2, 9 + k, "changed", "2022", 0.0) for k in range(8)]
    assert values(parts(rows))["plasticity"] == pytest.approx((0 + 1 / 10) / 2)


def test_versioned_counts_superseded_facts_alone_after_the_last_lesson():
    old = [row | {"superseded": row["kind"] == "changed" and row["task"] < 2} for row in periods()]
    assert values(parts(old))["versioned"] == pytest.approx((2 + 1) / 4)  # the unchanged would make it (3 + 1) / 8
    never = [row | {"superseded": False} for row in periods()]
    assert values(parts(never))["versioned"] is None
    early = [row | {"superseded": row["step"] < 3} for row in periods()]  # asked too early
    assert values(parts(early))["versioned"] is None


def test_the_wrong_document_counts_only_where_it_says_nothing_of_what_is_asked():
    rows = answers(DEFAULT)  # just before their lessons: 0 of 4 of task 2 (0.1), 2 of 4 of task 3
    assert values(parts(rows))["wrong_document"] == pytest.approx((0 + 0.5) / 2)
    related = [row | {"related": row["task"] == 2 and row["contains"] == 1.0} for row in rows]
    assert values(parts(related))["wrong_document"] == 0.0
    known = [row | {"related": True} for row in rows]
    assert values(parts(known))["wrong_document"] is None and values(parts(known))["fwt"] is not None
    control = [{"probe": k, "contains": float(k == 0)} for k in range(5)]
    found = parts(known, control=control)
    assert values(found)["wrong_document"] == pytest.approx(1 / 5) and "wrong_document" in intervals(found)
    assert values(parts(rows, control=[]))["wrong_document"] is None  # there was to be another, and there is none


def test_streams_without_periods_have_no_figures_of_periods():
    found = values(parts(answers([*FULL[:1], [1.0, 0, 0], [0.5, 1, 0], [0.5, 1, 1]], kinds=("", "reverse"))))
    assert (found["plasticity"], found["stability"], found["versioned"]) == (None, None, None)
    assert found["learned"] == 1.0


def test_the_ceiling_is_averaged_as_learned_is():
    rows = [{"task": 0, "probe": k, "contains": 1.0} for k in range(9)] + [{"task": 1, "probe": 0, "contains": 0.0}]
    assert average(rows).value == 0.5 and average([]) is None


# --- a harness that lies would be caught ------------------------------------------------------------------------------


def test_one_that_learns_nothing_stays_at_the_floor():
    """The base answers a quarter of the probes whatever is taught."""
    found = values(parts(answers(learner(0.25, 0.25, base=0.25), kinds=("changed",))))
    assert found["plasticity"] == found["learned"] == found["floor"] == found["kept"] == 0.25
    assert (found["forgetting"], found["bwt"], found["fwt"], found["forgetting_ratio"]) == (0, 0, 0, 0)


def test_one_that_forgets_everything_is_seen_to():
    found = values(parts(answers(learner(1.0, 0.0))))
    assert (found["forgetting"], found["bwt"], found["forgetting_ratio"]) == (1.0, -1.0, 1.0)
    assert found["learned"] == 1.0 and found["kept"] == found["op"] == 0.25  # the last lesson alone is left


def test_one_that_forgets_nothing_has_no_forgetting():
    found = values(parts(answers(learner(1.0, 1.0))))
    assert (found["forgetting"], found["bwt"], found["forgetting_ratio"], found["kept"]) == (0, 0, 0, 1)


def test_one_that_knows_the_answers_of_another_document_is_no_better():
    """Before its lesson nothing is right, however much of other lessons is known."""
    found = of_matrix(learner(1.0, 1.0, before=0.0))
    assert found["wrong_document"] == found["floor"] == 0.0
    leaked = of_matrix(learner(1.0, 1.0, before=0.9))  # answers that came before their lesson show
    assert leaked["wrong_document"] == leaked["fwt"] == pytest.approx(0.9)


@pytest.mark.parametrize("count", [1, 6])
def test_the_order_of_probes_does_not_matter(count):
    R = [[0.25 * ((i + j) % 5) for j in range(count)] for i in range(count + 1)]
    draw = random.Random(3)
    rows = [row | {"token_f1": draw.random(), "contains": draw.random()} for row in answers(R, probes=9) * 2]
    rows = [row | {"probe": number} for number, row in enumerate(rows)]
    shuffled = draw.sample(rows, len(rows))
    assert values(parts(rows)) == values(parts(shuffled)) and intervals(parts(rows)) == intervals(parts(shuffled))


# --- laws -------------------------------------------------------------------------------------------------------------

scores = st.floats(0, 1, allow_nan=False)
entries = st.one_of(st.none(), scores)


def matrices(entry):
    return st.integers(1, 6).flatmap(
        lambda n: st.lists(st.lists(entry, min_size=n, max_size=n), min_size=n + 1, max_size=n + 1)
    )


@given(matrices(entries))
@settings(max_examples=150, deadline=None)
def test_every_figure_is_a_number_or_none_and_in_its_bounds(R):
    found = of_matrix(R)
    json.dumps(found, allow_nan=False)
    assert set(found) == set(FIGURES)
    for name in ("learned", "kept", "op", "floor", "wrong_document"):
        assert found[name] is None or -1e-9 <= found[name] <= 1 + 1e-9
    for name in ("bwt", "fwt", "forgetting"):
        assert found[name] is None or -1 - 1e-9 <= found[name] <= 1 + 1e-9


@given(matrices(scores))
@settings(max_examples=100, deadline=None)
def test_forgetting_is_at_least_what_was_lost_since_the_lesson(R):
    found = of_matrix(R)
    assert found["kept"] == found["op"]
    if len(R) > 2:
        assert found["forgetting"] >= -found["bwt"] - 1e-9
        learned = math.fsum(R[j + 1][j] for j in range(len(R) - 2))
        if learned > 0.01:
            assert found["forgetting_ratio"] == pytest.approx(-found["bwt"] * (len(R) - 2) / learned, abs=1e-6)


@given(matrices(scores))
@settings(max_examples=100, deadline=None)
def test_what_lies_before_the_end_of_a_task_alone_changes_only_forgetting(R):
    """The figures other than forgetting are the same from what is asked by default as from the full matrix."""
    last = len(R) - 1
    by_default = [[s if i in (0, j, j + 1, last) else None for j, s in enumerate(row)] for i, row in enumerate(R)]
    full, sparse = of_matrix(R), of_matrix(by_default)
    assert {k: v for k, v in full.items() if k != "forgetting"} == {
        k: v for k, v in sparse.items() if k != "forgetting"
    }
    if last > 1:
        assert full["forgetting"] >= sparse["forgetting"] - 1e-9


# --- intervals and seeds ----------------------------------------------------------------------------------------------


def test_intervals_hold_the_value_and_are_the_same_every_time():
    found = parts(answers([*FULL[:1], [1.0, 0, 0], [0.5, 0.75, 0], [0.25, 0.75, 0.5]]))
    bounds, figures = intervals(found), values(found)
    assert bounds == intervals(found)
    for name, (low, high) in bounds.items():
        assert low - 1e-9 <= figures[name] <= high + 1e-9
    assert bounds["learned"][0] < bounds["learned"][1]


def test_an_interval_narrows_with_more_tasks():
    def width(count):
        R = learner(1.0, 1.0, count=count)
        for j in range(0, count, 2):
            R[j + 1][j] = 0.5
        low, high = intervals(parts(answers(R)))["learned"]
        return high - low

    assert width(40) < width(8)


def test_one_task_is_drawn_by_probe():
    bounds = intervals(parts(answers([[0.25], [0.5]], probes=8)))
    assert bounds["learned"][0] < 0.5 < bounds["learned"][1] and bounds["floor"][1] < bounds["learned"][1]
    assert values(parts(answers([[0.25], [0.5]], probes=8)))["learned"] == 0.5


def test_there_is_no_interval_of_one_thing_or_of_a_ratio_that_may_be_undefined():
    assert intervals(parts(answers([[0.0], [1.0]], probes=1))) == {}
    assert "bwt" not in intervals(parts(answers([[0, 0], [1, 0], [0.5, 1]])))  # one task before the last
    never_learned = [[0, 0, 0], [0, 0, 0], [0, 1, 0], [0, 1, 1]]
    assert "forgetting_ratio" not in intervals(parts(answers(never_learned)))


def test_tasks_are_drawn_within_seeds_and_seeds_among_each_other():
    one, other = (parts(answers(learner(right, right))) for right in (1.0, 0.5))
    assert intervals(one)["learned"] == [1.0, 1.0]
    low, high = intervals(one, other)["learned"]  # two seeds: the whole way from one to the other
    assert low <= 0.5 and high == 1.0
    several = intervals(*[one, other] * 8)["learned"]
    assert 0.5 < several[0] < 0.75 < several[1] < 1.0
    assert intervals(one, one, one)["learned"] == [1.0, 1.0]


def test_a_seed_with_many_tasks_weighs_as_much_as_one_with_few():
    """The interval is of what is reported, the mean over seeds, so it lies around it."""
    many, few = parts(answers(learner(1.0, 1.0, count=12))), parts(answers(learner(0.0, 0.0, count=2)))
    low, high = intervals(*[many, few] * 6)["learned"]
    assert (low + high) / 2 == pytest.approx(0.5, abs=0.1)


def test_mean_and_spread_over_seeds():
    means, spreads = over_seeds(
        [{"learned": 0.5, "bwt": None}, {"learned": 0.7, "bwt": -0.2}, {"learned": 0.9, "bwt": None}]
    )
    assert means == pytest.approx({"learned": 0.7, "bwt": -0.2})
    assert spreads["learned"] == pytest.approx(0.2) and spreads["bwt"] is None
    assert over_seeds([{"learned": 0.5, "fwt": None}]) == (
        {"learned": 0.5, "fwt": None},
        {"learned": None, "fwt": None},
    )
    assert over_seeds([]) == ({}, {})
