"""Topics, worker processes and what they left behind: what the chaos driver and integration tests stand on."""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from features.core.errors import RiskstreamError
from features.store.base import Partition, ShardRead, Store, StoreUnavailable
from features.store.layout import slice_name
from stream.kafka.worker.wiring import connect
from stream.kafka.worker.worker import Worker
from stream.project.build import make_store
from stream.settings.config import load
from tests.chaos import job
from tests.chaos.job import PARTITIONS, SHARDS, Reference, compared
from tests.chaos.produced import Produced
from tests.servers.process import wait_until

ROOT = Path(__file__).resolve().parents[2]

CONFIG = """
[project]
name = "{name}"
[kafka]
bootstrap_servers = "{kafka}"
[kafka.consumer]
"session.timeout.ms" = {session_ms}
"heartbeat.interval.ms" = 300
[redis]
{redis}
timeout_ms = 1000
[topics]
alerts = "{name}-alerts"
dead_letters = "{name}-dead"
decisions = "{decisions}"
journal = "{journal}"
[worker]
delivery = "{delivery}"
ordinal = {ordinal}
shards = {shards}
batch_size = {batch}
flush_interval_ms = 200
dead_letter_ratio = 1.0
dead_letter_consecutive = 0
log_interval_s = 2.0
memory_limit_mb = {memory_mb}
on_redis_loss = "{on_redis_loss}"
start = "{start}"
"""


@dataclass(slots=True)
class Findings:
    """How a run differs from the reference."""

    alerts: int = 0
    lost: int = 0
    duplicated: int = 0
    different: int = 0
    state_different: int = 0
    unexplained: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def failures(self) -> list[str]:
        """Empty when all is as it must be."""
        found = {name: getattr(self, name) for name in ("lost", "duplicated", "different", "state_different")}
        said = [f"{count} {name}" for name, count in found.items() if count]
        return said + self.examples if said else []


class WorkerProcess:
    """One worker; its log is a file."""

    def __init__(self, config: Path, log: Path, environment: Mapping[str, str]) -> None:
        self.log = log
        with log.open("ab") as out:
            self._begins = out.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.worker_process", str(config)],
                cwd=ROOT,
                env={**os.environ, **environment},
                stdout=out,
                stderr=out,
            )

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def started(self) -> bool:
        """Whether it said so; before that a SIGTERM may find no one who listens."""
        return b'"event": "started"' in self._said()

    @property
    def scores(self) -> bool:
        """Whether it has recovered the partitions that it was given last."""
        steps = re.findall(rb'"event": "(assigned|revoked|lost|recovered|replayed)"', self._said())
        return bool(steps) and steps[-1] in (b"recovered", b"replayed")

    def _said(self) -> bytes:
        with self.log.open("rb") as lines:
            lines.seek(self._begins)
            return lines.read()

    def signal(self, number: signal.Signals) -> None:
        if self.running:
            self.process.send_signal(number)

    def wait(self, seconds: float) -> int:
        return self.process.wait(seconds)


