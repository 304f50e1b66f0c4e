"""Topics, input and alerts of a benchmark run, on a real broker."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.job.events import Events, encode, event_id

CHUNK = 20_000
# Waking for each event of tens of thousands a second would take more of the cores than what is measured.
TICK_S = 0.001


def create_topic(bootstrap: str, name: str, partitions: int = 1) -> None:
    """Create one topic and wait until it exists."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic(name, partitions, 1)]).values():
        future.result(30)


def delete_topics(bootstrap: str, names: list[str]) -> None:
    """Delete topics; a missing one is no error."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.delete_topics(names).values():
        future.exception(30)


class Input:
    """Writes the job's events to a topic, in order."""

    def __init__(self, bootstrap: str, topic: str, events: Events, linger_ms: float = 20) -> None:
        self.topic = topic
        self.events = events
        self.producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "linger.ms": linger_ms,
                "batch.num.messages": 10_000,
                "queue.buffering.max.messages": 2_000_000,
                "queue.buffering.max.kbytes": 1_048_576,
                "enable.idempotence": True,
                "log_level": 0,
            }
        )

    def write(self, start: int, stop: int) -> None:
        """Rows `start` to `stop`, as fast as the broker takes them; returns when it has them all."""
        for begin in range(start, stop, CHUNK):
            for key, value in encode(self.events, begin, min(stop, begin + CHUNK)):
                self.producer.produce(self.topic, value=value, key=key)
            self.producer.poll(0)
        self.producer.flush()

    def pace(self, start: int, stop: int, per_second: float, sent: dict[str, float]) -> None:
        """Rows `start` to `stop` at a fixed rate, whatever the worker does; `sent` gets each one's time."""
        messages = encode(self.events, start, stop)
        ids = [event_id(row) for row in range(start, stop)]
        begin = time.monotonic()
        done = 0
        while done < len(messages):
            due = min(len(messages), 1 + int((time.monotonic() - begin) * per_second))
            for place in range(done, due):
                key, value = messages[place]
                sent[ids[place]] = time.monotonic()
                self.producer.produce(self.topic, value=value, key=key)
            self.producer.poll(0)
            done = due
            time.sleep(TICK_S)
        self.producer.flush()


class Alerts:
    """Reads an alert topic in a thread: when each event's alert was first readable, its score, how often.

    Committed alerts only, so a worker's transaction counts when it is done.
    """

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.seen: dict[str, float] = {}
        self.scores: dict[str, float] = {}
        self.messages = 0
        self._stop = threading.Event()
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"bench-{uuid.uuid4()}",
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 50,
                "log_level": 0,
            }
        )
        self._consumer.assign([TopicPartition(topic, 0, 0)])
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._stop.is_set():
            message = self._consumer.poll(0.1)
            if message is None or message.error() is not None:
                continue
            now = time.monotonic()
            alert = json.loads(message.value() or b"{}")
            self.messages += 1
            self.seen.setdefault(alert["event_id"], now)
            self.scores[alert["event_id"]] = alert["score"]

    def wait(self, count: int, timeout_s: float, check: Callable[[], None]) -> bool:
        """Until `count` different events have alerted; False after `timeout_s`. `check` may raise."""
        end = time.monotonic() + timeout_s
        while len(self.seen) < count and time.monotonic() < end:
            check()
            time.sleep(0.02)
        return len(self.seen) >= count

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()
        self._thread.join()
        self._consumer.close()
