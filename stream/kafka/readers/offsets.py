"""What the brokers know of the group's input: committed offsets and the range of the log. For tools, not workers."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from confluent_kafka import Consumer, KafkaException, TopicPartition

from features.core.errors import ConfigurationError
from features.definitions.plan import Plan
from features.store.base import Partition
from stream.kafka.client.errors import kafka_error, sort
from stream.settings.config import Config

_TIMEOUT = 10.0


class GroupOffsets:
    """Asks without joining the group."""

    def __init__(self, config: Config, plan: Plan) -> None:
        self._client = Consumer(
            {
                "log_level": 0,
                **config.kafka.client_properties(),
                **config.kafka.consumer,
                "group.id": config.kafka.group_id,
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
            }
        )
        self._sources = {source.topic: name for name, source in plan.sources.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def _places(self) -> list[TopicPartition]:
        out = []
        try:
            found = self._client.list_topics(timeout=_TIMEOUT).topics
        except KafkaException as error:
            raise ConfigurationError(
                f"kafka.bootstrap_servers: no broker answers: {kafka_error(error).str()}"
            ) from error
        for topic in self._sources:
            if topic in found:
                out += [TopicPartition(topic, number) for number in found[topic].partitions]
        return out

    def committed(self) -> dict[Partition, int]:
        """Committed offset of each partition of the inputs; 0 where there is none."""
        try:
            found = self._client.committed(self._places(), _TIMEOUT)
        except KafkaException as error:
            raise sort(error, "asking for committed offsets") from error
        return {Partition(self._sources[one.topic], one.partition): max(0, one.offset) for one in found}

    def log_starts(self) -> dict[Partition, int]:
        """First offset that each partition's log still holds."""
        out = {}
        for one in self._places():
            low, _ = self._client.get_watermark_offsets(one, _TIMEOUT)
            out[Partition(self._sources[one.topic], one.partition)] = low
        return out
