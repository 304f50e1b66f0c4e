"""Reads what some topics hold now, partition by partition, once and outside any group: what a certificate rests on.

Each partition is read at the caller's pace: one that runs ahead is paused. Only committed records are seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from stream.codecs.messages import PartitionId, RawMessage
from stream.kafka.client.messages import partition_of, raw_message
from stream.kafka.readers.bounded import BoundedReader
from stream.kafka.readers.log import TopicLog
from stream.settings.tables import Kafka

_POLL_S = 0.05
_AHEAD = 20_000


class TopicReader:
    """Opens at the oldest record, or at the first of `since_ms` (Kafka timestamps); ends where the log ends now.

    `starts` and `ends` are by partition; `lows` is where the log begins.
    """

    def __init__(self, kafka: Kafka, topics: Iterable[str], since_ms: int | None = None) -> None:
        self._log = TopicLog(kafka)
        self.lows: dict[PartitionId, int] = {}
        self.starts: dict[PartitionId, int] = {}
        self.ends: dict[PartitionId, int] = {}
        for topic in topics:
            for number in self._log.partitions(topic):
                self._open((topic, number), since_ms)
        self._held: dict[PartitionId, deque[RawMessage]] = {partition: deque() for partition in self.ends}
        self._reader = BoundedReader(
            self._log, {partition: (start, self.ends[partition]) for partition, start in self.starts.items()}
        )

    def _open(self, partition: PartitionId, since_ms: int | None) -> None:
        low, high = self._log.bounds(partition)
        start = low
        if since_ms is not None:
            offset = self._log.offset_at(partition, since_ms)
            start = high if offset is None else max(low, offset)
        self.lows[partition], self.starts[partition], self.ends[partition] = low, start, high

    @property
    def total(self) -> int:
        """Offsets to read: records, and what transactions leave between them."""
        return sum(end - self.starts[partition] for partition, end in self.ends.items())

    @property
    def done(self) -> bool:
        """Whether all was read and handed on."""
        return self._reader.done and not any(self._held.values())

    def take(self, partition: PartitionId, upto: int) -> list[RawMessage]:
        """The next records of one partition, those below `upto`. Waits until they are there."""
        while not self._reader.reached(partition, upto):
            self._reader.pause(
                other for other, held in self._held.items() if len(held) >= _AHEAD and other != partition
            )
            self._read()
        held, out = self._held[partition], []
        while held and held[0].offset < upto:
            out.append(held.popleft())
        return out

    def poll(self) -> list[RawMessage]:
        """Records of any partition, in the order of each; empty where none came within a moment, or at the end."""
        if not any(self._held.values()):
            self._read()
        out = [record for held in self._held.values() for record in held]
        for held in self._held.values():
            held.clear()
        return out

    def close(self) -> None:
        """Leave the brokers."""
        self._log.close()

    def _read(self) -> None:
        for message in self._reader.read(wait_s=_POLL_S):
            self._held[partition_of(message)].append(raw_message(message))
