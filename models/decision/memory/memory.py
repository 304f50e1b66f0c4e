"""What a policy remembers between batches: recent alerts (suppression) and the day's budget.

It outlives a reload of the policy file where the setting that it belongs to is unchanged, and is
rebuilt from published alerts (`recall`) when a worker recovers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from features.core.durations import parse_duration
from models.decision.decisions import DecisionCode
from models.decision.memory.budgets import Budgets
from models.decision.memory.suppression import AlertMemory
from models.decision.settings import SourcePolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class PastAlert:
    """A published alert, as far as a policy must know it. `by_rule`: it cost no budget."""

    source: str
    event_id: str
    time: int
    decision: int
    threshold: float | None
    partition: int
    entity_keys: Mapping[str, str | None]
    by_rule: bool


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

    def recall(self, policy: SourcePolicy, alerts: Sequence[PastAlert]) -> None:
        """Remember these alerts, in their order, and no others; budgets that run keep their count."""
        if policy.suppress is not None:
            keys = [alert.entity_keys.get(policy.suppress.entity) for alert in alerts]
            known = zip(keys, alerts, strict=True)
            self.alerts = AlertMemory(parse_duration(policy.suppress.period, "suppress.period"))
            self.alerts.recall([(key, a.event_id, a.time, a.decision) for key, a in known if key])
        if self.budgets is not None:
            spent = [
                (alert.partition, alert.time, alert.threshold)
                for alert in alerts
                if alert.decision == DecisionCode.REVIEW and not alert.by_rule and alert.threshold is not None
            ]
            self.budgets.recall(spent)

    def adopt(self, old: SourceMemory, mine: SourcePolicy, other: SourcePolicy) -> None:
        """Take over what still fits from the memory of another version of the policy."""
        if mine.suppress is not None and mine.suppress == other.suppress:
            self.alerts = old.alerts
        if mine.budget is not None and mine.budget == other.budget:
            self.budgets = old.budgets
