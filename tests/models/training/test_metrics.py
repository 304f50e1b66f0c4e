"""Figures of merit against hand-counted cases."""

from __future__ import annotations

import numpy as np
import pytest

from models.training.evaluation.metrics import (
    DAY,
    at_thresholds,
    attainable_card_precision,
    card_precision,
    cost_curve,
    spread_thresholds,
)
from models.training.settings import CostSettings


def labels(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int8)


def test_a_card_counts_by_its_highest_score_of_the_day():
    card = np.array([7, 7, 8, 9])
    label = labels(0, 1, 0, 0)
    score = np.array([0.9, 0.1, 0.5, 0.4])
    assert card_precision(card, np.zeros(4, dtype=np.int64), label, score, k=1) == 1.0
    assert card_precision(card, np.zeros(4, dtype=np.int64), label, score, k=2) == 0.5


def test_a_found_card_leaves_the_days_that_follow():
    card = np.array([1, 2, 1, 2])
    time = np.array([0, 0, DAY, DAY])
    label = labels(1, 0, 1, 1)
    score = np.array([0.9, 0.1, 0.9, 0.2])
    assert card_precision(card, time, label, score, k=1) == 1.0
    without_block = card_precision(card[2:], time[2:], labels(1, 0), score[2:], k=1)
    assert without_block == 1.0
    assert card_precision(card, time, labels(1, 0, 1, 0), score, k=1) == 0.5


def test_attainable_is_what_a_perfect_score_reaches():
    card = np.arange(10)
    label = labels(1, 1, 0, 0, 0, 0, 0, 0, 0, 0)
    time = np.zeros(10, dtype=np.int64)
    assert attainable_card_precision(card, time, label, k=5) == pytest.approx(0.4)


def test_precision_and_recall_at_a_threshold():
    row = at_thresholds(labels(0, 1, 1, 0), np.array([0.1, 0.2, 0.9, 0.5]), np.array([0.5]))[0]
    assert row == {"threshold": 0.5, "precision": 0.5, "recall": 0.5, "flagged": 0.5}


def test_thresholds_reach_from_all_to_the_last_row():
    score = np.linspace(0, 1, 1000)
    steps = spread_thresholds(score)
    assert steps[0] == 0.0
    assert steps[-1] >= 0.998


def test_the_cheapest_threshold_is_found_by_counting():
    label = labels(1, 0, 1, 0)
    score = np.array([0.9, 0.8, 0.7, 0.1])
    amount = np.array([100.0, 10.0, 50.0, 10.0])
    curve = cost_curve(label, score, amount, CostSettings(review=5, false_alarm=0))
    assert curve["flag_nothing"] == 150
    assert curve["best_threshold"] == 0.7
    assert curve["best_cost"] == 15


def test_flagging_nothing_may_be_cheapest():
    curve = cost_curve(labels(0, 1), np.array([0.9, 0.2]), np.array([1.0, 1.0]), CostSettings(review=50))
    assert curve["best_cost"] == 1.0
    assert curve["best_threshold"] > 0.9


def test_rows_with_one_score_are_flagged_together():
    curve = cost_curve(labels(1, 0, 0), np.array([0.5, 0.5, 0.5]), None, CostSettings(missed=10, review=1))
    assert curve["best_cost"] == 3
    assert [point["cost"] for point in curve["points"]] == [3.0]
