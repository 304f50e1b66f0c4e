"""Reads the dead-letter topic, and sends its messages back to where they came from.

Re-driving is one transaction a batch: messages return byte for byte to their own topic and partition, and the
consumer group `<group>-redrive` remembers how far it came, so that none goes back twice. Letters that a filter
leaves out go to the end of the dead-letter topic in the same transaction, where the next re-drive finds them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

from features.core.errors import ConfigurationError, FatalError
from stream.codecs.alerts import Record
from stream.codecs.contracts import DeadLetter
from stream.codecs.dead_letters import REDRIVEN, TRUNCATED, from_record, to_record
from stream.codecs.messages import Headers
from stream.settings.config import Config

_BATCH = 500
_WAIT_S = 10.0
_START_S = 60.0


@dataclass(frozen=True)
class Found:
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


def read(config: Config, *, everything: bool = False) -> Iterator[Found]:
    """Dead letters that are there now and were not sent back yet (or all), partition after partition."""
    reader = _Reader(config)
    try:
        for messages in reader.batches(from_start=everything):
            yield from (found for message in messages if (found := _found(message)) is not None)
    finally:
        reader.close()


def redrive(config: Config, source: str | None = None, path: str | None = None) -> Redriven:
    """Send back what has not been sent back yet, all or that of one source or path."""
    reader = _Reader(config)
    producer = Producer(
        {
            **config.kafka.client_properties(),
            **config.kafka.producer,
            "transactional.id": reader.group,
            "retry.backoff.ms": 5,
            "message.max.bytes": config.worker.max_value_bytes * 2 + 1_000_000,
        }
    )
    done = Redriven()
    try:
        producer.init_transactions(_START_S)
        for messages in reader.batches():
            _send_back(producer, reader, messages, done, source, path)
    except KafkaException as error:
        raise FatalError(f"re-driving stopped: {error}; messages before it are back, run it again") from None
    finally:
        reader.close()
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
        found = _found(message)
        if found is None:
            continue
        if source not in (None, found.letter.source) or path not in (None, found.letter.path):
            _produce(producer, to_record(found.letter), reader.topic, found.partition)
            done.kept += 1
        elif any(name == TRUNCATED for name, _ in found.letter.headers):
            done.truncated += 1
        else:
            letter = found.letter
            record = Record(letter.key, letter.value, _counted(letter.headers))
            _produce(producer, record, letter.topic, letter.partition, letter.timestamp_ms)
            done.sent += 1
    ends = {message.partition() or 0: (message.offset() or 0) + 1 for message in messages}
    offsets = [TopicPartition(reader.topic, partition, offset) for partition, offset in ends.items()]
    producer.send_offsets_to_transaction(offsets, reader.consumer.consumer_group_metadata())
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
    """Reads the dead-letter topic from a start to the end that it had then."""

    def __init__(self, config: Config) -> None:
        self.topic = config.topics.dead_letters
        self.group = f"{config.kafka.group_id}-redrive"
        self.consumer = Consumer(
            {
                **config.kafka.client_properties(),
                **config.kafka.consumer,
                "group.id": self.group,
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "log_level": 0,
            }
        )

    def batches(self, *, from_start: bool = False) -> Iterator[list[Message]]:
        """Messages from the last re-drive (or the start) to the end as it is now."""
        starts = self._starts(from_start)
        ends = {one.partition: self.consumer.get_watermark_offsets(one)[1] for one in starts}
        self.consumer.assign(starts)
        while ends:
            messages: list[Message] = []
            for message in self.consumer.consume(_BATCH, timeout=0.1):
                error, partition, offset = message.error(), message.partition() or 0, message.offset() or 0
                if error is None and partition in ends and offset < ends[partition]:
                    messages.append(message)
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    continue
                if error is not None or offset >= ends.get(partition, 0) - 1:
                    ends.pop(partition, None)
            if messages:
                yield messages

    def close(self) -> None:
        self.consumer.close()

    def _starts(self, from_start: bool) -> list[TopicPartition]:
        try:
            topics = self.consumer.list_topics(self.topic, timeout=_WAIT_S).topics
        except KafkaException as error:
            servers = "kafka.bootstrap_servers: no broker answers"
            raise ConfigurationError(f"{servers} ({error.args[0].str()}); is one running there?") from None
        found = topics[self.topic]
        if found.error is not None:
            fix = "name it by topics.dead_letters, or let `riskstream doctor --create-topics N` make it"
            raise ConfigurationError(f"topics.dead_letters: there is no topic {self.topic!r}; {fix}")
        partitions = [TopicPartition(self.topic, partition) for partition in found.partitions]
        if not from_start:
            partitions = self._committed(partitions)
        return [
            TopicPartition(
                self.topic, one.partition, OFFSET_BEGINNING if from_start or one.offset < 0 else one.offset
            )
            for one in partitions
        ]

    def _committed(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Offsets of the group; asks again while the brokers are choosing its coordinator."""
        deadline = time.monotonic() + _WAIT_S
        while True:
            try:
                return self.consumer.committed(partitions, timeout=_WAIT_S)
            except KafkaException as error:
                if time.monotonic() > deadline:
                    raise ConfigurationError(
                        f"kafka: offsets of {self.group!r} cannot be read: {error}"
                    ) from None
                time.sleep(0.1)


def _found(message: Message) -> Found | None:
    letter = from_record(_bytes(message.key()), _bytes(message.value()), _headers(message))
    if letter is None:
        return None
    return Found(letter, message.partition() or 0, message.offset() or 0)


def _bytes(data: str | bytes | None) -> bytes | None:
    return data.encode() if isinstance(data, str) else data


def _headers(message: Message) -> Headers:
    headers = message.headers() or []
    pairs = headers.items() if isinstance(headers, dict) else headers
    return [(name, _bytes(value)) for name, value in pairs]
