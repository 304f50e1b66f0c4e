"""Keeps K alerts a day, best first, as the scores drift.

Event time is cut into intervals. At the start of each, the controller picks the lowest threshold
whose expected number of alerts until midnight (UTC) fits what is left of the day's budget; it
expects what it has seen, older intervals counting less (half-life). Within an interval the
threshold stands still, so the result depends on the events alone: not on the clock, not on how the
stream was cut into batches (tests/models/decision/test_budget.py).

Bound: a day never gets more than K * (1 + overshoot) alerts, rounded up, from one controller.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from features.core.batch import Bools, Floats, Ints

DAY = 86_400_000_000
BINS = 2048
_EDGE = 12.0  # log-odds covered by the bins: 6e-6 to 1 - 6e-6


@dataclass(frozen=True, kw_only=True)
class BudgetRule:
    """What a controller must keep to; times in microseconds."""

    alerts_per_day: float
    start: float
    overshoot: float
    interval: int
    half_life: int

    @property
    def cap(self) -> int:
        """Most alerts of one day."""
        return int(np.ceil(self.alerts_per_day * (1.0 + self.overshoot)))


@dataclass
class BudgetController:
    """One stream's controller. `decide` takes events in scoring order."""

    rule: BudgetRule
    threshold: float = -1.0
    used: int = 0
    _interval: int = -1
    _day: int = -1
    _newest: int = -1
    _seen: Floats = field(default_factory=lambda: np.zeros(BINS))
    _seen_time: float = 0.0
    _current: Floats = field(default_factory=lambda: np.zeros(BINS))

    def __post_init__(self) -> None:
        if self.threshold < 0.0:
            self.threshold = self.rule.start

    def decide(self, score: Floats, times: Ints, eligible: Bools) -> tuple[Bools, Floats]:
        """(alert, threshold) for each row. Rows not `eligible` (decided otherwise) cost no budget."""
        alert = np.zeros(len(score), dtype=np.bool_)
        used_threshold = np.empty(len(score), dtype=np.float64)
        if not len(score):
            return alert, used_threshold
        newest = np.maximum(np.maximum.accumulate(times), self._newest)
        intervals = newest // self.rule.interval
        cuts = np.flatnonzero(np.diff(intervals)) + 1
        for start, end in zip((0, *cuts.tolist()), (*cuts.tolist(), len(score)), strict=True):
            if intervals[start] != self._interval:
                self._next_interval(int(intervals[start]))
            rows = slice(start, end)
            above = (score[rows] >= self.threshold) & eligible[rows]
            over = np.cumsum(above) > self.rule.cap - self.used
            alert[rows] = above & ~over
            used_threshold[rows] = np.where(over & eligible[rows], np.inf, self.threshold)
            self.used += int(alert[rows].sum())
            self._current += np.bincount(_bins(score[rows][eligible[rows]]), minlength=BINS)
        self._newest = int(newest[-1])
        return alert, used_threshold

    def recall(self, time: int, threshold: float) -> None:
        """Count an alert that was published before this controller began; the newest gives the threshold."""
        if time // DAY > self._day:
            self._day, self.used = time // DAY, 0
        if time // DAY == self._day:
            self.used += 1
        if time >= self._newest and threshold <= 1.0:
            self._newest, self.threshold = time, threshold

    def copy(self) -> BudgetController:
        """An independent controller in the same state."""
        return replace(self, _seen=self._seen.copy(), _current=self._current.copy())

    def _next_interval(self, interval: int) -> None:
        if self._interval >= 0:
            passed = (interval - self._interval) * self.rule.interval
            kept = 0.5 ** (passed / self.rule.half_life)
            self._seen = self._seen * kept + self._current
            self._seen_time = self._seen_time * kept + passed
            self._current = np.zeros(BINS)
        self._interval = interval
        now = interval * self.rule.interval
        if now // DAY != self._day:
            self._day, self.used = now // DAY, 0
        if self._seen_time > 0:
            self.threshold = self._fitting((self._day + 1) * DAY - now)

    def _fitting(self, remaining: int) -> float:
        """The lowest threshold that the rest of the day can afford."""
        left = max(self.rule.alerts_per_day - self.used, 0.0)
        expected = np.cumsum(self._seen[::-1])[::-1] * (remaining / self._seen_time)
        fits = np.flatnonzero(expected <= left)
        return _lower_edge(int(fits[0])) if len(fits) else 1.0


def _bins(score: Floats) -> NDArray[np.int64]:
    inside = np.clip(score, 1e-12, 1 - 1e-12)
    odds = np.log(inside / (1 - inside))
    return np.clip((odds + _EDGE) * (BINS / (2 * _EDGE)), 0, BINS - 1).astype(np.int64)


def _lower_edge(number: int) -> float:
    return 0.0 if number == 0 else float(1.0 / (1.0 + np.exp(_EDGE - number * (2 * _EDGE / BINS))))
