"""Reads given offsets of given partitions once, outside any group: what is folded again after a restart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from features.core.errors import RetriableError
from stream.codecs.messages import RawBatch

Place = tuple[str, int]
_STALLED_S = 30.0


def replayed(
    properties: Mapping[str, Any], ranges: Mapping[Place, tuple[int, int]], size: int = 4000
) -> Iterator[dict[str, RawBatch]]:
    """Batches by topic of the messages from start to end (exclusive) of each place; may block on the brokers.

    RetriableError when nothing comes although the end was not reached.
    """
    left = {place: end for place, (start, end) in ranges.items() if start < end}
    if not left:
        return
    settings = {"group.id": "riskstream-replay", "enable.auto.commit": False, "enable.partition.eof": True}
    consumer = Consumer({**properties, **settings, "isolation.level": "read_committed"})
    try:
        consumer.assign([TopicPartition(*place, ranges[place][0]) for place in left])
        idle = 0.0
        while left:
            messages = consumer.consume(size, 0.5)
            idle = 0.0 if messages else idle + 0.5
            if idle > _STALLED_S:
                raise RetriableError(f"nothing to replay came within {_STALLED_S:g} s")
            raw: dict[str, RawBatch] = {}
            for message in messages:
                place = (str(message.topic()), int(message.partition() or 0))
                at = int(message.offset() or 0)
                end = left.get(place)
                if end is None:
                    continue
                ended = message.error() is not None
                if not ended and at < end:
                    _add(raw.setdefault(place[0], RawBatch(place[0])), message)
                if ended or at + 1 >= end:
                    del left[place]
            if raw:
                yield raw
    finally:
        consumer.close()


def _add(batch: RawBatch, message: Any) -> None:
    batch.partitions.append(message.partition())
    batch.offsets.append(message.offset())
    batch.timestamps_ms.append(message.timestamp()[1])
    batch.keys.append(message.key())
    batch.values.append(message.value())
    batch.headers.append(message.headers())
