"""One run of one contender: cost and speed over a backlog, or latency at a low rate.

Throughput. The worker starts and handles `warm` events; when it is idle again it is frozen
(SIGSTOP), the measured events are written to the topic, and it is thawed. What it uses from there
until it is idle once more, after every expected alert was readable, is its cost.

Latency. A fresh worker, threshold 0 (every event alerts), a warm-up, then events at a fixed rate:
the time from just before produce() until the alert is readable by a committed reader. The first seconds
at that rate do not count.
"""

from __future__ import annotations

import shutil
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.broker import Alerts, Input, create_topic, delete_topics
from benchmarks.harness.contender import Contender, Run
from benchmarks.harness.process import WorkerProcess
from benchmarks.harness.redis_use import RedisUse, empty, redis_use
from benchmarks.job.build import FOLDER, Job
from benchmarks.job.events import event_id

SETTLE_S = 6.0
START_TIMEOUT_S = 120.0
SCORE_TOLERANCE = 1e-5
LATENCY_WARM = 2_000
LATENCY_S = 15.0
LATENCY_SETTLE_S = 3.0


class VoidRun(RuntimeError):
    """The contender's alerts are not the reference's: its figures mean nothing."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """Figures of a backlog run."""

    cpu_us_per_event: float
    events_per_s: float
    rss_mb: float
    alerts: int
    threads: dict[str, float]
    redis_commands: float
    redis_bytes_in: float
    redis_bytes_out: float
    redis_bytes_per_key: float


@dataclass(frozen=True, slots=True)
class _Cost:
    """What a worker and its Redis have used up to a moment."""

    cpu_s: float
    threads: dict[str, float]
    redis: RedisUse

    @classmethod
    def now(cls, worker: WorkerProcess, redis_url: str) -> _Cost:
        return cls(worker.cpu_s(), worker.threads_cpu_s(), redis_use(redis_url))


@dataclass(frozen=True, slots=True)
class Load:
    """A latency run: events/s, for how long, after how many; every event alerts, or as the model says.

    `settle` seconds at the same rate go before what is measured: by then the broker's code is compiled, whatever it
    was asked for before.
    """

    rate: float
    seconds: float = LATENCY_S
    warm: int = LATENCY_WARM
    every_event: bool = True
    settle: float = LATENCY_SETTLE_S


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the broker and Redis are."""

    bootstrap: str
    redis_url: str


def _new_run(servers: Servers, contender: Contender, threshold: float, low_latency: bool) -> Run:
    tag = uuid.uuid4().hex[:8]
    folder = Path(FOLDER).parent / "runs" / f"{contender.name.replace(' ', '-')}-{tag}"
    folder.mkdir(parents=True)
    run = Run(
        bootstrap=servers.bootstrap,
        redis_url=servers.redis_url,
        input_topic=f"in-{tag}",
        alert_topic=f"alerts-{tag}",
        group=f"g{tag}",
        threshold=threshold,
        model=FOLDER,
        folder=folder,
        low_latency=low_latency,
    )
    empty(run.redis_url)
    create_topic(run.bootstrap, run.input_topic)
    create_topic(run.bootstrap, run.alert_topic)
    return run


def _clean(run: Run) -> None:
    delete_topics(run.bootstrap, [run.input_topic, run.alert_topic])
    shutil.rmtree(run.folder / "state", ignore_errors=True)


def compare(name: str, alerts: Alerts, expected: dict[str, float]) -> None:
    """VoidRun unless the alerts are exactly the expected ones, once each, with the same scores."""
    if alerts.scores.keys() != expected.keys():
        missing = sorted(expected.keys() - alerts.scores.keys())
        extra = sorted(alerts.scores.keys() - expected.keys())
        raise VoidRun(
            f"{name}: {len(missing)} alerts missing {missing[:3]}, {len(extra)} unexpected {extra[:3]}"
        )
    if alerts.messages != len(expected):
        raise VoidRun(f"{name}: {alerts.messages - len(expected)} duplicate alerts")
    worst = max(abs(alerts.scores[event] - score) for event, score in expected.items())
    if worst > SCORE_TOLERANCE:
        raise VoidRun(f"{name}: a score differs by {worst:.2g}")


