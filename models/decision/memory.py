"""What a policy remembers between batches: recent alerts (suppression) and the day's budget.

It outlives a reload of the policy file where the setting that it belongs to is unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

from features.durations import parse_duration
from models.decision.budgets import Budgets
from models.decision.settings import SourcePolicy
from models.decision.suppression import AlertMemory


@dataclass
class SourceMemory:
    """The memory of one source's policy."""

    alerts: AlertMemory | None
    budgets: Budgets | None

    @classmethod
    def fresh(cls, policy: SourcePolicy) -> SourceMemory:
        """Nothing remembered yet."""
        suppress = policy.suppress
        return cls(
            alerts=AlertMemory(parse_duration(suppress.period, "suppress.period")) if suppress else None,
            budgets=Budgets(policy.budget) if policy.budget else None,
        )

    def adopt(self, old: SourceMemory, mine: SourcePolicy, other: SourcePolicy) -> None:
        """Take over what still fits from the memory of another version of the policy."""
        if mine.suppress is not None and mine.suppress == other.suppress:
            self.alerts = old.alerts
        if mine.budget is not None and mine.budget == other.budget:
            self.budgets = old.budgets
