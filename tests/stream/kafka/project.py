"""A scaffolded project on the test's own topics, and a worker process over it."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from stream.cli.app import run
from stream.project.scaffold.project import make_project
from stream.settings.config import Config, load

WAIT_S = 180.0
LOG = "worker.log"


class Project:
    """What `riskstream init` makes, with topics made by `riskstream doctor`."""

    def __init__(self, folder: Path, kafka: str, redis_url: str, partitions: int = 2) -> None:
        self.folder = folder / f"p{secrets.token_hex(4)}"
        make_project(self.folder)
        self.file = self.folder / "riskstream.toml"
        self.name = self.folder.name
        self.environment = {"KAFKA_BOOTSTRAP_SERVERS": kafka, "REDIS_URL": redis_url}
        os.environ.update(self.environment)
        self.kafka = kafka
        assert run(["doctor", "--create-topics", str(partitions), "--config", str(self.file)]) == 0

    @property
    def config(self) -> Config:
        return load(self.file)

    def edit(self, old: str, new: str, file: str = "riskstream.toml") -> None:
        path = self.folder / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def topic(self, kind: str) -> str:
        return f"{self.name}-{kind}"

    def produce(self, messages: list[dict], topic: str = "payments") -> None:
        """Messages as keyword arguments of `Producer.produce`."""
        producer = Producer(
            {"bootstrap.servers": self.kafka, "compression.type": "lz4", "message.max.bytes": 4_000_000}
        )
        failures: list[object] = []
        for message in messages:
            producer.produce(
                self.topic(topic),
                **message,
                on_delivery=lambda error, _: failures.append(error) if error else None,
            )
            producer.poll(0)
        assert producer.flush(60) == 0
        assert failures == []

    def read(self, kind: str, count: int, running: subprocess.Popen | None = None) -> list[Message]:
        """Wait for `count` committed messages of a topic, and see that there are no more."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.kafka,
                "group.id": f"look-{secrets.token_hex(4)}",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "fetch.message.max.bytes": 4_000_000,
            }
        )
        partitions = consumer.list_topics(self.topic(kind), timeout=30).topics[self.topic(kind)].partitions
        consumer.assign([TopicPartition(self.topic(kind), partition, 0) for partition in partitions])
        found: list[Message] = []
        ended: set[int] = set()
        deadline = time.monotonic() + WAIT_S
        while len(found) < count or len(ended) < len(partitions):
            message = consumer.poll(1.0)
            if message is not None and message.error():
                ended.add(message.partition() or 0)
            elif message is not None:
                ended.discard(message.partition())
                found.append(message)
            if running is not None and running.poll() is not None and len(found) < count:
                raise AssertionError(f"the worker ended with {running.returncode}: {self.log()[-3000:]}")
            assert time.monotonic() < deadline, f"{len(found)} of {count} on {kind}: {self.log()[-3000:]}"
        consumer.close()
        return found

    def log(self) -> str:
        file = self.folder / LOG
        return file.read_text() if file.exists() else ""

    @contextmanager
    def worker(self, *options: str) -> Iterator[subprocess.Popen]:
        with (self.folder / LOG).open("a") as log:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "riskstream",
                    "worker",
                    "--config",
                    str(self.file),
                    *options,
                ],
                env={**os.environ, **self.environment},
                stderr=log,
            )
            try:
                yield process
            finally:
                process.kill()
                process.wait()


def stopped(process: subprocess.Popen, number: signal.Signals = signal.SIGTERM) -> int:
    """Exit code after a signal."""
    process.send_signal(number)
    return process.wait(60)
