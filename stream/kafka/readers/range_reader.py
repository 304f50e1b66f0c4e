"""Reads ranges of topics once, outside any group: what backtests and certificates replay.

Partitions are read side by side with bounded buffers and merged by event time, as files are; a partition that runs
ahead is paused. Offsets and times are resolved before reading, so that the range does not grow while it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from features.core.batch import Ints, MicroBatch, SourceBatch
from features.core.errors import ConfigurationError
from features.offline.order import arrange
from features.offline.reader import concatenated
from stream.codecs.decoder import Decoder
from stream.codecs.messages import PartitionId
from stream.kafka.client.messages import by_partition, columns
from stream.kafka.readers.bounded import BoundedReader
from stream.kafka.readers.log import TopicLog
from stream.settings.tables import Kafka

_ENOUGH = 5_000
_BUFFER = 40_000

Ranges = Mapping[str, Mapping[int, tuple[int | None, int | None]]]
"""By topic and partition: the first offset and the one after the last; None for what there is."""


@dataclass
class _Queue:
    """One partition: events decoded and not yet handed on, and how far the newest of them reached.

    `floor` is how far those reached that were handed on.
    """

    held: list[SourceBatch] = field(default_factory=list)
    reached: int = np.iinfo(np.int64).min
    floor: int = np.iinfo(np.int64).min

    @property
    def rows(self) -> int:
        return sum(map(len, self.held))

    def add(self, events: SourceBatch) -> None:
        self.held.append(events)
        self.reached = max(self.reached, int(events.event_time.max()))

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
        kafka: Kafka,
        decoders: Mapping[str, Decoder],
        *,
        start_ms: int | None = None,
        end_ms: int | None = None,
        ranges: Ranges | None = None,
    ) -> None:
        self._decoders = decoders
        self._limits = (start_ms, end_ms)
        self.rejected = 0
        self._log = TopicLog(kafka)
        offsets = {
            (topic, number): bounds
            for topic in sorted(decoders)
            for number, bounds in self._resolved(topic, (ranges or {}).get(topic)).items()
        }
        self.ranges = {
            topic: {number: bounds for (name, number), bounds in offsets.items() if name == topic}
            for topic in decoders
        }
        self._queues = {partition: _Queue() for partition in offsets}
        self._reader = BoundedReader(self._log, offsets)

    @property
    def total(self) -> int:
        """Messages to read; fewer come where transactions left their markers in the log."""
        return sum(end - first for ranges in self.ranges.values() for first, end in ranges.values())

    def __iter__(self) -> Iterator[MicroBatch]:
        while True:
            self._read(lambda queue: queue.rows < _ENOUGH)
            coming = [queue.reached for _, queue in self._unfinished()]
            bound = min(coming) if coming else None
            floors = {partition: queue.floor for partition, queue in self._queues.items()}
            taken = [queue.take(bound) for queue in self._queues.values()]
            batches = [batch for batch in taken if batch is not None]
            if batches:
                yield arrange(_by_source(batches), floors)
            elif bound is None:
                return
            else:
                self._read(lambda queue, bound=bound: queue.reached <= bound)  # type: ignore[misc]

    def close(self) -> None:
        """Leave the brokers."""
        self._log.close()

    def _resolved(
        self, topic: str, ranges: Mapping[int, tuple[int | None, int | None]] | None
    ) -> dict[int, tuple[int, int]]:
        """First offset and end of each partition that is read."""
        numbers = self._log.partitions(topic, f"input kafka:{topic}")
        if ranges is None:
            return {number: self._by_time((topic, number)) for number in numbers}
        unknown = sorted(set(ranges) - set(numbers))
        if unknown:
            raise ConfigurationError(f"input kafka:{topic}: there is no partition {unknown[0]}")
        return {number: self._by_offset((topic, number), *ranges[number]) for number in sorted(ranges)}

    def _by_time(self, partition: PartitionId) -> tuple[int, int]:
        low, high = self._log.bounds(partition)
        start_ms, end_ms = self._limits
        first = low if start_ms is None else self._at(partition, start_ms, high)
        end = high if end_ms is None else self._at(partition, end_ms, high)
        return first, max(first, end)

    def _at(self, partition: PartitionId, time_ms: int, high: int) -> int:
        offset = self._log.offset_at(partition, time_ms)
        return high if offset is None else offset

    def _by_offset(self, partition: PartitionId, start: int | None, stop: int | None) -> tuple[int, int]:
        low, high = self._log.bounds(partition)
        first, end = (low if start is None else start), (high if stop is None else stop)
        if first < low or end > high:
            topic, number = partition
            raise ConfigurationError(
                f"input kafka:{topic}: offsets {first} to {end} of partition {number}: it holds {low} to {high}"
            )
        return first, max(first, end)

    def _unfinished(self) -> list[tuple[PartitionId, _Queue]]:
        return [
            (partition, queue)
            for partition, queue in self._queues.items()
            if not self._reader.ended(partition)
        ]

    def _read(self, wants: Callable[[_Queue], bool]) -> None:
        """Read until no partition that has not ended wants more; those that do not and hold much are paused."""
        while any(wants(queue) for _, queue in self._unfinished()):
            self._reader.pause(
                partition
                for partition, queue in self._unfinished()
                if queue.rows >= _BUFFER and not wants(queue)
            )
            for partition, messages in by_partition(self._reader.read()).items():
                self._decode(partition, messages)

    def _decode(self, partition: PartitionId, messages: list[Any]) -> None:
        topic = partition[0]
        events, letters = self._decoders[topic].decode(columns(messages)[topic])
        self.rejected += len(letters)
        if len(events):
            self._queues[partition].add(events)


def _by_source(batches: list[SourceBatch]) -> list[SourceBatch]:
    grouped: dict[str, list[SourceBatch]] = {}
    for batch in batches:
        grouped.setdefault(batch.source.name, []).append(batch)
    return [concatenated(group) for group in grouped.values()]
