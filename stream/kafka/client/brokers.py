"""What the brokers have: topics, partitions, settings; and topics made where asked for.

Control path only: used by `riskstream doctor`, `dlq` and at a worker's start.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from confluent_kafka import KafkaException, libversion
from confluent_kafka.admin import ConfigResource, NewTopic, ResourceType

from features.core.errors import ConfigurationError
from stream.kafka.client import clients
from stream.settings.tables import Kafka

TIMEOUT_S = 10.0
OLDEST_CLIENT = (2, 13, 2)


@dataclass(frozen=True)
class Topic:
    """A topic as the brokers know it; `settings` holds those that were asked for."""

    name: str
    partitions: int
    settings: dict[str, str] = field(default_factory=dict)


class Brokers:
    """An admin client; every failure is a ConfigurationError that names `kafka.bootstrap_servers`."""

    def __init__(self, kafka: Kafka) -> None:
        self._servers = kafka.bootstrap_servers
        self._timeout = TIMEOUT_S
        self._admin = clients.admin(kafka)

    def topics(self) -> dict[str, Topic]:
        """All topics by name."""
        try:
            found = self._admin.list_topics(timeout=self._timeout).topics
        except KafkaException as error:
            fix = "is the broker running, and do kafka.properties hold what it asks for (TLS, SASL)?"
            said = f"kafka.bootstrap_servers: no answer from {self._servers} within {self._timeout:g} s"
            raise ConfigurationError(f"{said} ({_words(error)}); {fix}") from None
        return {
            name: Topic(name, len(topic.partitions)) for name, topic in found.items() if topic.error is None
        }

    def settings(self, topics: Iterable[str]) -> dict[str, dict[str, str]]:
        """Settings of some topics, defaults included."""
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in topics]
        if not resources:
            return {}
        answers = self._admin.describe_configs(resources, request_timeout=self._timeout)
        try:
            return {
                resource.name: {name: entry.value for name, entry in answer.result().items()}
                for resource, answer in answers.items()
            }
        except KafkaException as error:
            raise ConfigurationError(f"kafka: topic settings cannot be read: {_words(error)}") from None

    def create(self, topics: Iterable[Topic], replication: int = -1) -> None:
        """Make topics; -1 leaves the replication to the brokers."""
        wanted = [
            NewTopic(topic.name, topic.partitions, replication_factor=replication, config=topic.settings)
            for topic in topics
        ]
        if not wanted:
            return
        for name, answer in self._admin.create_topics(wanted, operation_timeout=self._timeout).items():
            try:
                answer.result()
            except KafkaException as error:
                raise ConfigurationError(f"kafka: topic {name!r} cannot be made: {_words(error)}") from None


def client_version() -> tuple[int, ...]:
    """Version of librdkafka."""
    text = str(libversion()[0])
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def _words(error: KafkaException) -> str:
    return str(error.args[0].str()) if error.args and hasattr(error.args[0], "str") else str(error)
