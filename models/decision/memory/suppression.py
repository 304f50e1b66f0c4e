"""At most one alert per entity and period, in event time.

Nothing is lost: a suppressed event keeps its decision and is flagged. The answer for an event that
was let through stays the same when it is decided again (an aborted unit of work, a redelivery),
because its id is remembered. What is remembered can be rebuilt from published alerts (`recall`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from features.core.batch import Bools, Ints

_SWEEP_EVERY = 4096


@dataclass(slots=True)
class _Alert:
    time: int
    event_id: str
    decision: int


@dataclass
class AlertMemory:
    """Recent alerts by entity key; forgets what is two periods older than the newest event."""

    period: int
    _alerts: dict[str, list[_Alert]] = field(default_factory=dict)
    _newest: int = 0
    _until_sweep: int = _SWEEP_EVERY

    def suppress(
        self,
        keys: Sequence[str | None],
        event_ids: Sequence[str],
        times: Ints,
        decisions: NDArray[np.int8],
        remember: bool = True,
    ) -> Bools:
        """Which of these would-be alerts, in scoring order, are suppressed. A null key never is.

        A decline passes where only reviews were alerted: it says something new.
        """
        out = np.zeros(len(keys), dtype=np.bool_)
        alerts = self._alerts if remember else {k: list(self._alerts.get(k, ())) for k in keys if k}
        rows = zip(keys, event_ids, times.tolist(), decisions.tolist(), strict=True)
        for row, (key, event_id, time, decision) in enumerate(rows):
            if key is None:
                continue
            known = alerts.setdefault(key, [])
            if any(alert.event_id == event_id for alert in known):
                continue
            if any(abs(time - a.time) < self.period and a.decision >= decision for a in known):
                out[row] = True
            else:
                known.append(_Alert(time, event_id, decision))
        if remember and len(keys):
            self._newest = max(self._newest, int(times.max()))
            self._sweep(len(keys))
        return out

    def recall(self, alerts: Iterable[tuple[str, str, int, int]]) -> None:
        """Remember published alerts: key, event id, time, decision."""
        for key, event_id, time, decision in alerts:
            self._alerts.setdefault(key, []).append(_Alert(time, event_id, decision))
            self._newest = max(self._newest, time)

    def __len__(self) -> int:
        return len(self._alerts)

    def _sweep(self, rows: int) -> None:
        self._until_sweep -= rows
        if self._until_sweep > 0:
            return
        self._until_sweep = _SWEEP_EVERY
        oldest = self._newest - 2 * self.period
        kept = {key: [a for a in known if a.time >= oldest] for key, known in self._alerts.items()}
        self._alerts = {key: known for key, known in kept.items() if known}
