"""From the client's messages to columns: the one place that knows both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from confluent_kafka import Message

from stream.codecs.messages import PartitionId, RawBatch, RawMessage

# A message that came without error has a topic, a partition and an offset, which its type does not say.
_MESSAGE: Any = Message


def partition_of(message: Any) -> PartitionId:
    """Topic and partition of a message."""
    return message.topic(), message.partition()


def runs_by_partition(messages: list[Any]) -> Iterator[tuple[PartitionId, list[Any]]]:
    """Neighbours of one topic and partition; offsets rise inside of each. Usually all messages are."""
    topics, partitions = list(map(_MESSAGE.topic, messages)), list(map(_MESSAGE.partition, messages))
    if topics.count(topics[0]) == partitions.count(partitions[0]) == len(messages):
        yield (topics[0], partitions[0]), messages
        return
    start = 0
    for partition, run in groupby(zip(topics, partitions, strict=True)):
        end = start + sum(1 for _ in run)
        yield partition, messages[start:end]
        start = end


def by_partition(messages: list[Any]) -> dict[PartitionId, list[Any]]:
    """Messages of each partition, in the order of its log."""
    groups: dict[PartitionId, list[Any]] = {}
    for partition, run in runs_by_partition(messages) if messages else ():
        groups.setdefault(partition, []).extend(run)
    return groups


def append(batch: RawBatch, messages: Sequence[Any]) -> None:
    """Add messages of one partition, none of them an error, to the columns of its topic."""
    # A method mapped over messages costs half of what calling it in a comprehension does.
    batch.partitions += [messages[0].partition()] * len(messages)
    batch.offsets += map(_MESSAGE.offset, messages)
    batch.timestamps_ms += [moment for _, moment in map(_MESSAGE.timestamp, messages)]
    batch.keys += map(_MESSAGE.key, messages)
    batch.values += map(_MESSAGE.value, messages)
    batch.headers += map(_MESSAGE.headers, messages)


def columns(messages: list[Any]) -> dict[str, RawBatch]:
    """Messages, none of them an error, as columns by topic."""
    batches: dict[str, RawBatch] = {}
    if messages:
        for (topic, _), run in runs_by_partition(messages):
            append(batches.setdefault(topic, RawBatch(topic)), run)
    return batches


def raw_message(message: Any) -> RawMessage:
    """A message by itself, where speed does not matter."""
    return RawMessage(
        message.topic(),
        message.partition(),
        message.offset(),
        message.timestamp()[1],
        message.key(),
        message.value(),
        message.headers(),
    )
