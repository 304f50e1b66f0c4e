"""Reads some partitions from one offset to another, once, outside any group, and stops there.

The one bounded reader: backtests, certificates, dead letters, past alerts and recovery in Faust read through it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from stream.codecs.messages import PartitionId
from stream.kafka.client.errors import PASSING, sort
from stream.kafka.client.messages import partition_of
from stream.kafka.readers.log import TopicLog
from stream.telemetry.logs import logger

STALLED_S = 60.0
_log = logger("reader")


class BoundedReader:
    """Messages with offsets from `start` to `end` (exclusive) of each partition; only committed ones.

    A range whose last offsets hold no message (a transaction's marker, an aborted record) ends all the same. The log is
    the caller's; it closes it.
    """

    def __init__(self, log: TopicLog, ranges: Mapping[PartitionId, tuple[int, int]]) -> None:
        self._log = log
        self._client = log.client
        self._ends = {partition: end for partition, (_, end) in ranges.items()}
        self._next = {partition: start for partition, (start, _) in ranges.items()}
        self._unfinished = {partition for partition in ranges if not self.ended(partition)}
        self._paused: set[PartitionId] = set()
        self._idle_s = 0.0
        self._assigned = frozenset(self._unfinished)
        if self._assigned:
            self._client.assign(
                [TopicPartition(*partition, self._next[partition]) for partition in self._assigned]
            )

    def ended(self, partition: PartitionId) -> bool:
        """Whether all of the partition's range was read."""
        return self._next[partition] >= self._ends[partition]

    def reached(self, partition: PartitionId, offset: int) -> bool:
        """Whether the partition was read up to an offset, or to the end of its range."""
        return self._next[partition] >= min(offset, self._ends[partition])

    @property
    def done(self) -> bool:
        """Whether all of every range was read."""
        return not self._unfinished

    def read(self, most: int = 10_000, wait_s: float = 0.2) -> list[Any]:
        """The next messages, of each partition in the order of its log; empty where none came within `wait_s`.

        An error where nothing came for a minute before the end: FatalError, or RetriableError in a recovery.
        """
        if self.done:
            return []
        try:
            messages = self._client.consume(most, wait_s)
        except KafkaException as error:
            raise sort(error, "reading") from error
        self._count_idle(bool(messages), wait_s)
        before = len(self._unfinished)
        wanted = [message for message in messages if self._wanted(message)]
        if before != len(self._unfinished):
            self.pause(self._paused)
        return wanted

    def all(self, most: int = 10_000, wait_s: float = 0.2) -> Iterator[list[Any]]:
        """All messages of the ranges, some at a time."""
        while not self.done:
            if messages := self.read(most, wait_s):
                yield messages

    def pause(self, partitions: Iterable[PartitionId]) -> None:
        """Read only partitions that are not among these and have not ended, until the next call."""
        paused = {*partitions, *(self._assigned - self._unfinished)} & self._assigned
        for change, of in (
            (self._client.pause, paused - self._paused),
            (self._client.resume, self._paused - paused),
        ):
            if of:
                change([TopicPartition(*partition) for partition in of])
        self._paused = paused

    def _count_idle(self, came: bool, wait_s: float) -> None:
        self._idle_s = 0.0 if came else self._idle_s + wait_s
        if self._idle_s > STALLED_S:
            names = ", ".join(f"{topic}[{number}]" for topic, number in sorted(self._unfinished))
            raise self._log.stalled(
                f"{names}: no message for {STALLED_S:g} s before the end of the range; is a transaction open?"
            )

    def _wanted(self, message: Any) -> bool:
        error, partition, offset = message.error(), partition_of(message), message.offset()
        if error is not None:
            self._note(error, partition, offset)
            return False
        if partition not in self._next:
            return False
        wanted: bool = self._next[partition] <= offset < self._ends[partition]
        self._came_to(partition, offset + 1)
        return wanted

    def _note(self, error: KafkaError, partition: PartitionId, offset: int) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            self._came_to(partition, offset)
        elif error.code() in PASSING:
            _log.warning("kafka", error=error.str())
        else:
            raise sort(error, f"reading {partition[0]}[{partition[1]}]")

    def _came_to(self, partition: PartitionId, offset: int) -> None:
        self._next[partition] = max(self._next.get(partition, 0), offset)
        if self.ended(partition):
            self._unfinished.discard(partition)
