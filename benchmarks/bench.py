"""`make bench`: what an event costs riskstream, how long it takes, and how both grow.

    throughput   CPU per event, events/s, memory, by thread; Redis commands and bytes per event
    latency      produced to readable, nearly idle to half of what can be sustained, beside the machine's floor
    scaling      entities, events in a window, views, features, model size, workers
    regression   CPU per event over that of a frozen plain loop in the same run: fails beyond 1.5x

Figures are printed last and written to build/bench.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks import frozen_loop, scaling
from benchmarks.harness import floor, measure, report, riskstream, workers
from benchmarks.harness.contender import Contender
from benchmarks.harness.latency import percentiles
from benchmarks.harness.servers import servers
from benchmarks.job import build

REGRESSION = Path(__file__).with_name("regression.json")
ALLOWED = 1.5
LATENCY_WARM = 60_000
MOST_EVENTS = 290_000
RATES = (10_000.0, 25_000.0)
# Rates tried in turn for what can be sustained: where alerts still come within this time at the end.
TRIED = tuple(float(rate) for rate in range(40_000, 90_001, 10_000))
TRIED_SECONDS = 4.0
KEPT_UP_MS = 200.0

Row = dict[str, Any]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description="Measure riskstream.")
    parser.add_argument("--rounds", type=int, default=3, help="throughput rounds")
    parser.add_argument("--latency-seconds", type=float, default=20.0)
    parser.add_argument("--most-entities", type=int, default=1_000_000, help="up to 10000000: about 8 GB")
    parser.add_argument("--only", nargs="*", choices=("throughput", "latency", "scaling"))
    parser.add_argument("--keep-ratio", action="store_true", help="write the ratio to regression.json")
    parser.add_argument("--kafka", help="bootstrap servers of a broker that is there already")
    parser.add_argument("--redis", help="URL of a Redis that is there already; it is flushed")
    return parser.parse_args()


def throughput(where: measure.Servers, job: build.Job, rounds: int) -> list[Row]:
    """Both delivery modes alternating, with the frozen loop in every round; medians."""
    runs: dict[str, list[measure.Throughput]] = {entry.name: [] for entry in riskstream.RISKSTREAM}
    frozen: list[float] = []
    for _ in range(rounds):
        frozen.append(frozen_loop.cpu_us_per_event(job))
        for entry in riskstream.RISKSTREAM:
            runs[entry.name].append(measure.throughput(where, entry, job))
            print(f"{entry.name}: {runs[entry.name][-1].cpu_us_per_event:.1f} us an event", flush=True)
    return [_summary(name, found, frozen) for name, found in runs.items()]


def _summary(name: str, runs: list[measure.Throughput], frozen: list[float]) -> Row:
    middle = sorted(runs, key=lambda run: run.cpu_us_per_event)[len(runs) // 2]
    ratios = [run.cpu_us_per_event / loop for run, loop in zip(runs, frozen, strict=True)]
    return {
        "name": name,
        "cpu_us_per_event": middle.cpu_us_per_event,
        "events_per_s": middle.events_per_s,
        "rss_mb": middle.rss_mb,
        "alerts": middle.alerts,
        "threads_us_per_event": middle.threads,
        "redis_commands_per_event": middle.redis_commands,
        "redis_bytes_in_per_event": middle.redis_bytes_in,
        "redis_bytes_out_per_event": middle.redis_bytes_out,
        "redis_bytes_per_entity": middle.redis_bytes_per_key,
        "frozen_loop_us_per_event": statistics.median(frozen),
        "ratio_to_frozen_loop": statistics.median(ratios),
        "rounds_cpu_us_per_event": [run.cpu_us_per_event for run in runs],
    }


def latency(where: measure.Servers, job: build.Job, seconds: float) -> list[Row]:
    """Nearly idle (200 events/s, every event alerting), at two fixed rates, at half of what can be sustained.

    Beside each, the floor: what broker, clients and this harness take alone, on the same cores.
    """
    rows: list[Row] = []
    for entry, least in zip(riskstream.RISKSTREAM, floor.FLOOR, strict=True):
        most = sustained(where, job, entry)
        loads = [measure.Load(200.0, seconds)]
        for rate in (*RATES, most / 2):
            long = min(seconds, MOST_EVENTS / rate - measure.LATENCY_SETTLE_S)
            loads.append(measure.Load(rate, long, LATENCY_WARM, every_event=False))
        rows += [_latency(where, job, entry, least, load) | {"sustained": most} for load in loads]
    return rows


def sustained(where: measure.Servers, job: build.Job, entry: Contender) -> float:
    """The highest rate of those tried at which alerts do not fall behind, generator and broker on the same cores."""
    kept = TRIED[0]
    for rate in TRIED:
        long = min(TRIED_SECONDS, MOST_EVENTS / rate - 1)
        load = measure.Load(rate, long, LATENCY_WARM, every_event=False, settle=1.0)
        found = measure.latencies_ms(where, entry, job, load).values
        behind = statistics.median(found[-len(found) // 4 :])
        print(f"{entry.name} at {rate:,.0f}/s: {behind:.0f} ms at the end", flush=True)
        if behind > KEPT_UP_MS:
            break
        kept = rate
    return kept


def _latency(
    where: measure.Servers, job: build.Job, entry: Contender, least: Contender, load: measure.Load
) -> Row:
    found = measure.latencies_ms(where, entry, job, load)
    floor_ms = percentiles(measure.latencies_ms(where, least, job, load).values)
    figures = percentiles(found.values) | {
        **riskstream.commit_ms(found.log),
        "floor_p50_ms": floor_ms["p50_ms"],
        "floor_p99_ms": floor_ms["p99_ms"],
    }
    p99, alone = figures["p99_ms"], floor_ms["p99_ms"]
    print(f"{entry.name} at {load.rate:,.0f}/s: p99 {p99:.1f} ms, floor {alone:.1f} ms", flush=True)
    return {"name": entry.name, "events_per_s": load.rate, **figures}


def scale(where: measure.Servers, job: build.Job, most_entities: int) -> dict[str, list[Row]]:
    """All scaling tables."""
    return {
        "entities": scaling.entities(most_entities),
        "window_events": scaling.window_events(),
        "views": scaling.views(),
        "features": scaling.functions(),
        "model": scaling.model_sizes(job),
        "workers": workers.table(where, job),
    }


def regression(rows: list[Row], keep: bool) -> tuple[dict[str, Any], bool]:
    """Compare with the ratio kept in regression.json; True when it holds."""
    ratio = next(row["ratio_to_frozen_loop"] for row in rows if row["name"].endswith("exactly_once"))
    if keep:
        REGRESSION.write_text(json.dumps({"ratio_to_frozen_loop": round(ratio, 4)}, indent=2) + "\n")
    kept = json.loads(REGRESSION.read_text())["ratio_to_frozen_loop"]
    worse = ratio / kept
    return {"ratio": ratio, "kept": kept, "times_worse": worse, "allowed": ALLOWED}, worse <= ALLOWED


def _print(figures: dict[str, Any]) -> None:
    for title, rows in [(name, value) for name, value in figures.items() if isinstance(value, list)] + list(
        figures.get("scaling", {}).items()
    ):
        names = [name for name, value in rows[0].items() if not isinstance(value, (dict, list))]
        print(f"\n{title}\n{report.table(names, [[row[name] for name in names] for row in rows])}")
    for row in figures.get("throughput", ()):
        threads = sorted(row["threads_us_per_event"].items(), key=lambda item: -item[1])
        shown = ", ".join(f"{name} {cost:.2f}" for name, cost in threads if cost >= 0.05)
        print(f"\n{row['name']}, us of CPU per event by thread: {shown}")


def main() -> int:
    """Measure, print, write; 1 when the regression check fails."""
    arguments = _arguments()
    wanted = arguments.only or ("throughput", "latency", "scaling")
    job = build.load()
    figures: dict[str, Any] = {"machine": report.machine(), "versions": report.versions()}
    held = True
    with servers(arguments.kafka, arguments.redis) as where:
        if "throughput" in wanted:
            figures["throughput"] = throughput(where, job, arguments.rounds)
            figures["regression"], held = regression(figures["throughput"], arguments.keep_ratio)
        if "latency" in wanted:
            figures["latency"] = latency(where, job, arguments.latency_seconds)
        if "scaling" in wanted:
            figures["scaling"] = scale(where, job, arguments.most_entities)
    report.write("bench", figures)
    _print(figures)
    if "regression" in figures:
        found = figures["regression"]
        print(f"\nregression: {found['times_worse']:.2f}x the kept ratio, at most {ALLOWED} allowed")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