def throughput(servers: Servers, contender: Contender, job: Job, timeout_s: float = 300.0) -> Throughput:
    """CPU, speed and memory over `contender.events` events that wait in the topic."""
    run = _new_run(servers, contender, job.threshold, low_latency=False)
    stop = contender.warm + contender.events
    source = Input(run.bootstrap, run.input_topic, job.events)
    source.write(0, contender.warm)
    alerts = Alerts(run.bootstrap, run.alert_topic)
    log = run.folder / "worker.log"
    with WorkerProcess(contender.command(run), contender.environment(run), log) as worker:
        warm = len(job.expected(contender.warm))
        if not alerts.wait(warm, START_TIMEOUT_S + timeout_s, worker.check):
            raise VoidRun(f"{contender.name}: {len(alerts.seen)} warm-up alerts of {warm}")
        worker.settle(SETTLE_S)
        worker.freeze()
        source.write(contender.warm, stop)
        before, begin = _Cost.now(worker, run.redis_url), time.monotonic()
        worker.thaw()
        alerts.wait(len(job.expected(stop)), timeout_s, worker.check)
        last = max(alerts.seen.values())
        worker.settle(SETTLE_S)
        after = _Cost.now(worker, run.redis_url)
        rss = worker.rss_mb()
    alerts.close()
    _clean(run)
    compare(contender.name, alerts, job.expected(stop))
    return _figures(before, after, contender.events, last - begin, rss, alerts)


def _figures(
    before: _Cost, after: _Cost, events: int, seconds: float, rss_mb: float, alerts: Alerts
) -> Throughput:
    names = after.threads.keys()
    return Throughput(
        cpu_us_per_event=(after.cpu_s - before.cpu_s) / events * 1e6,
        events_per_s=events / seconds,
        rss_mb=rss_mb,
        alerts=len(alerts.seen),
        threads={
            name: (after.threads[name] - before.threads.get(name, 0.0)) / events * 1e6 for name in names
        },
        redis_commands=(after.redis.commands - before.redis.commands) / events,
        redis_bytes_in=(after.redis.bytes_in - before.redis.bytes_in) / events,
        redis_bytes_out=(after.redis.bytes_out - before.redis.bytes_out) / events,
        redis_bytes_per_key=after.redis.memory / max(1, after.redis.keys),
    )


@dataclass(frozen=True, slots=True)
class Latencies:
    """Produced to readable, milliseconds, of every event of the load that alerts; and the worker's log."""

    values: NDArray[np.float64]
    log: Path


def latencies_ms(servers: Servers, contender: Contender, job: Job, load: Load) -> Latencies:
    """One latency run."""
    threshold = 0.0 if load.every_event else job.threshold
    run = _new_run(servers, contender, threshold, low_latency=True)
    begin = load.warm + int(load.rate * load.settle)
    stop = begin + int(load.rate * load.seconds)
    before, expected = job.expected(load.warm, threshold), job.expected(stop, threshold)
    # A request an event would keep the broker busier than the worker: thousands a second come in small batches.
    linger_ms = 2 if load.rate > 1_000 else 0
    source = Input(run.bootstrap, run.input_topic, job.events, linger_ms=linger_ms)
    source.write(0, load.warm)
    alerts = Alerts(run.bootstrap, run.alert_topic)
    sent: dict[str, float] = {}
    log = run.folder / "worker.log"
    with WorkerProcess(contender.command(run), contender.environment(run), log) as worker:
        if not alerts.wait(len(before), START_TIMEOUT_S, worker.check):
            raise VoidRun(f"{contender.name}: {len(alerts.seen)} warm-up alerts of {len(before)}")
        source.pace(load.warm, stop, load.rate, sent)
        alerts.wait(len(expected), 60.0, worker.check)
    for settling in range(load.warm, begin):
        del sent[event_id(settling)]
    alerts.close()
    _clean(run)
    compare(contender.name, alerts, expected)
    values = np.array([alerts.seen[event] - sent[event] for event in expected if event in sent]) * 1e3
    return Latencies(values, log)
