"""Settings of the producer, and handing it records without ever dropping one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from stream.codecs.alerts import Record
from stream.kafka.client.errors import sort

DEFAULTS = {
    "compression.type": "lz4",
    "linger.ms": 0,
    "queue.buffering.max.messages": 500_000,
    # The brokers judge what is too large, after compression.
    "message.max.bytes": 16_000_000,
    "log_level": 3,
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 1_000,
    # While the coordinator completes one transaction it answers the next with CONCURRENT_TRANSACTIONS; with
    # librdkafka's default back-off of 100 ms every transaction would wait that long.
    "retry.backoff.ms": 1,
    "retry.backoff.max.ms": 5,
}


def properties(
    common: Mapping[str, Any], own: Mapping[str, Any], transactional_id: str | None
) -> dict[str, Any]:
    """librdkafka's settings; `transactional_id` is stable per worker (PROTOCOL 0.3)."""
    required: dict[str, Any] = {"enable.idempotence": True, "acks": "all"}
    if transactional_id is not None:
        required["transactional.id"] = transactional_id
        required["transaction.timeout.ms"] = 10_000
    return {**DEFAULTS, **common, **own, **required}


def produce(
    producer: Producer, topic: str, records: Iterable[Record], failures: list[KafkaError] | None = None
) -> None:
    """Queue records; waits while the queue is full. `failures` collects what could not be delivered."""

    def delivered(error: KafkaError | None, _: object) -> None:
        if error is not None and failures is not None:
            failures.append(error)

    report = None if failures is None else delivered
    try:
        for record in records:
            headers: Any = record.headers
            while True:
                try:
                    producer.produce(topic, record.value, record.key, headers=headers, on_delivery=report)
                    break
                except BufferError:
                    producer.poll(0.05)
        producer.poll(0)  # raises what ended the client
    except KafkaException as error:
        raise sort(error, f"producing to {topic}") from error
