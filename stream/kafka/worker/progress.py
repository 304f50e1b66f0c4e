"""What a worker says about itself: a log line every few seconds, and metrics. No keys, no values."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from models.core.base import ModelVersion
from models.decision.decisions import DECISIONS, SEVERITIES, Decisions
from stream.kafka.client.consumer import Place
from stream.kafka.worker.unit import Unit
from stream.telemetry.logs import logger
from stream.telemetry.metrics import Metrics

_log = logger("worker")


class Progress:
    """Counts units of work."""

    def __init__(self, metrics: Metrics, interval: float) -> None:
        self.metrics = metrics
        self.events = 0
        self.alerts = 0
        self.dead_letters = 0
        self._interval = interval
        self._since = time.monotonic()
        self._marked = 0
        self._commit_seconds: list[float] = []
        self._cold = 0
        self._models: dict[str, ModelVersion] = {}

    def committed(self, unit: Unit, seconds: float) -> None:
        """A unit of work is done."""
        self._commit_seconds.append(seconds)
        metrics = self.metrics
        metrics.commit_seconds.observe(seconds)
        metrics.units.inc()
        metrics.batch_events.observe(unit.decoded.count)
        self.events += unit.decoded.count
        for part in unit.decoded.batch.source_batches:
            metrics.events.labels(part.source.name).inc(len(part))
        for letter in unit.decoded.letters:
            metrics.dead_letters.labels(letter.source, letter.stage).inc()
        self.dead_letters += len(unit.decoded.letters)
        now = time.time()
        for decisions in unit.decisions:
            source = decisions.features.batch.source.name
            alerts = int(decisions.alert.sum())
            self.alerts += alerts
            metrics.duplicates.labels(source).inc(int(decisions.features.duplicate.sum()))
            metrics.late.labels(source).inc(int(decisions.features.late.sum()))
            metrics.suppressed.labels(source).inc(int(decisions.suppressed.sum()))
            self._count_decisions(source, decisions)
            if len(decisions):
                oldest = int(decisions.features.batch.received_time.min())
                metrics.latency_seconds.labels(source).observe(max(0.0, now - oldest / 1e6))

    def _count_decisions(self, source: str, decisions: Decisions) -> None:
        metrics = self.metrics
        metrics.scores_invalid.labels(source, decisions.mode).inc(decisions.invalid_scores)
        for word, count in zip(DECISIONS, np.bincount(decisions.decision, minlength=3).tolist(), strict=True):
            metrics.decisions.labels(source, decisions.mode, word).inc(count)
        for number in decisions.severity[decisions.alert].tolist():
            metrics.alerts.labels(source, SEVERITIES[number]).inc()
        before, now = self._models.get(source), decisions.model
        if before != now:
            if before is not None:
                metrics.model_info.remove(source, before.name, before.version)
            metrics.model_info.labels(source, now.name, now.version).set(1)
            self._models[source] = now

    def state(self, cache_bytes: int, pending_bytes: int, cold_keys: int, redis_up: bool) -> None:
        """Gauges of state."""
        self.metrics.cache_bytes.set(cache_bytes)
        self.metrics.pending_bytes.set(pending_bytes)
        self.metrics.cold_reads.inc(cold_keys - self._cold)
        self.metrics.redis_up.set(redis_up)
        self._cold = cold_keys

    @property
    def due(self) -> bool:
        """Whether it is time for a line."""
        return time.monotonic() - self._since >= self._interval

    def line(self, lag: Mapping[Place, int], **more: object) -> None:
        """Write the line and begin a new interval."""
        seconds = time.monotonic() - self._since
        for (topic, partition), behind in lag.items():
            self.metrics.lag.labels(topic, str(partition)).set(behind)
        commits = np.array(self._commit_seconds or [0.0]) * 1e3
        _log.info(
            "progress",
            events=self.events,
            rate=round((self.events - self._marked) / seconds, 1) if seconds else 0.0,
            alerts=self.alerts,
            dead_letters=self.dead_letters,
            lag=sum(lag.values()),
            units=len(self._commit_seconds),
            commit_ms_p50=round(float(np.median(commits)), 2),
            commit_ms_p99=round(float(np.quantile(commits, 0.99)), 2),
            **more,
        )
        self._since, self._marked = time.monotonic(), self.events
        self._commit_seconds = []
