"""Reads the dead-letter topic, and sends its messages back to where they came from.

Re-driving is one transaction a batch: messages return byte for byte to their own topic and partition, and the
consumer group `<group>-redrive` remembers how far it came, so that none goes back twice. Letters that a filter
leaves out go to the end of the dead-letter topic in the same transaction, where the next re-drive finds them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from confluent_kafka import KafkaException, Message, Producer, TopicPartition

from features.core.errors import FatalError
from stream.codecs.alerts import Record
from stream.codecs.contracts import DeadLetter
from stream.codecs.dead_letters import REDRIVEN, TRUNCATED, from_record, to_record
from stream.codecs.messages import Headers
from stream.kafka.client import clients
from stream.kafka.readers.bounded import BoundedReader
from stream.kafka.readers.log import TopicLog
from stream.settings.config import Config

_BATCH = 500
_START_S = 60.0


@dataclass(frozen=True)
class StoredLetter:
    """A dead letter, and where on the dead-letter topic it stands."""

    letter: DeadLetter
    partition: int
    offset: int


@dataclass
class Redriven:
    """How many messages went back, were kept for later, and cannot go back because their value was cut."""

    sent: int = 0
    kept: int = 0
    truncated: int = 0


def read(config: Config, *, everything: bool = False) -> Iterator[StoredLetter]:
    """Dead letters that are there now and were not sent back yet (or all), partition after partition."""
    with _Reader(config) as reader:
        for messages in reader.batches(from_start=everything):
            yield from (record for message in messages if (record := _record(message)) is not None)


def redrive(config: Config, source: str | None = None, path: str | None = None) -> Redriven:
    """Send back what has not been sent back yet, all or that of one source or path."""
    done = Redriven()
    with _Reader(config) as reader:
        producer = clients.producer(
            config.kafka, "redrive", reader.group, message_bytes=config.worker.max_value_bytes * 2 + 1_000_000
        )
        try:
            producer.init_transactions(_START_S)
            for messages in reader.batches():
                _send_back(producer, reader, messages, done, source, path)
        except KafkaException as error:
            reason = f"re-driving stopped: {error}; messages before it are back, run it again"
            raise FatalError(reason) from None
    return done


def _send_back(
    producer: Producer,
    reader: _Reader,
    messages: list[Message],
    done: Redriven,
    source: str | None,
    path: str | None,
) -> None:
    producer.begin_transaction()
    for message in messages:
        stored = _record(message)
        if stored is None:
            continue
        letter = stored.letter
        if source not in (None, letter.source) or path not in (None, letter.path):
            _produce(producer, to_record(letter), reader.topic, stored.partition)
            done.kept += 1
        elif any(name == TRUNCATED for name, _ in letter.headers):
            done.truncated += 1
        else:
            record = Record(letter.key, letter.value, _counted(letter.headers))
            _produce(producer, record, letter.topic, letter.partition, letter.timestamp_ms)
            done.sent += 1
    ends = {message.partition() or 0: (message.offset() or 0) + 1 for message in messages}
    offsets = [TopicPartition(reader.topic, partition, offset) for partition, offset in ends.items()]
    producer.send_offsets_to_transaction(offsets, reader.group_metadata())
    producer.commit_transaction()


def _produce(producer: Producer, record: Record, topic: str, partition: int, timestamp_ms: int = 0) -> None:
    headers: list[tuple[str, str | bytes | None]] = [*record.headers]
    producer.produce(
        topic,
        value=record.value,
        key=record.key,
        partition=partition,
        headers=headers,
        timestamp=max(timestamp_ms, 0),
    )


def _counted(headers: Headers) -> Headers:
    """With one more re-drive counted."""
    times = [int(value) for name, value in headers if name == REDRIVEN and value and value.isdigit()]
    kept = [(name, value) for name, value in headers if name != REDRIVEN]
    return [*kept, (REDRIVEN, str(max(times, default=0) + 1).encode())]


class _Reader:
    """Reads the dead-letter topic from the last re-drive, or its start, to the end that it has now."""

    def __init__(self, config: Config) -> None:
        self.topic = config.topics.dead_letters
        self.group = f"{config.kafka.group_id}-redrive"
        self._log = TopicLog(config.kafka, "redrive")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._log.close()

    def batches(self, *, from_start: bool = False) -> Iterator[list[Message]]:
        """Messages, at most 500 at a time, partition by partition as they come."""
        partitions = [
            (self.topic, number) for number in self._log.partitions(self.topic, "topics.dead_letters")
        ]
        starts = {} if from_start else self._log.committed(partitions)
        bounds = {partition: self._log.bounds(partition) for partition in partitions}
        ranges = {
            partition: (max(low, starts.get(partition, low)), high)
            for partition, (low, high) in bounds.items()
        }
        return BoundedReader(self._log, ranges).all(_BATCH, 0.1)

    def group_metadata(self) -> object:
        """What a transaction commits this group's offsets with."""
        return self._log.client.consumer_group_metadata()


def _record(message: Message) -> StoredLetter | None:
    letter = from_record(_bytes(message.key()), _bytes(message.value()), _headers(message))
    if letter is None:
        return None
    return StoredLetter(letter, message.partition() or 0, message.offset() or 0)


def _bytes(data: str | bytes | None) -> bytes | None:
    return data.encode() if isinstance(data, str) else data


def _headers(message: Message) -> Headers:
    headers = message.headers() or []
    pairs = headers.items() if isinstance(headers, dict) else headers
    return [(name, _bytes(value)) for name, value in pairs]
