"""What must hold of brokers and topics before a worker starts (PROTOCOL 0)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import ConfigResource, ResourceType

from features.core.errors import ConfigurationError
from features.definitions.plan import Plan
from features.kernel.row_format import STATE_FORMAT
from features.store.base import StateManifest, TopicIdentity
from stream.kafka.client import clients
from stream.kafka.client.errors import kafka_error
from stream.settings.tables import Kafka
from stream.telemetry.logs import logger

_TIMEOUT = 10.0
# What brokers take by default.
_ROOM = 1_048_588
_log = logger("preflight")


class Preflight:
    """Asks the brokers once, before anything else connects."""

    def __init__(self, kafka: Kafka) -> None:
        self._servers = kafka.bootstrap_servers
        self._admin = clients.admin(kafka)

    def topics(self, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> dict[str, int]:
        """Partitions of each input topic; `inputs` and `outputs` map settings to topics."""
        try:
            found = self._admin.list_topics(timeout=_TIMEOUT)
        except KafkaException as error:
            raise ConfigurationError(
                f"kafka.bootstrap_servers: no broker answers at {self._servers}: {kafka_error(error).str()}. "
                "Start Kafka, or correct the setting."
            ) from error
        self.cluster = str(found.cluster_id)
        # librdkafka's mock cluster names no controller and would leave the questions below unanswered.
        self._has_controller = found.controller_id in found.brokers
        for setting, topic in (*inputs.items(), *outputs.items()):
            if topic not in found.topics or found.topics[topic].error is not None:
                raise ConfigurationError(
                    f"{setting}: topic {topic!r} does not exist. Create it (kafka-topics --create --topic {topic}), "
                    "or correct the setting."
                )
        return {topic: len(found.topics[topic].partitions) for topic in inputs.values()}

    def manifest(self, plan: Plan, group: str, shards: int, partitions: Mapping[str, int]) -> StateManifest:
        """What state made by this worker depends on (PROTOCOL 0.1)."""
        ids = self._topic_ids(partitions)
        topics = tuple(
            TopicIdentity(topic, ids.get(topic, ""), count) for topic, count in sorted(partitions.items())
        )
        return StateManifest(plan.fingerprint, STATE_FORMAT, shards, group, self.cluster, topics)

    def _topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        if not self._has_controller:
            return {}
        names = list(topics)
        asked = self._admin.describe_topics(TopicCollection(names), request_timeout=_TIMEOUT)
        out = {}
        for name, answer in asked.items():
            try:
                out[name] = str(answer.result(_TIMEOUT).topic_id)
            except KafkaException as error:
                _log.warning(
                    "no topic id: a recreated topic will not be noticed", error=kafka_error(error).str()
                )
        return out

    def message_room(self, topic: str) -> int:
        """How long a message of a topic may be, after compression."""
        if not self._has_controller:
            return _ROOM
        asked = [ConfigResource(ResourceType.TOPIC, topic)]
        for answer in self._admin.describe_configs(asked, request_timeout=_TIMEOUT).values():
            try:
                return int(answer.result(_TIMEOUT)["max.message.bytes"].value or _ROOM)
            except KafkaException as error:
                _log.warning("room for messages is not known", topic=topic, error=kafka_error(error).str())
        return _ROOM

    def check_retention(self, plan: Plan, topics: Iterable[str]) -> None:
        """PROTOCOL 0.2: refuse compacted inputs; warn where a total loss of Redis could not be rebuilt."""
        if not self._has_controller:
            return
        horizon = max((group.horizon for group in plan.groups), default=0)
        asked = [ConfigResource(ResourceType.TOPIC, topic) for topic in topics]
        for resource, answer in self._admin.describe_configs(asked, request_timeout=_TIMEOUT).items():
            try:
                settings = answer.result(_TIMEOUT)
            except KafkaException as error:
                _log.warning("retention is not known", topic=resource.name, error=kafka_error(error).str())
                continue
            policy = settings["cleanup.policy"].value
            if policy != "delete":
                raise ConfigurationError(
                    f"topic {resource.name!r} has cleanup.policy={policy}: events that state needs would vanish. "
                    "Fix: cleanup.policy=delete."
                )
            kept_us = int(settings["retention.ms"].value or -1) * 1000
            if 0 <= kept_us < horizon:
                _log.warning(
                    "retention is shorter than the longest window: state lost in Redis could not be rebuilt whole",
                    topic=resource.name,
                    retention_hours=kept_us // 3_600_000_000,
                    window_hours=horizon // 3_600_000_000,
                )
