"""How well a score ranks: one arithmetic for training reports and for backtests, without scikit-learn.

A *ranking* is a table of the different scores, highest first, with how many good and bad events have each. It
is all that the areas need, so that a backtest can count part by part and hold no event.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from features.core.batch import Bools, Floats, Ints


def ranking(label: NDArray[np.int8] | Floats, score: Floats) -> tuple[Ints, Ints]:
    """(good, bad) events of each different score, highest first; a label above 0 is bad.

    >>> ranking(np.array([0.0, 1.0, 0.0]), np.array([0.2, 0.7, 0.7]))
    (array([1, 1]), array([1, 0]))
    """
    order = np.argsort(-score, kind="stable")
    ranked, is_bad = score[order], np.greater(label, 0)[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]]) if len(ranked) else np.zeros(0, np.int64)
    bad = np.add.reduceat(is_bad.astype(np.int64), starts) if len(ranked) else np.zeros(0, np.int64)
    return np.diff(np.r_[starts, len(ranked)]) - bad, bad


def area_under_roc(good: Ints, bad: Ints) -> float | None:
    """Chance that a bad event scores above a good one, ties half (Mann-Whitney); None with one class only."""
    goods, bads = int(good.sum()), int(bad.sum())
    if not goods or not bads:
        return None
    below = goods - np.cumsum(good)
    return float(np.sum(bad * (below + good / 2)) / (goods * bads))


def average_precision(good: Ints, bad: Ints) -> float | None:
    """Mean of precision over the steps in recall, as scikit-learn defines it; None without a bad event."""
    bads = int(bad.sum())
    if not bads:
        return None
    hits = np.cumsum(bad)
    return float(np.sum(bad / bads * (hits / np.maximum(hits + np.cumsum(good), 1))))


class CardPrecision:
    """Card precision@k: of a day's k cards with the highest scores, the share compromised; mean over days.

    A compromised card that was found is blocked: it leaves the days that follow, as in the Fraud Detection Handbook.
    """

    def __init__(self, k: int) -> None:
        self._k = k
        self._caught: set[object] = set()
        self._shares: list[float] = []

    def add_day(self, cards: Sequence[object], best: Floats, bad: Bools) -> None:
        """The next day: its different cards in ascending order (which breaks ties), their highest score, the bad."""
        left = np.flatnonzero([card not in self._caught for card in cards])
        top = left[np.argsort(-best[left], kind="stable")[: self._k]]
        caught = top[bad[top]]
        self._shares.append(len(caught) / self._k)
        self._caught.update(cards[index] for index in caught.tolist())

    @property
    def value(self) -> float | None:
        """The mean so far; None without a day."""
        return sum(self._shares) / len(self._shares) if self._shares else None