class WorkerThread:
    """The same worker inside this process: quick to start, cannot be killed."""

    def __init__(self, config: Path, prefix: str) -> None:
        settings = load(config)
        self._store = make_store(settings)
        self._stop = threading.Event()
        self._begun = threading.Event()
        self._worker: Worker | None = None
        self._connected = partial(connect, settings, job.scorer(prefix), self._store, job.decoders(prefix))
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            with self._connected() as clients:
                self._worker = Worker(clients, self._stop)
                self._begun.set()
                self._worker.run()
        except RiskstreamError as error:
            self.error = error
        finally:
            self._begun.set()
            self._store.close()

    @property
    def worker(self) -> Worker:
        """Once its clients are connected."""
        assert self._begun.wait(60)
        assert self._worker is not None, self.error
        return self._worker

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def is_ready(self) -> bool:
        """Whether it owns partitions and scores them."""
        return self.worker.ready

    def stop(self) -> None:
        """In good order; raises what ended it."""
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error

    def abandon(self) -> None:
        """Stop without caring how it ends."""
        self._stop.set()
        self._thread.join(30)

    def ended(self, seconds: float = 30) -> BaseException:
        """The error that it ends with."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "still running"
        assert self.error is not None, "ended without an error"
        return self.error


class World:
    """Topics of their own on a shared broker; workers that share a group; a Redis namespace.

    `redis` are settings that replace the URL: another shape of Redis.
    """

    def __init__(
        self,
        kafka: str,
        redis_url: str,
        directory: Path,
        make_topic: Callable[..., str],
        *,
        delivery: str = "exactly_once",
        batch: int = 500,
        session_ms: int = 1_500,
        memory_mb: int = 64,
        on_redis_loss: str = "wait",
        redis: str = "",
    ) -> None:
        self.name = f"w{secrets.token_hex(4)}"
        self.kafka = kafka
        self.redis = redis or f'url = "{redis_url}"'
        self.directory = directory
        self.settings: dict[str, object] = {
            "delivery": delivery, "batch": batch, "session_ms": session_ms, "memory_mb": memory_mb,
            "on_redis_loss": on_redis_loss, "start": "earliest",
        }  # fmt: skip
        self.workers: list[WorkerProcess] = []
        self.threads: list[WorkerThread] = []
        self._seen = 0
        self.produced: dict[tuple[str, int], int] = {}
        for topic in ("tx", "labels"):
            make_topic(f"{self.name}-{topic}", partitions=PARTITIONS)
        for topic in ("alerts", "dead"):
            make_topic(f"{self.name}-{topic}", partitions=2)
        self._producer = Producer({"bootstrap.servers": kafka, "linger.ms": 5, "log_level": 2})
        self._admin = Consumer(self._reader_settings(self.name))

    def _reader_settings(self, group: str) -> dict[str, Any]:
        return {
            "bootstrap.servers": self.kafka,
            "group.id": group,
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "log_level": 2,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for thread in self.threads:
            thread.abandon()
        for worker in self.workers:
            worker.signal(signal.SIGKILL)
            worker.wait(30)
        self._admin.close()

    # -- workers -------------------------------------------------------------------------------

    def start_worker(self, ordinal: int, **environment: str) -> WorkerProcess:
        """A worker process; `environment` may hold a fault."""
        log = self.directory / f"worker-{ordinal}.log"
        path = self.write_config(ordinal)
        worker = WorkerProcess(path, log, {"CHAOS_TOPICS": self.name, **environment})
        self.workers.append(worker)
        return worker

    def start_thread(self, ordinal: int = 0, **settings: object) -> WorkerThread:
        """A worker in this process; `settings` replace those of the world."""
        worker = WorkerThread(self.write_config(ordinal, **settings), f"{self.name}-")
        self.threads.append(worker)
        return worker

    def store(self) -> Store:
        """What the workers keep state in; the caller closes it."""
        return make_store(load(self.write_config(99)))

    def write_config(self, ordinal: int, **settings: object) -> Path:
        """The settings file of one worker."""
        given = {
            "decisions": "",
            "journal": "",
            "redis": self.redis,
            "kafka": self.kafka,
            **self.settings,
            **settings,
        }
        text = CONFIG.format(name=self.name, shards=SHARDS, ordinal=ordinal, **given)
        path = self.directory / f"worker-{ordinal}.toml"
        path.write_text(text)
        return path

    def stop_worker(self, worker: WorkerProcess, seconds: float = 30) -> int:
        """SIGTERM, once it has started; the exit code."""
        wait_until(lambda: worker.started or not worker.running, 60, "a worker to start")
        worker.signal(signal.SIGTERM)
        return worker.wait(seconds)

    # -- messages ------------------------------------------------------------------------------

    def produce(self, messages: Iterable[Produced]) -> None:
        """Send and wait until the broker has them."""
        for one in messages:
            while True:
                try:
                    self._producer.produce(f"{self.name}-{one.topic}", one.value, one.key, one.partition)
                    break
                except BufferError:
                    self._producer.poll(0.1)
            place = (one.topic, one.partition)
            self.produced[place] = self.produced.get(place, 0) + 1
        assert self._producer.flush(60) == 0

    def committed(self) -> int:
        """How many events the group has committed."""
        places = [TopicPartition(f"{self.name}-{topic}", number) for topic, number in self.produced]
        try:
            found = self._admin.committed(places, 10)
        except KafkaException:
            return self._seen
        known = sum(max(0, one.offset) for one in found if one.error is None)
        self._seen = max(self._seen, known)
        return known

    def wait_until_flushed(self, total: int, seconds: float) -> None:
        """Until Redis holds all: every mark of every partition is at its end."""
        store = self.store()

        def flushed() -> bool:
            try:
                marks = store.marks()
            except StoreUnavailable:
                return False
            found = [sum(mark.offset for mark in shard.values()) for shard in marks]
            return min(found) >= total

        wait_until(flushed, seconds, f"{total} events to be in Redis")
        store.close()

    def wait_until_done(self, seconds: float, at_least: int | None = None) -> None:
        """Until all that was produced is committed."""
        total = at_least or sum(self.produced.values())

        def done() -> bool:
            running = [one.running for one in self.workers] + [one.running for one in self.threads]
            assert any(running), self.logs()
            return self.committed() >= total

        wait_until(done, seconds, f"{total} events to be committed")

    def logs(self, most: int = 3_000) -> str:
        """The ends of the workers' logs."""
        return "\n".join(path.read_text()[-most:] for path in sorted(self.directory.glob("worker-*.log")))

    def read(self, topic: str) -> list[Any]:
        """All messages of a result topic, as an ordinary read_committed reader sees them."""
        consumer = Consumer(self._reader_settings(f"{self.name}-{secrets.token_hex(4)}"))
        name = f"{self.name}-{topic}"
        consumer.assign([TopicPartition(name, number, 0) for number in range(2)])
        out: list[Any] = []
        ended: set[int] = set()
        while len(ended) < 2:
            for message in consumer.consume(10_000, 1.0):
                error = message.error()
                if error is None:
                    out.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add(message.partition() or 0)
                else:
                    raise RuntimeError(error.str())
        consumer.close()
        return out

    def decoded(self, topic: str) -> list[dict[str, Any]]:
        """All alerts or decisions."""
        return [msgspec.json.decode(message.value()) for message in self.read(topic)]

    # -- comparing -----------------------------------------------------------------------------

    def compare(self, reference: Reference) -> Findings:
        """Alerts, dead letters and state against one undisturbed pass."""
        out = Findings()
        self._compare_alerts(reference, out)
        self._compare_dead(reference, out)
        self._compare_state(reference, out)
        return out

    def _compare_alerts(self, reference: Reference, out: Findings) -> None:
        seen: set[tuple[int, int]] = set()
        for alert in self.decoded("alerts"):
            place = (alert["source"]["partition"], alert["source"]["offset"])
            out.alerts += 1
            alert["source"]["topic"] = alert["source"]["topic"].removeprefix(f"{self.name}-")
            if place in seen:
                out.duplicated += 1
            elif place not in reference.alerts:
                out.different += 1
                out.examples.append(f"alert for {place} where there should be none")
            elif compared(alert) != compared(reference.alerts[place]):
                out.different += 1
                out.examples.append(f"{place}: {compared(alert)} != {compared(reference.alerts[place])}")
            if problem := reference.shared.problem(alert, alert["exposure"]):
                out.unexplained += 1
                out.examples.append(problem)
            seen.add(place)
        lost = sorted(reference.alerts.keys() - seen)
        out.lost += len(lost)
        out.examples = [f"no alert for {place}" for place in lost[:5]] + out.examples[:5]

    def _compare_dead(self, reference: Reference, out: Findings) -> None:
        found: list[tuple[str, int, int]] = []
        for message in self.read("dead"):
            headers = dict(message.headers())
            topic = headers["riskstream-topic"].decode().removeprefix(f"{self.name}-")
            found.append((topic, int(headers["riskstream-partition"]), int(headers["riskstream-offset"])))
        out.duplicated += len(found) - len(set(found))
        out.lost += len(reference.dead - set(found))
        out.different += len(set(found) - reference.dead)

    def _compare_state(self, reference: Reference, out: Findings) -> None:
        from features.engine.hashing import hash_strings, shard_of

        store = self.store()
        keys = sorted({(entity, key) for entity, key, _, _ in reference.rows})
        shards = [int(one) for one in shard_of(hash_strings([key for _, key in keys]), SHARDS)]
        stored = 0
        for start in range(0, len(keys), 500):
            chunk = list(zip(keys, shards, strict=True))[start : start + 500]
            answers = store.read([ShardRead(shard, [slice_name(*key)]) for key, shard in chunk])
            for (key, _), answer in zip(chunk, answers, strict=True):
                for name, row in answer.slices[0].items():
                    stored += 1
                    partition = Partition.of(name)
                    if reference.rows.get((*key, partition.source, partition.number)) != row:
                        out.state_different += 1
        out.state_different += abs(len(reference.rows) - stored)
        store.close()
