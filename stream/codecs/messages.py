"""What a consumer hands to a decoder: the messages of one topic, as columns.

Columns, because a Python object per message would cost more than decoding it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

Headers = list[tuple[str, bytes | None]]
PartitionId = tuple[str, int]
"""A topic and the number of one of its partitions."""


def partition_text(topic: str, partition: int) -> str:
    """A partition as messages and reports name it.

    >>> partition_text("payments", 3)
    'payments[3]'
    """
    return f"{topic}[{partition}]"


def record_text(topic: str, partition: int, offset: int) -> str:
    """A record's position in the log as messages and reports name it; safe to log.

    >>> record_text("payments", 3, 18234)
    'payments[3]@18234'
    """
    return f"{topic}[{partition}]@{offset}"


class RawMessage(NamedTuple):
    """One message as Kafka has it. `timestamp_ms` is -1 where the broker gave none."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers | None = None


@dataclass(slots=True)
class RawBatch:
    """Messages of one topic, any of its partitions; all lists have the same length."""

    topic: str
    partitions: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    timestamps_ms: list[int] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    headers: list[Headers | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.values)

    @classmethod
    def of(cls, topic: str, messages: Iterable[RawMessage]) -> RawBatch:
        """A batch from single messages: convenient where speed does not matter."""
        batch = cls(topic)
        for message in messages:
            batch.partitions.append(message.partition)
            batch.offsets.append(message.offset)
            batch.timestamps_ms.append(message.timestamp_ms)
            batch.keys.append(message.key)
            batch.values.append(message.value)
            batch.headers.append(message.headers)
        return batch
