"""State and cost of the feature engine by the number of keys, and for one hot key.

    python -m benchmarks.feature_engine [--most 1000000]

One card view: four windows, count and mean of the amount, distinct channels. Each key gets ten events (the hot one
a million). Printed: CPU per event once the kernel is compiled, bytes of a row as Redis holds it, memory per key.
Writes build/feature_engine.json.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from features.core.batch import MicroBatch, SourceBatch
from features.definitions.compile import compile_plan
from features.definitions.spec import Aggregation, Definitions, Entity, FeatureView, Field, Source
from features.engine.engine import FeatureEngine

BATCH = 4000
START_US = 1_772_323_200_000_000
MONTH_US = 30 * 86_400_000_000
SOURCE = Source(
    name="tx",
    topic="tx",
    event_id="id",
    event_time="ts",
    key="card",
    fields=(
        Field(name="id", dtype="string"),
        Field(name="ts", dtype="timestamp"),
        Field(name="card", dtype="string"),
        Field(name="amount", dtype="float64"),
        Field(name="channel", dtype="string"),
    ),
)
VIEW = FeatureView(
    name="spend",
    source="tx",
    entity="card",
    windows=("1h", "1d", "7d", "30d"),
    aggregations=(
        Aggregation(function="count"),
        Aggregation(function="mean", column="amount"),
        Aggregation(function="distinct", column="channel"),
    ),
)


def batches(keys: int, events: int) -> list[MicroBatch]:
    """Events spread evenly over a month, cards drawn in turn."""
    rng = np.random.default_rng(7)
    return [_batch(rng, keys, events, first) for first in range(0, events, BATCH)]


def _batch(rng: np.random.Generator, keys: int, events: int, first: int) -> MicroBatch:
    n = min(BATCH, events - first)
    numbers = np.arange(first, first + n)
    times = START_US + (numbers * (MONTH_US / events)).astype(np.int64) // 1_000_000 * 1_000_000
    ids = [f"e{number}" for number in numbers]
    columns: dict[str, Any] = {
        "id": ids,
        "ts": times.astype(np.float64),
        "card": [f"card-{number % keys}" for number in numbers.tolist()],
        "amount": np.round(rng.gamma(2.0, 30.0, n), 2),
        "channel": [("web", "pos", "atm")[number] for number in rng.integers(0, 3, n).tolist()],
    }
    part = SourceBatch(
        source=SOURCE,
        event_ids=ids,
        event_time=times,
        received_time=times,
        partition=np.zeros(n, np.int32),
        offset=numbers,
        position=np.arange(n),
        columns=columns,
    )
    return MicroBatch((part,))


def measure(keys: int, events: int) -> dict[str, float]:
    """Figures of one run."""
    engine = FeatureEngine(
        compile_plan(
            Definitions(sources=(SOURCE,), entities=(Entity(name="card", keys=("card",)),), views=(VIEW,))
        )
    )
    prepared = batches(keys, events)
    begin = time.process_time()
    for batch in prepared:
        engine.run(engine.prepare(batch))
    cost = (time.process_time() - begin) / events * 1e6
    memory = engine.memory_bytes()
    rows = [row for run in engine.take_dirty() for row in run.rows]
    return {
        "keys": keys,
        "events": events,
        "cpu_us_per_event": round(cost, 2),
        "row_bytes_mean": round(sum(map(len, rows)) / len(rows), 1),
        "memory_bytes_per_key": round(memory / keys, 1),
    }


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--most", type=int, default=1_000_000, help="largest number of keys")
    most = parser.parse_args().most
    measure(10, 2 * BATCH)
    sizes = [keys for keys in (1_000, 100_000, 1_000_000) if keys <= most]
    results = [measure(keys, max(keys * 10 if keys < 1_000_000 else keys * 2, 100_000)) for keys in sizes]
    results.append(measure(1, 1_000_000))
    path = Path("build/feature_engine.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"results": results}, indent=1))
    print(f"{'keys':>9} {'events':>9} {'CPU us/event':>13} {'row bytes':>10} {'memory/key':>11}")
    for row in results:
        print(
            f"{row['keys']:>9,} {row['events']:>9,} {row['cpu_us_per_event']:>13} {row['row_bytes_mean']:>10}"
            f" {row['memory_bytes_per_key']:>11,}"
        )


if __name__ == "__main__":
    main()
