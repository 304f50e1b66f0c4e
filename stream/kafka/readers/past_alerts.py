"""Reads back the newest published alerts, so that a policy remembers what the group has said.

Called when a worker recovers: suppression is then a function of committed alerts, whatever crashed
or moved. Read up to the uncommitted end, waiting for other workers' open transactions, so that none
that will be committed is missed.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from features.definitions.plan import Plan
from models.decision.decisions import DECISIONS
from models.decision.memory.memory import PastAlert
from stream.codecs.contracts import EventPlace, RankedReason, Times
from stream.kafka.readers.bounded import BoundedReader
from stream.kafka.readers.log import TopicLog
from stream.scoring.scorer import Scorer
from stream.settings.config import Config
from stream.settings.tables import Kafka

MOST = 20_000


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

    Each partition gives its share: reading 20,000 takes about a second. RetriableError while brokers do not answer.
    """
    with TopicLog(kafka, "open_end", recovering=True) as ends:
        bounds = {(topic, number): ends.bounds((topic, number)) for number in ends.partitions(topic)}
    share = most // max(sum(high > low for low, high in bounds.values()), 1) + 1
    ranges = {partition: (max(low, high - share), high) for partition, (low, high) in bounds.items()}
    decoder = msgspec.json.Decoder(_Alert)
    alerts: list[PastAlert] = []
    with TopicLog(kafka, recovering=True) as log:
        for messages in BoundedReader(log, ranges).all(most=5000, wait_s=0.05):
            records = [
                decoder.decode(value) for message in messages if (value := message.value()) is not None
            ]
            alerts += [
                _past(alert, sources)
                for alert in records
                if alert.mode == "live" and alert.source.topic in sources
            ]
    return sorted(alerts, key=lambda alert: alert.time)


def past_alert(value: bytes, sources: Mapping[str, str]) -> PastAlert:
    """What a policy remembers of one published alert."""
    return _past(msgspec.json.decode(value, type=_Alert), sources)


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
