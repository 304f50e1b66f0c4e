"""The alert budget is kept as the score drifts; the result depends on the events alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.decision.memory.budget import DAY, BudgetController, BudgetRule

MINUTE = 60_000_000


def rule(**changes) -> BudgetRule:
    fields = {
        "alerts_per_day": 100, "start": 0.5, "overshoot": 0.1, "interval": 15 * MINUTE, "half_life": DAY // 2,
    }  # fmt: skip
    return BudgetRule(**{**fields, **changes})


def drifting(days: int, per_day: int, drift: float, seed: int = 0):
    """Events all through the day, busier at noon, whose log-odds rise by `drift` a day."""
    rng = np.random.default_rng(seed)
    within = np.sort(np.clip(rng.normal(0.5, 0.2, size=(days, per_day)), 0, 0.999999), axis=1)
    times = ((np.arange(days)[:, None] + within) * DAY).astype(np.int64).ravel()
    odds = rng.normal(-4, 1.5, size=days * per_day) + drift * times / DAY
    return 1 / (1 + np.exp(-odds)), times


def run(controller: BudgetController, score, times, cuts=()):
    parts = np.split(np.arange(len(score)), cuts)
    alerts = [controller.decide(score[p], times[p], np.ones(len(p), dtype=bool)) for p in parts]
    return np.concatenate([a for a, _ in alerts]), np.concatenate([t for _, t in alerts])


@pytest.mark.parametrize("drift", [-0.3, 0.0, 0.3, 1.0])
def test_keeps_the_budget_as_the_score_drifts(drift):
    score, times = drifting(14, 5000, drift)
    alert, _ = run(BudgetController(rule()), score, times)
    a_day = np.bincount(times[alert] // DAY, minlength=14)
    assert a_day.max() <= rule().cap
    settled = a_day[2:]
    assert settled.mean() > 70
    assert np.all(settled >= 40)


def test_takes_the_best():
    score, times = drifting(10, 5000, 0.0)
    alert, _ = run(BudgetController(rule()), score, times)
    later = times >= 2 * DAY
    taken, spent = score[later & alert], int((later & alert).sum())
    best = np.sort(score[later])[-spent:]
    assert taken.sum() > 0.9 * best.sum()


def test_a_burst_does_not_overshoot():
    score, times = drifting(3, 5000, 0.0)
    burst = np.full(20_000, 0.999)
    at = np.full(20_000, 3 * DAY + DAY // 2)
    alert, threshold = run(BudgetController(rule()), np.append(score, burst), np.append(times, at))
    assert alert[-20_000:].sum() <= rule().cap
    assert np.isinf(threshold[-1])


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 6000), max_size=12))
def test_batches_do_not_matter(cuts):
    score, times = drifting(3, 2000, 0.5)
    whole = run(BudgetController(rule()), score, times)
    parts = run(BudgetController(rule()), score, times, sorted(cuts))
    assert (whole[0] == parts[0]).all()
    assert (whole[1] == parts[1]).all()


def test_events_out_of_order_do_not_turn_the_day_back():
    score, times = drifting(3, 2000, 0.0)
    rng = np.random.default_rng(1)
    late = np.argsort(times + rng.integers(0, 2 * 60 * MINUTE, len(times)), kind="stable")
    alert, _ = run(BudgetController(rule()), score[late], times[late])
    counted = np.maximum.accumulate(times[late]) // DAY
    assert np.bincount(counted[alert]).max() <= rule().cap


def test_events_decided_otherwise_cost_nothing():
    controller = BudgetController(rule(alerts_per_day=5))
    score, times = np.full(100, 0.9), np.arange(100) * MINUTE
    eligible = np.zeros(100, dtype=bool)
    alert, _ = controller.decide(score, times, eligible)
    assert not alert.any()
    assert controller.used == 0


def test_a_copy_goes_its_own_way():
    score, times = drifting(2, 2000, 0.0)
    controller = BudgetController(rule())
    run(controller, score[:3000], times[:3000])
    copy, used = controller.copy(), controller.used
    ahead = run(copy, score[3000:], times[3000:])
    assert controller.used == used
    assert (run(controller, score[3000:], times[3000:])[0] == ahead[0]).all()


def test_published_alerts_count_after_a_crash():
    score, times = drifting(4, 5000, 0.3)
    controller = BudgetController(rule())
    noon = int(np.searchsorted(times, 3 * DAY + DAY // 2))
    alert, threshold = run(controller, score[:noon], times[:noon])
    recovered = BudgetController(rule())
    for at, passed in zip(times[:noon][alert].tolist(), threshold[alert].tolist(), strict=True):
        recovered.recall(at, passed)
    assert recovered.used == controller.used
    assert recovered.threshold == threshold[alert][-1]
    later, _ = run(recovered, score[noon:], times[noon:])
    assert controller.used + later.sum() <= rule().cap
