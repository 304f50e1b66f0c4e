"""Every metric that riskstream exports, by name; docs/reference/metrics.md lists the same.

No label holds an entity's key or an event's id.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from features.core.errors import ConfigurationError

_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BATCH = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)


class Metrics:
    """The metrics of one process, in one registry."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        self._input()
        self._results()
        self._state()
        self._faces()

    def serve(self, host: str, port: int) -> None:
        """Answer /metrics in a background thread; ConfigurationError where the address cannot be taken."""
        try:
            start_http_server(port, addr=host, registry=self.registry)
        except OSError as error:
            reason = error.strerror or str(error)
            fix = "set worker.metrics_host and worker.metrics_port to an address of this machine that is free"
            raise ConfigurationError(f"metrics cannot be served at {host}:{port}: {reason}; {fix}") from None

    def _input(self) -> None:
        self.events = self._counter("events", "Events consumed and decoded.", "source")
        self.dead_letters = self._counter("dead_letters", "Events that could not be used.", "source", "stage")
        self.duplicates = self._counter("duplicates", "Events whose id was seen before.", "source")
        self.late = self._counter("late_events", "Events older than a newer event of their entity.", "source")
        self.lag = self._gauge("consumer_lag_events", "Events not yet consumed.", "topic", "partition")
        self.batch_events = self._histogram("batch_events", "Events of one unit of work.", _BATCH)

    def _results(self) -> None:
        self.decisions = self._counter("decisions", "Decisions made.", "source", "mode", "decision")
        self.alerts = self._counter("alerts", "Alerts published.", "source", "severity")
        self.suppressed = self._counter("alerts_suppressed", "Alerts that the policy held back.", "source")
        self.scores_invalid = self._counter(
            "scores_invalid", "Events without a valid score, sent to review.", "source", "mode"
        )
        self.commit_seconds = self._histogram("commit_seconds", "From scored to committed.", _LATENCY)
        self.latency_seconds = self._histogram(
            "latency_seconds", "From Kafka timestamp to decision.", _LATENCY, "source"
        )
        self.units = self._counter("units", "Units of work committed.")
        self.rebalances = self._counter("rebalances", "Partitions assigned, revoked or lost.", "kind")
        self.model_info = self._gauge(
            "model_info", "1 for the model that scores a source.", "source", "name", "version"
        )
        self.model_swaps = self._counter(
            "model_swaps", "Models (by source) and policies changed between two batches.", "source"
        )
        self.swaps_refused = self._counter(
            "swaps_refused", "Promoted models and edited policies that were refused.", "source"
        )
        self.shadow_dropped = self._counter(
            "shadow_dropped", "Events that a challenger did not score.", "source"
        )

    def _state(self) -> None:
        self.cache_bytes = self._gauge("state_cache_bytes", "State held in this process.")
        self.pending_bytes = self._gauge("state_pending_bytes", "Committed state not yet in Redis.")
        self.cold_reads = self._counter("state_cold_keys", "Keys read from Redis.")
        self.recoveries = self._counter("recoveries", "Times the state was rebuilt from marks.", "reason")
        self.replay_remaining = self._gauge(
            "replay_remaining_events", "Events left to replay before scoring again."
        )
        self.redis_up = self._gauge("redis_up", "1 while Redis answers.")

    def _faces(self) -> None:
        self.http_requests = self._counter("http_requests", "HTTP requests.", "route", "status")
        self.http_seconds = self._histogram(
            "http_request_seconds", "Time of one HTTP request.", _LATENCY, "route"
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"riskstream_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"riskstream_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"riskstream_{name}", text, labels, buckets=buckets, registry=self.registry)
