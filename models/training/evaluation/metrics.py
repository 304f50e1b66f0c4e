"""Figures of merit of a score: ranking, cards found, precision and recall at thresholds, money.

Everything takes plain arrays (label 0 or 1, score higher is worse) and returns plain numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from features.core.batch import Floats, Ints
from models.monitoring import ranking
from models.training.settings import CostSettings

Labels = NDArray[np.int8]
DAY = 86_400_000_000


def roc_auc(label: Labels, score: Floats) -> float:
    """Area under the ROC curve: how often a bad event scores above a good one; NaN with one class only.

    >>> roc_auc(np.array([0, 0, 1], dtype=np.int8), np.array([0.1, 0.4, 0.3]))
    0.5
    """
    area = ranking.area_under_roc(*ranking.ranking(label, score))
    return float("nan") if area is None else area


def average_precision(label: Labels, score: Floats) -> float:
    """Mean of precision over the recalls reached, the area under the precision-recall steps; 0 without a bad event."""
    return ranking.average_precision(*ranking.ranking(label, score)) or 0.0


def card_precision(
    card: Ints, time: Ints, label: Labels, score: Floats, k: int = 100, day: int = DAY
) -> float:
    """Share of compromised cards among the k with the highest score of each day, averaged over days.

    A card's score is its highest of the day; it is compromised when one of its events is bad that day.
    A compromised card that was found is blocked: it leaves the days that follow.

    >>> label = np.array([1, 0], dtype=np.int8)
    >>> card_precision(np.array([1, 2]), np.array([0, 1]), label, np.array([0.9, 0.1]), k=1)
    1.0
    """
    days = time // day
    counted = ranking.CardPrecision(k)
    for today in np.unique(days).tolist():
        rows = np.flatnonzero(days == today)
        cards, inverse = np.unique(card[rows], return_inverse=True)
        best = np.full(len(cards), -np.inf)
        np.maximum.at(best, inverse, score[rows])
        bad = np.zeros(len(cards), dtype=np.bool_)
        np.logical_or.at(bad, inverse, label[rows] > 0)
        counted.add_day(cards.tolist(), best, bad)
    return counted.value or 0.0


def attainable_card_precision(card: Ints, time: Ints, label: Labels, k: int = 100, day: int = DAY) -> float:
    """What a perfect score would reach: there may be fewer than k compromised cards a day."""
    return card_precision(card, time, label, label.astype(np.float64), k, day)


def at_thresholds(label: Labels, score: Floats, thresholds: Floats) -> list[dict[str, float]]:
    """Precision, recall and share flagged when every score >= threshold is flagged."""
    order = np.sort(score)
    bad_order = np.sort(score[label == 1])
    rows = []
    for threshold in thresholds:
        flagged = len(order) - int(np.searchsorted(order, threshold, "left"))
        caught = len(bad_order) - int(np.searchsorted(bad_order, threshold, "left"))
        rows.append(
            {
                "threshold": float(threshold),
                "precision": caught / flagged if flagged else 1.0,
                "recall": caught / len(bad_order) if len(bad_order) else 0.0,
                "flagged": flagged / len(order) if len(order) else 0.0,
            }
        )
    return rows


def spread_thresholds(score: Floats, count: int = 20) -> Floats:
    """Thresholds where the share flagged halves from step to step: dense where decisions are made."""
    shares = np.geomspace(1.0, max(1.0 / max(len(score), 1), 1e-5), count)
    return np.unique(np.quantile(score, 1.0 - shares))


def cost_curve(
    label: Labels, score: Floats, amount: Floats | None, costs: CostSettings, points: int = 200
) -> dict[str, Any]:
    """Money lost at each threshold, the cheapest threshold, and the cost of flagging nothing.

    Flagging the rows with the highest scores first: the cost falls by what a caught bad event would
    have cost and rises by each review and each good event that was refused.
    """
    lost = costs.missed + (costs.missed_share * np.nan_to_num(amount) if amount is not None else 0.0)
    missed = np.where(label == 1, lost, 0.0)
    alarm = costs.review + np.where(label == 0, costs.false_alarm, 0.0)
    order = np.argsort(-score, kind="stable")
    total = missed.sum() - np.cumsum(missed[order]) + np.cumsum(alarm[order])
    last_of_ties = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    total, threshold = total[last_of_ties], score[order][last_of_ties]
    nothing = float(missed.sum())
    best = int(np.argmin(total))
    pick = np.unique(np.linspace(0, len(total) - 1, min(points, len(total))).astype(np.int64))
    flag = bool(total[best] < nothing)
    return {
        "flag_nothing": nothing,
        "best_cost": float(total[best]) if flag else nothing,
        "best_threshold": float(threshold[best]) if flag else float(threshold[0]) + 1e-9,
        "points": [{"threshold": float(threshold[i]), "cost": float(total[i])} for i in pick],
    }


def curves(label: Labels, score: Floats, points: int = 300) -> dict[str, dict[str, list[float]]]:
    """ROC and precision-recall curves, thinned for plots."""
    false_rate, true_rate, _ = roc_curve(label, score)
    precision, recall, _ = precision_recall_curve(label, score)
    return {
        "roc": {"x": _thin(false_rate, points), "y": _thin(true_rate, points)},
        "precision_recall": {"x": _thin(recall, points), "y": _thin(precision, points)},
    }


def _thin(values: Floats, points: int) -> list[float]:
    pick = np.unique(np.linspace(0, len(values) - 1, min(points, len(values))).astype(np.int64))
    return [round(float(values[i]), 6) for i in pick]
