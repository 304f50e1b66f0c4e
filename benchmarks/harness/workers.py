"""One and two workers of one group on a topic of four partitions: cost and speed together.

Merchants spread over the partitions here, so what a worker knows of them depends on what the other
has flushed: alerts are counted, not compared. The end is when the group has committed everything.
"""

from __future__ import annotations

import time
import uuid
from contextlib import ExitStack
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from benchmarks.harness import riskstream
from benchmarks.harness.broker import Input, create_topic, delete_topics
from benchmarks.harness.contender import Run
from benchmarks.harness.measure import SETTLE_S, Servers
from benchmarks.harness.process import WorkerProcess
from benchmarks.harness.redis_use import empty
from benchmarks.job.build import FOLDER, Job

PARTITIONS = 4
WARM = 60_000
EVENTS = 240_000
TIMEOUT_S = 120.0


def _run(servers: Servers, job: Job) -> Run:
    tag = uuid.uuid4().hex[:8]
    folder = FOLDER.parent / "runs" / f"workers-{tag}"
    folder.mkdir(parents=True)
    empty(servers.redis_url)
    run = Run(
        bootstrap=servers.bootstrap,
        redis_url=servers.redis_url,
        input_topic=f"in-{tag}",
        alert_topic=f"alerts-{tag}",
        group=f"g{tag}",
        threshold=job.threshold,
        model=FOLDER,
        folder=folder,
        low_latency=False,
    )
    create_topic(run.bootstrap, run.input_topic, PARTITIONS)
    create_topic(run.bootstrap, run.alert_topic)
    return run


def _behind(consumer: Consumer, topic: str) -> int:
    """Events of the topic that the group has not committed; all while a young broker has no coordinator yet."""
    places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
    try:
        committed = consumer.committed(places, timeout=10)
    except KafkaException:
        return WARM + EVENTS
    total = 0
    for place in committed:
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, place.partition), timeout=10)
        total += end - max(0, place.offset)
    return total


def _wait(consumer: Consumer, topic: str, workers: list[WorkerProcess]) -> None:
    end = time.monotonic() + TIMEOUT_S
    while _behind(consumer, topic):
        if time.monotonic() > end:
            raise RuntimeError(f"the workers are {_behind(consumer, topic)} events behind")
        for worker in workers:
            worker.check()
        time.sleep(0.05)


def measure_workers(servers: Servers, job: Job, count: int) -> dict[str, Any]:
    """CPU per event of all workers together, and their speed."""
    run = _run(servers, job)
    source = Input(run.bootstrap, run.input_topic, job.events)
    source.write(0, WARM)
    asker = Consumer({"bootstrap.servers": run.bootstrap, "group.id": run.group, "enable.auto.commit": False})
    contender = riskstream.RISKSTREAM[0]
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                WorkerProcess(
                    riskstream.command(run, contender.delivery, ordinal),
                    contender.environment(run),
                    run.folder / f"worker-{ordinal}.log",
                )
            )
            for ordinal in range(count)
        ]
        _wait(asker, run.input_topic, workers)
        for worker in workers:
            worker.settle(SETTLE_S)
            worker.freeze()
        source.write(WARM, WARM + EVENTS)
        used, begin = sum(worker.cpu_s() for worker in workers), time.monotonic()
        for worker in workers:
            worker.thaw()
        _wait(asker, run.input_topic, workers)
        seconds = time.monotonic() - begin
        for worker in workers:
            worker.settle(SETTLE_S)
        used = sum(worker.cpu_s() for worker in workers) - used
    asker.close()
    delete_topics(run.bootstrap, [run.input_topic, run.alert_topic])
    return {"workers": count, "us_per_event": used / EVENTS * 1e6, "events_per_s": EVENTS / seconds}


def table(servers: Servers, job: Job) -> list[dict[str, Any]]:
    """One worker, then two."""
    return [measure_workers(servers, job, count) for count in (1, 2)]
