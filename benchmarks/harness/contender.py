"""Who takes part: how each worker is started, and how much it is given to do."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.job.build import ROOT

PEERS = ROOT / "build" / "peers"


@dataclass(frozen=True, slots=True)
class Run:
    """Servers, topics and folder of one run of one contender."""

    bootstrap: str
    redis_url: str
    input_topic: str
    alert_topic: str
    group: str
    threshold: float
    model: Path
    folder: Path
    low_latency: bool


@dataclass(frozen=True, slots=True)
class Contender:
    """One line of the table.

    `warm` events come first and are not measured (JIT, caches), then `events` are; slow
    contenders get fewer. `latency_rate` is the events/s of its latency run.
    """

    name: str
    delivery: str
    warm: int
    events: int
    command: Callable[[Run], list[str]]
    versions: Callable[[], dict[str, str]]
    venv: str | None = None
    runtime: str = "onnx"
    latency_rate: float = 200.0

    def environment(self, run: Run) -> dict[str, str]:
        """What a peer's worker reads (benchmarks/peers/settings.py)."""
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "BENCH_BOOTSTRAP": run.bootstrap,
            "BENCH_INPUT": run.input_topic,
            "BENCH_ALERTS": run.alert_topic,
            "BENCH_GROUP": run.group,
            "BENCH_REDIS": run.redis_url,
            "BENCH_MODEL": str(run.model),
            "BENCH_THRESHOLD": repr(run.threshold),
            "BENCH_STATE": str(run.folder / "state"),
            "BENCH_DELIVERY": self.delivery,
            "BENCH_RUNTIME": self.runtime,
            "BENCH_LOW_LATENCY": "1" if run.low_latency else "0",
        }
