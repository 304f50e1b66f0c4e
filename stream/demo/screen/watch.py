"""Reads the demo's topics as any subscriber would, and keeps the figures of the summary.

Nothing is asked of the simulator or the worker: what was produced, scored, dead-lettered and alerted is counted
from messages that were read, matched by topic, partition and offset.
"""

from __future__ import annotations

import array
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import cast

import msgspec
from confluent_kafka import Message

from stream.demo.bank.days import APPLICATIONS, TRANSACTIONS
from stream.demo.bank.simulator import TRUTH_HEADER
from stream.kafka.readers.follow import FollowingReader
from stream.kafka.readers.log import TopicLog
from stream.settings.tables import Kafka

SCORED_TOPICS = (TRANSACTIONS.topic, APPLICATIONS.topic)
ALERTS, DECISIONS, DEAD_LETTERS = "alerts", "decisions", "dead-letters"
Position = tuple[str, int, int]


class SeenReason(msgspec.Struct):
    """What the screen shows of a reason."""

    code: str
    text: str
    contribution: float


class _Source(msgspec.Struct):
    topic: str
    partition: int
    offset: int


class _Times(msgspec.Struct):
    received: int


class Seen(msgspec.Struct):
    """What the demo reads of an alert or decision."""

    event_id: str
    event_time: str
    entity_keys: dict[str, str | None]
    decision: str
    score: float | None
    severity: str
    alert: bool
    exposure: float | None
    reasons: list[SeenReason]
    source: _Source
    times: _Times

    @property
    def position(self) -> Position:
        """The event that it speaks of."""
        return self.source.topic, self.source.partition, self.source.offset


@dataclass
class Hits:
    """Alerts against the truth, for the events of one topic."""

    events: int = 0
    bad: int = 0
    alerts: int = 0
    caught: int = 0
    caught_by_kind: Counter[str] = field(default_factory=Counter)
    bad_by_kind: Counter[str] = field(default_factory=Counter)

    @property
    def precision(self) -> float | None:
        """Share of alerts that were right."""
        return self.caught / self.alerts if self.alerts else None

    @property
    def recall(self) -> float | None:
        """Share of the bad that was alerted."""
        return self.caught / self.bad if self.bad else None

    def add(self, truth: str, alerted: bool) -> None:
        """Count one event whose fate is known."""
        self.events += 1
        self.alerts += alerted
        if truth:
            self.bad += 1
            self.bad_by_kind[truth] += 1
            if alerted:
                self.caught += 1
                self.caught_by_kind[truth] += 1


class Watch(threading.Thread):
    """Consumes from the topics' ends at the time of `begin`; figures may be read at any time.

    An event is settled when its message and its decision (and its alert, if it has one) or its dead
    letter have been read, in whatever order they came.
    """

    def __init__(self, bootstrap: str) -> None:
        super().__init__(name="watch", daemon=True)
        self.produced = 0
        self.scored = 0
        self.dead_lettered = 0
        self.alerts_read = 0
        self.hits = {topic: Hits() for topic in SCORED_TOPICS}
        self.latency_ms = array.array("d")
        self.latest: deque[Seen] = deque(maxlen=100)
        self._finished = threading.Event()
        self._truth: dict[Position, str] = {}
        self._decided: dict[Position, bool] = {}
        self._alerted: set[Position] = set()
        self._dead: set[Position] = set()
        self._decode = msgspec.json.Decoder(Seen).decode
        self._log = TopicLog(
            Kafka(bootstrap_servers=bootstrap, consumer={"fetch.wait.max.ms": 10}), "follower"
        )

    @property
    def unsettled(self) -> int:
        """Events read whose decision or dead letter has not been read yet."""
        return self.produced - self.scored - self.dead_lettered

    @property
    def alerts(self) -> int:
        """Alerts read whose event is settled."""
        return sum(hits.alerts for hits in self.hits.values())

    def begin(self) -> None:
        """Note where the topics end now, and start reading from there."""
        ends = {
            (topic, number): self._log.bounds((topic, number))[1]
            for topic in (*SCORED_TOPICS, DECISIONS, ALERTS, DEAD_LETTERS)
            for number in self._log.partitions(topic)
        }
        self._reader = FollowingReader(self._log, ends)
        self.start()

    def finish(self) -> None:
        """Stop reading."""
        self._finished.set()
        self.join()
        self._log.close()

    def run(self) -> None:
        """The thread: read, sort by topic, settle."""
        while not self._finished.is_set():
            messages = self._reader.read(1000, 0.05)
            now_ms = time.time() * 1000
            for message in messages:
                self._take(message, now_ms)

    def _take(self, message: Message, now_ms: float) -> None:
        topic = message.topic()
        if topic in SCORED_TOPICS:
            position = (topic, message.partition() or 0, message.offset() or 0)
            self.produced += 1
            self._truth[position] = _header(message, TRUTH_HEADER)
            self._settle(position)
        elif topic == DEAD_LETTERS:
            position = _original_position(message)
            self._dead.add(position)
            self._settle(position)
        else:
            seen = self._decode(message.value() or b"")
            if topic == ALERTS:
                self._alerted.add(seen.position)
                self.latest.append(seen)
                self.alerts_read += 1
            else:
                self._decided[seen.position] = seen.alert
                self.latency_ms.append(now_ms - seen.times.received / 1000)
            self._settle(seen.position)

    def _settle(self, position: Position) -> None:
        truth = self._truth.get(position)
        if truth is None:
            return
        if position in self._dead:
            self._dead.discard(position)
            self.dead_lettered += 1
        elif (alert := self._decided.get(position)) is not None and (not alert or position in self._alerted):
            self.hits[position[0]].add(truth, alert)
            self._alerted.discard(position)
            del self._decided[position]
            self.scored += 1
        else:
            return
        del self._truth[position]


def _header(message: Message, name: str) -> str:
    headers = cast(list[tuple[str, bytes | None]], message.headers() or [])
    return next((value.decode() for key, value in headers if key == name and value is not None), "")


def _original_position(message: Message) -> Position:
    topic = _header(message, "riskstream-topic")
    return topic, int(_header(message, "riskstream-partition")), int(_header(message, "riskstream-offset"))
