"""`make bench-peers`: the common job in riskstream and in its peers, side by side.

Rounds alternate over the contenders, so that a busy minute of the machine hits them alike; each
figure is the median of its rounds, each ratio the median of the rounds' ratios. A contender whose alerts
differ from the reference is void, and the exit code is 1. Figures go to build/bench_peers.json.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.harness import flink, measure, peers, report, riskstream, venvs
from benchmarks.harness.contender import Contender
from benchmarks.harness.servers import servers
from benchmarks.job import build

BASE = "riskstream exactly_once"
COLUMNS = ("contender", "CPU us/event", "x", "events/s", "RSS MB", "p50 ms", "p99 ms", "alerts")


@dataclass(slots=True)
class Entry:
    """What a contender has shown so far."""

    contender: Contender
    runs: list[measure.Throughput] = field(default_factory=list)
    p50_ms: float | None = None
    p99_ms: float | None = None
    void: str | None = None

    def median(self, figure: str) -> float | None:
        """The median of one figure over the rounds; none without a round."""
        return statistics.median(getattr(run, figure) for run in self.runs) if self.runs else None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description="Measure riskstream's peers."
    )
    parser.add_argument("--rounds", type=int, default=3, help="throughput rounds")
    parser.add_argument("--only", nargs="*", help="names of contenders")
    parser.add_argument("--no-flink", action="store_true", help="leave out the Java peer (needs Maven)")
    parser.add_argument("--latency-seconds", type=float, default=measure.LATENCY_S)
    parser.add_argument("--kafka", help="bootstrap servers of a broker that is there already")
    parser.add_argument("--redis", help="URL of a Redis that is there already; it is flushed")
    return parser.parse_args()


def _contenders(arguments: argparse.Namespace) -> list[Contender]:
    everyone = [*riskstream.RISKSTREAM, *peers.PEERS]
    if not arguments.no_flink:
        everyone.append(flink.FLINK)
    if arguments.only:
        everyone = [contender for contender in everyone if contender.name in arguments.only]
    for venv in sorted({contender.venv for contender in everyone if contender.venv}):
        venvs.ensure(venv)
    if flink.FLINK in everyone:
        flink.ensure()
    return everyone


def _throughput(entry: Entry, where: measure.Servers, job: build.Job) -> None:
    try:
        run = measure.throughput(where, entry.contender, job)
    except (measure.VoidRun, RuntimeError) as error:
        entry.void = str(error)
        print(f"void: {error}", flush=True)
        return
    entry.runs.append(run)
    print(f"{entry.contender.name}: {run.cpu_us_per_event:.1f} us, {run.events_per_s:,.0f}/s", flush=True)


def _latency(entry: Entry, where: measure.Servers, job: build.Job, seconds: float) -> None:
    try:
        load = measure.Load(entry.contender.latency_rate, seconds)
        values = measure.latencies_ms(where, entry.contender, job, load).values
    except (measure.VoidRun, RuntimeError) as error:
        entry.void = str(error)
        print(f"void: {error}", flush=True)
        return
    entry.p50_ms, entry.p99_ms = (float(value) for value in np.percentile(values, [50, 99]))
    print(f"{entry.contender.name}: p50 {entry.p50_ms:.1f} ms, p99 {entry.p99_ms:.1f} ms", flush=True)


def _ratio(entry: Entry, base: Entry | None) -> float | None:
    if base is None or not entry.runs or not base.runs:
        return None
    pairs = zip(entry.runs, base.runs, strict=False)
    return statistics.median(run.cpu_us_per_event / own.cpu_us_per_event for run, own in pairs)


def _result(entry: Entry, base: Entry | None) -> dict[str, Any]:
    contender = entry.contender
    return {
        "name": contender.name,
        "cpu_us_per_event": entry.median("cpu_us_per_event"),
        "events_per_s": entry.median("events_per_s"),
        "rss_mb": entry.median("rss_mb"),
        "p50_ms": entry.p50_ms,
        "p99_ms": entry.p99_ms,
        "alerts": entry.runs[-1].alerts if entry.runs else None,
        "ratio": _ratio(entry, base),
        "delivery": contender.delivery,
        "events": contender.events,
        "warm_events": contender.warm,
        "latency_events_per_s": contender.latency_rate,
        "rounds_cpu_us_per_event": [run.cpu_us_per_event for run in entry.runs],
        "versions": contender.versions(),
        "void": entry.void,
    }


def _write(entries: list[Entry]) -> list[dict[str, Any]]:
    base = next((entry for entry in entries if entry.contender.name == BASE), None)
    results = [_result(entry, base) for entry in entries]
    figures = {
        "results": results,
        "machine": report.machine(),
        "versions": report.versions(),
        "job": {
            "features": 25,
            "entities": 3,
            "trees": 100,
            "alert_share": build.ALERT_SHARE,
            "same_alerts": all(entry.void is None for entry in entries),
            "note": "slow contenders get fewer events of the same stream: see events, warm_events, "
            "latency_events_per_s",
        },
    }
    report.write("bench_peers", figures)
    return results


def main() -> int:
    """Measure, print, write; 1 when a contender was void."""
    arguments = _arguments()
    entries = [Entry(contender) for contender in _contenders(arguments)]
    job = build.load()
    with servers(arguments.kafka, arguments.redis) as where:
        for number in range(arguments.rounds):
            print(f"round {number + 1} of {arguments.rounds}", flush=True)
            for entry in entries:
                _throughput(entry, where, job)
            _write(entries)
        print("latency, every event alerting", flush=True)
        for entry in entries:
            _latency(entry, where, job, arguments.latency_seconds)
    results = _write(entries)
    keys = ("name", "cpu_us_per_event", "ratio", "events_per_s", "rss_mb", "p50_ms", "p99_ms", "alerts")
    print(report.table(COLUMNS, [[result[key] for key in keys] for result in results]))
    return 1 if any(entry.void for entry in entries) else 0


if __name__ == "__main__":
    sys.exit(main())
