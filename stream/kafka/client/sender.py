"""Sends a handful of messages and waits until the brokers have them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from confluent_kafka import KafkaError, KafkaException, Message

from features.core.errors import ConfigurationError
from stream.kafka.client import clients
from stream.settings.tables import Kafka

_WAIT_S = 30.0
_Report = Callable[[KafkaError | None, Message], None]


class Sender:
    """A producer for tools; workers have their own."""

    def __init__(self, kafka: Kafka) -> None:
        self._servers = kafka.bootstrap_servers
        self._producer = clients.producer(kafka, "tool")

    def send(self, topic: str, messages: Iterable[tuple[bytes | None, bytes | None]]) -> None:
        """Send (key, value) pairs in order; ConfigurationError when the brokers do not take them."""
        failures: list[KafkaError] = []

        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                failures.append(error)

        try:
            if topic not in self._producer.list_topics(timeout=_WAIT_S).topics:
                fix = "make it with `riskstream doctor --create-topics N`"
                raise ConfigurationError(f"there is no topic {topic!r} at {self._servers}; {fix}")
            for key, value in messages:
                self._produce(topic, key, value, delivered)
        except KafkaException as error:
            reason = f"no answer from {self._servers} ({error.args[0].str()}); is a broker running there?"
            raise ConfigurationError(f"kafka.bootstrap_servers: {reason}") from None
        left = self._producer.flush(_WAIT_S)
        if left or failures:
            reason = failures[0].str() if failures else f"no answer within {_WAIT_S:g} s"
            raise ConfigurationError(
                f"topic {topic!r} did not take {left + len(failures)} messages: {reason}"
            )

    def _produce(self, topic: str, key: bytes | None, value: bytes | None, delivered: _Report) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key, on_delivery=delivered)
                return
            except BufferError:
                self._producer.poll(0.1)
