"""Reads ranges of topics once, outside any group: what backtests and certificates replay.

Partitions are read side by side with bounded buffers and merged by event time, as files are; a partition that runs
ahead is paused. Offsets and times are resolved before reading, so that the range does not grow while it is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from confluent_kafka import Consumer, KafkaException, TopicPartition

from features.batch import Ints, MicroBatch, SourceBatch
from features.errors import ConfigurationError, FatalError
from features.frames import concatenated
from stream.codecs.json_codec import Decoder
from stream.codecs.messages import RawBatch
from stream.kafka.merge import arrange, take

_WAIT_S = 10.0
_STALLED_S = 60.0
_BUFFER = 40_000


@dataclass
class _Queue:
    """One partition: events decoded and not yet handed on, and how far the newest of them reached."""

    topic: str
    number: int
    next: int
    end: int
    held: list[SourceBatch] = field(default_factory=list)
    reached: int = np.iinfo(np.int64).min
    paused: bool = False

    @property
    def exhausted(self) -> bool:
        return self.next >= self.end

    @property
    def rows(self) -> int:
        return sum(map(len, self.held))


class RangeReader:
    """Micro-batches of some topics between two times of their messages; nothing is committed.

    `decoders` are by topic. `start_ms` and `end_ms` are Kafka timestamps, None for all there is now. Messages that do
    not decode are counted in `rejected`; live they are dead letters, so no decision misses.
    """

    def __init__(
        self,
        properties: Mapping[str, Any],
        decoders: Mapping[str, Decoder],
        *,
        start_ms: int | None = None,
        end_ms: int | None = None,
    ) -> None:
        self._decoders = decoders
        self.rejected = 0
        self._consumer = Consumer(
            {
                **properties,
                "group.id": "riskstream-range-reader",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "enable.partition.eof": True,
            }
        )
        self._queues = {
            (one.topic, one.number): one
            for topic in sorted(decoders)
            for one in self._open(topic, start_ms, end_ms)
        }
        self.total = sum(one.end - one.next for one in self._queues.values())
        self._consumer.assign(
            [TopicPartition(one.topic, one.number, one.next) for one in self._queues.values()]
        )

    def __iter__(self) -> Iterator[MicroBatch]:
        while True:
            self._fill()
            open_ends = [one.reached for one in self._queues.values() if not one.exhausted]
            bound = min(open_ends) if open_ends else None
            parts = [part for one in self._queues.values() if (part := _take(one, bound)) is not None]
            if parts:
                yield arrange(_by_source(parts))
            elif bound is None:
                return

    def close(self) -> None:
        """Leave the brokers."""
        self._consumer.close()

    def _open(self, topic: str, start_ms: int | None, end_ms: int | None) -> list[_Queue]:
        try:
            listed = self._consumer.list_topics(topic, _WAIT_S).topics[topic]
            if listed.error is not None:
                raise ConfigurationError(f"input kafka:{topic}: {listed.error.str()}")
            out = []
            for number in sorted(listed.partitions):
                low, high = self._consumer.get_watermark_offsets(TopicPartition(topic, number), _WAIT_S)
                first = self._at(topic, number, start_ms, low, high)
                out.append(_Queue(topic, number, first, self._at(topic, number, end_ms, high, high)))
        except KafkaException as error:
            raise ConfigurationError(f"kafka.bootstrap_servers: {error.args[0].str()}") from error
        return out

    def _at(self, topic: str, number: int, time_ms: int | None, otherwise: int, high: int) -> int:
        if time_ms is None:
            return otherwise
        found = self._consumer.offsets_for_times([TopicPartition(topic, number, time_ms)], _WAIT_S)[0]
        return high if found.offset < 0 else int(found.offset)

    def _fill(self) -> None:
        """Read until every partition that has not ended holds something whose time can bound the others."""
        idle = 0.0
        while any(not one.exhausted and not one.held for one in self._queues.values()):
            self._pause()
            messages = self._consumer.consume(10_000, 0.5)
            idle = 0.0 if messages else idle + 0.5
            if idle > _STALLED_S:
                raise FatalError(
                    f"no message for {_STALLED_S:g} s before the range's end; is a transaction open?"
                )
            self._take_in(messages)

    def _pause(self) -> None:
        for one in self._queues.values():
            full = one.rows >= _BUFFER and not one.exhausted
            if full != one.paused:
                places = [TopicPartition(one.topic, one.number)]
                (self._consumer.pause if full else self._consumer.resume)(places)
                one.paused = full

    def _take_in(self, messages: list[Any]) -> None:
        raw: dict[tuple[str, int], RawBatch] = {}
        for message in messages:
            one = self._queues[message.topic(), message.partition()]
            if message.error() is not None:
                one.next = max(one.next, message.offset())
                continue
            if one.next <= message.offset() < one.end:
                batch = raw.setdefault((one.topic, one.number), RawBatch(one.topic))
                batch.partitions.append(one.number)
                batch.offsets.append(message.offset())
                batch.timestamps_ms.append(message.timestamp()[1])
                batch.keys.append(message.key())
                batch.values.append(message.value())
                batch.headers.append(message.headers())
            one.next = max(one.next, message.offset() + 1)
        for place, batch in raw.items():
            events, letters = self._decoders[place[0]].decode(batch)
            self.rejected += len(letters)
            if len(events):
                self._queues[place].held.append(events)
                self._queues[place].reached = max(self._queues[place].reached, int(events.event_time.max()))


def _take(one: _Queue, bound: int | None) -> SourceBatch | None:
    """Events of a partition that no other can still precede: before `bound` in the order of the partition."""
    if not one.held:
        return None
    held = concatenated(one.held)
    order: Ints = np.maximum.accumulate(held.event_time)
    count = len(held) if bound is None else int(np.searchsorted(order, bound, side="left"))
    rows = np.arange(len(held), dtype=np.int64)
    one.held = [take(held, rows[count:], held.position)] if count < len(held) else []
    return take(held, rows[:count], held.position) if count else None


def _by_source(parts: list[SourceBatch]) -> list[SourceBatch]:
    grouped: dict[str, list[SourceBatch]] = {}
    for part in parts:
        grouped.setdefault(part.source.name, []).append(part)
    return [concatenated(group) for group in grouped.values()]
