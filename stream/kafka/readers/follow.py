"""Follows topics: from an offset on, all that comes, until stopped. Outside any group; commits nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from stream.codecs.messages import PartitionId
from stream.kafka.client.errors import sort
from stream.kafka.readers.log import TopicLog
from stream.telemetry.logs import logger

_log = logger("reader")


class FollowingReader:
    """Committed messages of some partitions, each from its start on. The log is the caller's; it closes it."""

    def __init__(self, log: TopicLog, starts: Mapping[PartitionId, int]) -> None:
        self._client = log.client
        self._client.assign([TopicPartition(*partition, start) for partition, start in starts.items()])

    def read(self, most: int = 1000, wait_s: float = 0.5) -> list[Any]:
        """The next messages; empty where none came within `wait_s`.

        What the brokers report of passing troubles is logged; an error is raised only where the client is at its end.
        """
        try:
            messages = self._client.consume(most, wait_s)
        except KafkaException as error:
            raise sort(error, "reading") from error
        for message in messages:
            report = message.error()
            if report is None or report.code() == KafkaError._PARTITION_EOF:
                continue
            if report.fatal():
                raise sort(report, "reading")
            _log.warning("kafka", error=report.str())
        return [message for message in messages if message.error() is None]
