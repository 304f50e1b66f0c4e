"""What a worker says about itself: a log line every few seconds, and metrics. No keys, no values."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from models.core.base import ModelVersion
from models.decision.decisions import DECISIONS, SEVERITIES, Decisions
from stream.codecs.messages import PartitionId
from stream.kafka.batches.scored import ScoredBatch
from stream.kafka.batches.scoring import ScoringSetup
from stream.telemetry.logs import logger
from stream.telemetry.metrics import Metrics

_log = logger("worker")


class Progress:
    """Counts what was delivered."""

    def __init__(self, metrics: Metrics, interval: float) -> None:
        self.metrics = metrics
        self.events = 0
        self.alerts = 0
        self.dead_letters = 0
        self._interval = interval
        self._since = time.monotonic()
        self._marked = 0
        self._delivery_seconds: list[float] = []
        self._cold = 0
        self._models: dict[str, ModelVersion] = {}

    def delivered(self, scored: ScoredBatch, seconds: float) -> None:
        """Count a batch whose outputs Kafka has acknowledged; that took so many seconds."""
        self._delivery_seconds.append(seconds)
        metrics = self.metrics
        metrics.commit_seconds.observe(seconds)
        metrics.units.inc()
        metrics.batch_events.observe(scored.decoded.count)
        self.events += scored.decoded.count
        for of_source in scored.decoded.batch.source_batches:
            metrics.events.labels(of_source.source.name).inc(len(of_source))
        for letter in scored.decoded.letters:
            metrics.dead_letters.labels(letter.source, letter.stage).inc()
        self.dead_letters += len(scored.decoded.letters)
        now = time.time()
        for decisions in scored.decisions:
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

    @property
    def due(self) -> bool:
        """Whether it is time for a line."""
        return time.monotonic() - self._since >= self._interval

    def report(self, scoring: ScoringSetup, lag: Mapping[PartitionId, int], *, live: bool) -> None:
        """Set the gauges, write a line and begin a new interval."""
        state, flusher = scoring.state, scoring.flusher
        cache, pending = scoring.scorer.engine.memory_bytes(), state.pending_bytes
        metrics = self.metrics
        metrics.cache_bytes.set(cache)
        metrics.pending_bytes.set(pending)
        metrics.cold_reads.inc(state.cold.keys_read - self._cold)
        metrics.redis_up.set(not flusher.down)
        self._cold = state.cold.keys_read
        for (topic, partition), behind in lag.items():
            metrics.lag.labels(topic, str(partition)).set(behind)
        self._line(
            lag=sum(lag.values()),
            cache_mb=round(cache / 2**20, 1),
            pending_kb=round(pending / 2**10, 1),
            live=live,
            redis="down" if flusher.down else "up",
        )

    def _line(self, lag: int, **more: object) -> None:
        seconds = time.monotonic() - self._since
        delivery_ms = np.array(self._delivery_seconds or [0.0]) * 1e3
        _log.info(
            "progress",
            events=self.events,
            rate=round((self.events - self._marked) / seconds, 1) if seconds else 0.0,
            alerts=self.alerts,
            dead_letters=self.dead_letters,
            lag=lag,
            units=len(self._delivery_seconds),
            commit_ms_p50=round(float(np.median(delivery_ms)), 2),
            commit_ms_p99=round(float(np.quantile(delivery_ms, 0.99)), 2),
            **more,
        )
        self._since, self._marked = time.monotonic(), self.events
        self._delivery_seconds = []
