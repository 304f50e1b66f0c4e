"""Hands records to a producer without ever dropping one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from stream.codecs.alerts import Record
from stream.kafka.client.errors import sort


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
