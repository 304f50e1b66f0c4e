"""Reads ranges of topics once, outside any group: what backtests and certificates replay.

Partitions are read side by side with bounded buffers and merged by event time, as files are; a partition that runs
ahead is paused. Offsets and times are resolved before reading, so that the range does not grow while it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from features.core.batch import Ints, MicroBatch, SourceBatch
from features.core.errors import ConfigurationError, FatalError
from features.offline.order import arrange
from features.offline.reader import concatenated
from stream.codecs.json import Decoder
from stream.codecs.messages import RawBatch

_WAIT_S = 10.0
_STALLED_S = 60.0
_ENOUGH = 5_000
_BUFFER = 40_000

Ranges = Mapping[str, Mapping[int, tuple[int | None, int | None]]]
"""By topic and partition: the first offset and the one after the last; None for what there is."""


@dataclass
class _Queue:
    """One partition: events decoded and not yet handed on, and how far the newest of them reached.

    `floor` is how far those reached that were handed on.
    """

    topic: str
    number: int
    next: int
    end: int
    held: list[SourceBatch] = field(default_factory=list)
    reached: int = np.iinfo(np.int64).min
    floor: int = np.iinfo(np.int64).min
    paused: bool = False

    @property
    def exhausted(self) -> bool:
        return self.next >= self.end

    @property
    def rows(self) -> int:
        return sum(map(len, self.held))

    def take(self, bound: int | None) -> SourceBatch | None:
        """Events that no other partition can still precede: before `bound` in the order of this one."""
        if not self.held:
            return None
        held = concatenated(self.held)
        order: Ints = np.maximum.accumulate(np.maximum(held.event_time, self.floor))
        count = len(held) if bound is None else int(np.searchsorted(order, bound, side="left"))
        rows = np.arange(len(held), dtype=np.int64)
        self.held = [held.take(rows[count:])] if count < len(held) else []
        if not count:
            return None
        self.floor = int(order[count - 1])
        return held.take(rows[:count])


class RangeReader:
    """Micro-batches of some topics between two offsets, or two times of their messages; nothing is committed.

    `decoders` are by topic. `start_ms` and `end_ms` are Kafka timestamps, None for all there is now; `ranges` are
    offsets, which count more: a partition that a topic's ranges do not name is left out. Messages that do not decode
    are counted in `rejected`; live they are dead letters, so no decision misses. The order of the events is a
    function of the log, however they arrive and are cut into batches.
    """

    def __init__(
        self,
        properties: Mapping[str, Any],
        decoders: Mapping[str, Decoder],
        *,
        start_ms: int | None = None,
        end_ms: int | None = None,
        ranges: Ranges | None = None,
    ) -> None:
        self._decoders = decoders
        self._limits = (start_ms, end_ms)
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
            for one in self._open(topic, (ranges or {}).get(topic))
        }
        self.ranges = {
            topic: {one.number: (one.next, one.end) for one in self._queues.values() if one.topic == topic}
            for topic in decoders
        }
        self.total = sum(one.end - one.next for one in self._queues.values())
        self._consumer.assign(
            [TopicPartition(one.topic, one.number, one.next) for one in self._queues.values()]
        )

    def __iter__(self) -> Iterator[MicroBatch]:
        while True:
            self._read(lambda one: one.rows < _ENOUGH)
            reached = [one.reached for one in self._queues.values() if not one.exhausted]
            bound = min(reached) if reached else None
            floors = {place: one.floor for place, one in self._queues.items()}
            parts = [part for one in self._queues.values() if (part := one.take(bound)) is not None]
            if parts:
                yield arrange(_by_source(parts), floors)
            elif bound is None:
                return
            else:
                self._read(lambda one, bound=bound: one.reached <= bound)  # type: ignore[misc]

    def close(self) -> None:
        """Leave the brokers."""
        self._consumer.close()

    def _open(self, topic: str, ranges: Mapping[int, tuple[int | None, int | None]] | None) -> list[_Queue]:
        try:
            listed = self._consumer.list_topics(topic, _WAIT_S).topics[topic]
            if listed.error is not None:
                raise ConfigurationError(f"input kafka:{topic}: {listed.error.str()}")
            unknown = sorted(set(ranges or ()) - set(listed.partitions))
            if unknown:
                raise ConfigurationError(f"input kafka:{topic}: there is no partition {unknown[0]}")
            return [
                self._queue(topic, number, None if ranges is None else ranges[number])
                for number in sorted(listed.partitions)
                if ranges is None or number in ranges
            ]
        except KafkaException as error:
            raise ConfigurationError(f"kafka.bootstrap_servers: {error.args[0].str()}") from error

    def _queue(self, topic: str, number: int, asked: tuple[int | None, int | None] | None) -> _Queue:
        low, high = self._consumer.get_watermark_offsets(TopicPartition(topic, number), _WAIT_S)
        if asked is None:
            first, end = (self._at(topic, number, one, high) for one in self._limits)
            return _Queue(topic, number, low if first is None else first, high if end is None else end)
        first, end = (low if asked[0] is None else asked[0]), (high if asked[1] is None else asked[1])
        if first < low or end > high:
            there = f"it holds {low} to {high}"
            raise ConfigurationError(
                f"input kafka:{topic}: offsets {first} to {end} of partition {number}: {there}"
            )
        return _Queue(topic, number, first, max(first, end))

    def _at(self, topic: str, number: int, time_ms: int | None, high: int) -> int | None:
        """The first offset whose message is not older than a time."""
        if time_ms is None:
            return None
        found = self._consumer.offsets_for_times([TopicPartition(topic, number, time_ms)], _WAIT_S)[0]
        return high if found.offset < 0 else int(found.offset)

    def _read(self, wants: Callable[[_Queue], bool]) -> None:
        """Read until no partition that has not ended wants more; those that do not and hold much are paused."""
        idle = 0.0
        while any(not one.exhausted and wants(one) for one in self._queues.values()):
            self._pause(wants)
            messages = self._consumer.consume(10_000, 0.2)
            idle = 0.0 if messages else idle + 0.2
            if idle > _STALLED_S:
                raise FatalError(
                    f"no message for {_STALLED_S:g} s before the range's end; is a transaction open?"
                )
            self._take_in(messages)

    def _pause(self, wants: Callable[[_Queue], bool]) -> None:
        for one in self._queues.values():
            full = one.exhausted or (one.rows >= _BUFFER and not wants(one))
            if full != one.paused:
                places = [TopicPartition(one.topic, one.number)]
                (self._consumer.pause if full else self._consumer.resume)(places)
                one.paused = full

    def _take_in(self, messages: list[Any]) -> None:
        raw: dict[tuple[str, int], RawBatch] = {}
        for message in messages:
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                raise FatalError(f"input kafka:{message.topic()}: {error.str()}")
            one = self._queues[message.topic(), message.partition()]
            if error is not None:
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


def _by_source(parts: list[SourceBatch]) -> list[SourceBatch]:
    grouped: dict[str, list[SourceBatch]] = {}
    for part in parts:
        grouped.setdefault(part.source.name, []).append(part)
    return [concatenated(group) for group in grouped.values()]
