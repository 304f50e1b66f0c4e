"""What the harness tells a peer's worker, through the environment, and the alert every worker writes.

Standard library only: imported from every peer's own virtual environment.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """One run: servers, topics, the model's folder and the alert threshold.

    `low_latency` says that the run measures latency: a worker may then commit more often than
    its defaults, as its user would.
    """

    bootstrap: str
    input_topic: str
    alert_topic: str
    group: str
    redis_url: str
    model: Path
    threshold: float
    state: Path
    delivery: str
    runtime: str
    low_latency: bool


def read() -> Settings:
    """The settings of this process."""
    env = os.environ
    return Settings(
        bootstrap=env["BENCH_BOOTSTRAP"],
        input_topic=env["BENCH_INPUT"],
        alert_topic=env["BENCH_ALERTS"],
        group=env["BENCH_GROUP"],
        redis_url=env["BENCH_REDIS"],
        model=Path(env["BENCH_MODEL"]),
        threshold=float(env["BENCH_THRESHOLD"]),
        state=Path(env["BENCH_STATE"]),
        delivery=env["BENCH_DELIVERY"],
        runtime=env["BENCH_RUNTIME"],
        low_latency=env["BENCH_LOW_LATENCY"] == "1",
    )


def alert(event_id: str, card: str, score: float) -> bytes:
    """The value of one alert message."""
    return json.dumps({"event_id": event_id, "card_id": card, "score": score}).encode()
