"""Publishes what may be lost: challengers' decisions. Never waits, counts what it had to drop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from stream.codecs.alerts import Record
from stream.kafka.client import clients
from stream.settings.tables import Kafka

_CLOSE_SECONDS = 5.0


class SideProducer:
    """A producer beside the worker's transactional one; used by one thread."""

    def __init__(self, kafka: Kafka, dropped: Callable[[int], None]) -> None:
        self._producer = clients.producer(kafka, "side")
        self._dropped = dropped

    def publish(self, topic: str, records: Iterable[Record]) -> None:
        """Hand records over; those that find the queue full, or the client at its end, are dropped."""
        lost = 0
        for record in records:
            headers: Any = record.headers
            try:
                self._producer.produce(
                    topic, record.value, record.key, headers=headers, on_delivery=self._delivered
                )
            except (BufferError, KafkaException):
                lost += 1
        with suppress(KafkaException):
            self._producer.poll(0)
        if lost:
            self._dropped(lost)

    def close(self) -> None:
        """Wait a little for what is under way."""
        with suppress(KafkaException):
            self._producer.flush(_CLOSE_SECONDS)

    def _delivered(self, error: KafkaError | None, _: object) -> None:
        if error is not None:
            self._dropped(1)
