"""The controllers of one source: one a partition when the budget is split, else one for all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from features.core.batch import Bools, FeatureMatrix, Floats
from features.core.durations import parse_duration
from models.decision.memory.budget import BudgetController, BudgetRule
from models.decision.settings import Budget


@dataclass
class Budgets:
    """Splits events among controllers.

    An event that comes again (an aborted unit of work) is decided by the threshold of now and counted
    once only: offsets tell.
    """

    settings: Budget
    _controllers: dict[int, BudgetController] = field(default_factory=dict)
    _next: dict[int, int] = field(default_factory=dict)

    def decide(
        self, features: FeatureMatrix, score: Floats, eligible: Bools, remember: bool
    ) -> tuple[Bools, Floats]:
        """(alert, threshold) for each row; without `remember` nothing is counted."""
        partition = features.batch.partition
        fresh = self._fresh(features, remember)
        alert = np.zeros(len(features), dtype=np.bool_)
        threshold = np.empty(len(features), dtype=np.float64)
        owner = partition if self.settings.partitions > 1 else np.zeros_like(partition)
        for name in np.unique(owner).tolist():
            mine = owner == name
            controller = self._controller(name, remember)
            again = mine & ~fresh
            alert[again] = eligible[again] & (score[again] >= controller.threshold)
            threshold[again] = controller.threshold
            rows = np.flatnonzero(mine & fresh)
            alert[rows], threshold[rows] = controller.decide(
                score[rows], features.batch.event_time[rows], eligible[rows]
            )
        return alert, threshold

    def recall(self, alerts: Iterable[tuple[int, int, float]]) -> None:
        """Go on from published alerts (partition, time, threshold), where no controller runs yet."""
        running = set(self._controllers)
        for partition, time, threshold in alerts:
            owner = partition if self.settings.partitions > 1 else 0
            if owner not in running:
                self._controller(owner, remember=True).recall(time, threshold)

    def _fresh(self, features: FeatureMatrix, remember: bool) -> Bools:
        fresh: NDArray[np.bool_] = np.ones(len(features), dtype=np.bool_)
        for partition in features.batch.partitions:
            mine = features.batch.partition == partition
            offsets = features.batch.offset[mine]
            fresh[mine] = offsets >= self._next.get(partition, 0)
            if remember:
                self._next[partition] = max(self._next.get(partition, 0), int(offsets.max()) + 1)
        return fresh

    def _controller(self, name: int, remember: bool) -> BudgetController:
        controller = self._controllers.get(name) or BudgetController(_rule(self.settings))
        if remember:
            self._controllers[name] = controller
            return controller
        return controller.copy()


def _rule(settings: Budget) -> BudgetRule:
    return BudgetRule(
        alerts_per_day=settings.alerts_per_day / settings.partitions,
        start=settings.start,
        overshoot=settings.overshoot,
        interval=parse_duration(settings.interval, "budget.interval"),
        half_life=parse_duration(settings.half_life, "budget.half_life"),
    )
