"""Reads what some topics hold now, partition by partition, once and outside any group: what a certificate rests on.

Each partition is read at the caller's pace: one that runs ahead is paused. Only committed records are seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from features.core.errors import ConfigurationError, FatalError
from stream.codecs.messages import RawMessage
from stream.kafka.client.consumer import Place

_WAIT_S = 10.0
_STALLED_S = 60.0
_AT_ONCE = 10_000
_POLL_S = 0.05
_AHEAD = 20_000


class TopicReader:
    """Opens at the oldest record, or at the first of `since_ms` (Kafka timestamps); ends where the log ends now.

    `starts` and `ends` are by place; `lows` is where the log begins.
    """

    def __init__(
        self, properties: Mapping[str, Any], topics: Iterable[str], since_ms: int | None = None
    ) -> None:
        self._consumer = Consumer(
            {
                "log_level": 2,
                **properties,
                "group.id": "riskstream-topic-reader",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "enable.partition.eof": True,
            }
        )
        self.lows: dict[Place, int] = {}
        self.starts: dict[Place, int] = {}
        self.ends: dict[Place, int] = {}
        self._held: dict[Place, deque[RawMessage]] = {}
        self._paused: set[Place] = set()
        self._idle = 0.0
        try:
            for topic in topics:
                self._open(topic, since_ms)
        except KafkaException as error:
            raise ConfigurationError(f"kafka.bootstrap_servers: {error.args[0].str()}") from error
        self._next = dict(self.starts)
        self._consumer.assign([TopicPartition(*place, start) for place, start in self.starts.items()])

    def _open(self, topic: str, since_ms: int | None) -> None:
        listed = self._consumer.list_topics(topic, _WAIT_S).topics[topic]
        if listed.error is not None:
            raise ConfigurationError(f"topic {topic!r}: {listed.error.str()}")
        for number in sorted(listed.partitions):
            place = (topic, number)
            low, high = self._consumer.get_watermark_offsets(TopicPartition(*place), _WAIT_S)
            start = low
            if since_ms is not None:
                found = self._consumer.offsets_for_times([TopicPartition(*place, since_ms)], _WAIT_S)[0]
                start = high if found.offset < 0 else max(low, found.offset)
            self.lows[place], self.starts[place], self.ends[place] = low, start, high
            self._held[place] = deque()

    @property
    def total(self) -> int:
        """Offsets to read: records, and what transactions leave between them."""
        return sum(end - self.starts[place] for place, end in self.ends.items())

    @property
    def done(self) -> bool:
        """Whether all was read and handed on."""
        return all(self._at_end(place) and not self._held[place] for place in self.ends)

    def _at_end(self, place: Place) -> bool:
        return self._next[place] >= self.ends[place]

    def take(self, place: Place, upto: int) -> list[RawMessage]:
        """The next records of one partition, those below `upto`. Waits until they are there."""
        upto = min(upto, self.ends[place])
        while self._next[place] < upto:
            self._pace(place)
            self._poll()
        held, out = self._held[place], []
        while held and held[0].offset < upto:
            out.append(held.popleft())
        return out

    def poll(self) -> list[RawMessage]:
        """Records of any partition, in the order of each; empty where none came within a moment, or at the end."""
        if not any(self._held.values()) and not all(map(self._at_end, self.ends)):
            self._poll()
        out = [one for held in self._held.values() for one in held]
        for held in self._held.values():
            held.clear()
        return out

    def close(self) -> None:
        """Leave the brokers."""
        self._consumer.close()

    def _pace(self, wanted: Place) -> None:
        """Pause partitions that run ahead of the one that is waited for."""
        for place, held in self._held.items():
            full = len(held) >= _AHEAD and place != wanted
            if full != (place in self._paused):
                (self._consumer.pause if full else self._consumer.resume)([TopicPartition(*place)])
                (self._paused.add if full else self._paused.discard)(place)

    def _poll(self) -> None:
        messages: list[Any] = self._consumer.consume(_AT_ONCE, _POLL_S)
        self._idle = 0.0 if messages else self._idle + _POLL_S
        if self._idle > _STALLED_S:
            missing = [
                f"{topic}[{number}]" for topic, number in self.ends if not self._at_end((topic, number))
            ]
            raise FatalError(f"no record for {_STALLED_S:g} s before the log's end: {', '.join(missing)}")
        for message in messages:
            place = (message.topic(), message.partition())
            error, offset = message.error(), message.offset()
            if error is not None:
                if error.code() != KafkaError._PARTITION_EOF:
                    raise FatalError(f"{place[0]}[{place[1]}]: {error.str()}")
                self._next[place] = max(self._next[place], offset)
                continue
            if self._next[place] <= offset < self.ends[place]:
                self._held[place].append(
                    RawMessage(
                        *place, offset, message.timestamp()[1], message.key(), message.value(),
                        message.headers(),
                    )
                )  # fmt: skip
            self._next[place] = max(self._next[place], offset + 1)


def committed(properties: Mapping[str, Any], group: str, topics: Iterable[str]) -> dict[Place, int]:
    """What a group has committed of some topics; without partitions of which it has committed nothing."""
    asking = Consumer({"log_level": 2, **properties, "group.id": group, "enable.auto.commit": False})
    try:
        listed = asking.list_topics(timeout=_WAIT_S).topics
        places = [
            TopicPartition(topic, n) for topic in topics if topic in listed for n in listed[topic].partitions
        ]
        found = asking.committed(places, _WAIT_S) if places else []
    except KafkaException as error:
        raise ConfigurationError(f"kafka.bootstrap_servers: {error.args[0].str()}") from error
    finally:
        asking.close()
    return {(one.topic, one.partition): one.offset for one in found if one.offset >= 0}
