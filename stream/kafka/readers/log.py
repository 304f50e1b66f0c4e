"""What the brokers hold of a topic: its partitions, where each log begins and ends, what a group has committed.

Asked with a client that joins no group. Readers of a range (bounded.py) and of what comes (follow.py) begin here.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import TopicMetadata

from features.core.errors import ConfigurationError, FatalError, RetriableError, RiskstreamError
from stream.codecs.messages import PartitionId
from stream.kafka.client import clients
from stream.kafka.client.errors import kafka_error, sort
from stream.settings.tables import Kafka

TIMEOUT_S = 10.0
_PAUSE_S = 0.1
_COMING = frozenset(
    {KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.NOT_COORDINATOR, KafkaError._WAIT_COORD}
)


class TopicLog:
    """Questions about topics; each may block for ten seconds.

    Where brokers do not answer: ConfigurationError, for a command ends then; with `recovering` RetriableError, for a
    worker tries again.
    """

    def __init__(
        self, kafka: Kafka, role: clients.ConsumerRole = "reader", *, recovering: bool = False
    ) -> None:
        self._servers = kafka.bootstrap_servers
        self.recovering = recovering
        self.client = clients.consumer(kafka, role)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the brokers."""
        self.client.close()

    def exists(self, topic: str) -> bool:
        """Whether the brokers know a topic."""
        return self._listed(topic).error is None

    def partitions(self, topic: str, setting: str = "topic") -> list[int]:
        """Numbers of a topic's partitions; ConfigurationError names `setting` where there is no such topic."""
        listed = self._listed(topic)
        if listed.error is not None:
            raise ConfigurationError(
                f"{setting}: topic {topic!r} does not exist ({listed.error.str()}). Fix: create it "
                "(`riskstream doctor --create-topics N`), or correct the setting."
            )
        return sorted(listed.partitions)

    def _listed(self, topic: str) -> TopicMetadata:
        try:
            listed: TopicMetadata = self.client.list_topics(topic, TIMEOUT_S).topics[topic]
        except KafkaException as error:
            raise self.unanswered(error) from error
        return listed

    def bounds(self, partition: PartitionId) -> tuple[int, int]:
        """First offset that the log still holds, and the one after its last."""
        try:
            low, high = self.client.get_watermark_offsets(TopicPartition(*partition), TIMEOUT_S)
        except KafkaException as error:
            raise self.unanswered(error) from error
        return low, high

    def offset_at(self, partition: PartitionId, time_ms: int) -> int | None:
        """The first offset whose message is not older than a Kafka timestamp; None where all are."""
        try:
            (answer,) = self.client.offsets_for_times([TopicPartition(*partition, time_ms)], TIMEOUT_S)
        except KafkaException as error:
            raise self.unanswered(error) from error
        return None if answer.offset < 0 else int(answer.offset)

    def committed(self, partitions: Iterable[PartitionId]) -> dict[PartitionId, int]:
        """What the client's group has committed; without partitions of which it has committed nothing.

        Asks again while the brokers are choosing the group's coordinator.
        """
        asked = [TopicPartition(*partition) for partition in partitions]
        end = time.monotonic() + TIMEOUT_S
        while True:
            try:
                answers = self.client.committed(asked, TIMEOUT_S) if asked else []
                return {
                    (answer.topic, answer.partition): answer.offset
                    for answer in answers
                    if answer.offset >= 0
                }
            except KafkaException as error:
                if kafka_error(error).code() not in _COMING or time.monotonic() > end:
                    raise self.unanswered(error) from error
            time.sleep(_PAUSE_S)

    def unanswered(self, error: KafkaException) -> RiskstreamError:
        """What to raise where the brokers do not answer, or refuse."""
        if self.recovering:
            return sort(error, "asking the brokers")
        reason = kafka_error(error).str()
        return ConfigurationError(
            f"kafka.bootstrap_servers: no answer from {self._servers} ({reason}). Fix: start Kafka, or correct the "
            "setting and kafka.properties (TLS, SASL)."
        )

    def stalled(self, reason: str) -> RiskstreamError:
        """What to raise where an expected message does not come."""
        return RetriableError(reason) if self.recovering else FatalError(reason)
