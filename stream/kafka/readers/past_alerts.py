"""Reads back the newest published alerts, so that a policy remembers what the group has said.

Called when a worker recovers: suppression is then a function of committed alerts, whatever crashed
or moved. Read up to the uncommitted end, waiting for other workers' open transactions, so that none
that will be committed is missed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from features.core.errors import RetriableError
from features.definitions.plan import Plan
from models.decision.decisions import DECISIONS
from models.decision.memory.memory import PastAlert
from stream.codecs.contracts import EventPlace, RankedReason, Times
from stream.kafka.client.errors import sort
from stream.scoring.scorer import Scorer
from stream.settings.config import Config
from stream.settings.tables import Kafka

MOST = 20_000
_PATIENCE = 30.0
_TIMEOUT = 10.0


class _Alert(msgspec.Struct):
    mode: str
    event_id: str
    decision: str
    threshold: float | None
    entity_keys: dict[str, str | None]
    rules: tuple[str, ...]
    reasons: tuple[RankedReason, ...]
    source: EventPlace
    times: Times


def recall(config: Config, plan: Plan, scorer: Scorer) -> None:
    """Let the policy remember what the group has published, and nothing else."""
    policy = scorer.policy
    if policy.remembers:
        sources = {source.topic: name for name, source in plan.sources.items()}
        policy.recall(past_alerts(config.kafka, config.topics.alerts, sources))


def past_alerts(kafka: Kafka, topic: str, sources: Mapping[str, str], most: int = MOST) -> list[PastAlert]:
    """About the last `most` records, oldest first; `sources` gives a source's name by topic.

    Each partition gives its share: reading 20,000 takes about a second.
    """
    common: dict[str, Any] = {
        **kafka.client_properties(), **kafka.consumer, "group.id": "riskstream-past-alerts",
        "enable.auto.commit": False, "enable.partition.eof": True, "auto.offset.reset": "earliest", "log_level": 3,
    }  # fmt: skip
    try:
        ends = _ends({**common, "isolation.level": "read_uncommitted"}, topic)
        reader = Consumer({**common, "isolation.level": "read_committed"})
        try:
            found = _read(reader, topic, ends, most)
        finally:
            reader.close()
    except KafkaException as error:
        raise sort(error, f"reading {topic}") from error
    alerts = [_past(alert, sources) for alert in found if alert.source.topic in sources]
    return sorted(alerts, key=lambda alert: alert.time)


def past_alert(value: bytes, sources: Mapping[str, str]) -> PastAlert:
    """What a policy remembers of one published alert."""
    return _past(msgspec.json.decode(value, type=_Alert), sources)


def _ends(properties: dict[str, Any], topic: str) -> dict[int, tuple[int, int]]:
    probe = Consumer(properties)
    try:
        partitions = probe.list_topics(topic, _TIMEOUT).topics[topic].partitions
        return {p: probe.get_watermark_offsets(TopicPartition(topic, p), _TIMEOUT) for p in partitions}
    finally:
        probe.close()


def _read(reader: Consumer, topic: str, ends: Mapping[int, tuple[int, int]], most: int) -> list[_Alert]:
    waiting = {p: high for p, (low, high) in ends.items() if high > low}
    share = most // max(len(waiting), 1) + 1
    starts = [TopicPartition(topic, p, max(ends[p][0], ends[p][1] - share)) for p in waiting]
    reader.assign(starts)
    decoder = msgspec.json.Decoder(_Alert)
    found: list[_Alert] = []
    patience = time.monotonic() + _PATIENCE
    while waiting:
        if time.monotonic() > patience:
            raise RetriableError(f"past alerts of {topic} could not be read within {_PATIENCE:g} s")
        for message in reader.consume(5000, 0.05):
            error, value, partition, offset = message.error(), message.value(), *_place(message)
            if error is None and value is not None:
                found.append(decoder.decode(value))
            # Either is as far; where others publish on, the end itself may never be met.
            far = error is None or error.code() == KafkaError._PARTITION_EOF
            if far and offset >= waiting.get(partition, offset + 1):
                del waiting[partition]
    return [alert for alert in found if alert.mode == "live"]


def _place(message: Message) -> tuple[int, int]:
    partition, offset = message.partition(), message.offset()
    return -1 if partition is None else partition, -1 if offset is None else offset


def _past(alert: _Alert, sources: Mapping[str, str]) -> PastAlert:
    return PastAlert(
        source=sources[alert.source.topic],
        event_id=alert.event_id,
        time=alert.times.event,
        decision=DECISIONS.index(alert.decision),
        threshold=alert.threshold,
        partition=alert.source.partition,
        entity_keys=alert.entity_keys,
        by_rule=any(reason.code in alert.rules for reason in alert.reasons),
    )
