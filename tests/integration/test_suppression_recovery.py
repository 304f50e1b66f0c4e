"""Suppression after a crash: what the group has published is remembered, so no card alerts twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Consumer, Producer

from features.core.errors import RetriableError
from models.decision.policy import load_policy
from stream.codecs.contracts import Alert
from stream.kafka.readers.past_alerts import past_alerts
from stream.settings.tables import Kafka
from tests.integration.test_hot_swap import Run
from tests.models import small
from tests.servers.process import wait_until

POLICY = '[sources.tx]\nreview = 0.5\n[sources.tx.suppress]\nentity = "card"\nperiod = "1d"\n'
CARDS = 40


def produce(kafka: str, topic: str, first: int, count: int) -> None:
    producer = Producer({"bootstrap.servers": kafka, "log_level": 2})
    for number in range(first, first + count):
        event = {
            "id": f"e{number}",
            "at": 1_700_000_000_000 + number,
            "card": f"c{number % CARDS}",
            "amount": 90.0,
        }
        producer.produce(topic, msgspec.json.encode(event), str(event["card"]).encode())
    producer.flush()


def read(kafka: str, topic: str) -> list[Alert]:
    consumer = Consumer({
        "bootstrap.servers": kafka, "group.id": f"{topic}-check", "auto.offset.reset": "earliest",
        "isolation.level": "read_committed", "enable.partition.eof": True, "log_level": 2,
    })  # fmt: skip
    consumer.subscribe([topic])
    found: list[Alert] = []
    while True:
        message = consumer.poll(10)
        assert message is not None, "the topic has an end"
        if message.error() is not None:
            consumer.close()
            return found
        found.append(msgspec.json.decode(message.value() or b"", type=Alert))


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_a_killed_worker_remembers_which_cards_alerted(
    delivery: str, kafka: str, redis_url: str, tmp_path: Path, make_topic: Callable[..., str]
) -> None:
    run = Run(kafka, redis_url, tmp_path, make_topic)
    (tmp_path / "policy.toml").write_text(POLICY)
    config = run.project.config
    config.write_text(config.read_text() + f'delivery = "{delivery}"\n')
    topic = run.feeder._topic
    run.launch()
    run.reader.start()
    produce(kafka, topic, 0, 200)
    run.wait_for(lambda: len(run.reader.decisions) >= 200, "the first decisions")
    assert run.worker is not None
    run.worker.kill()
    run.worker.wait(30)
    produce(kafka, topic, 200, 200)
    run.launch()
    run.wait_for(
        lambda: len({one.event_id for one in run.reader.decisions}) == 400, "decisions after the crash"
    )
    run.stop()
    run.reader.done.set()
    alerts = read(kafka, f"{topic}-alerts")
    ids = {alert.event_id for alert in alerts}
    assert len(ids) == CARDS
    assert {alert.entity_keys["card"] for alert in alerts} == {f"c{number}" for number in range(CARDS)}
    suppressed = {one.event_id for one in run.reader.decisions if one.suppressed}
    assert suppressed == {f"e{number}" for number in range(400)} - ids
    found = past_alerts(Kafka(bootstrap_servers=kafka), f"{topic}-alerts", {topic: "tx"})
    assert {alert.event_id for alert in found} == ids


def test_no_alerts_yet(kafka: str, make_topic: Callable[..., str], tmp_path: Path) -> None:
    topic = make_topic(partitions=3)

    def nothing() -> bool:
        try:
            return past_alerts(Kafka(bootstrap_servers=kafka), topic, {}) == []
        except RetriableError:  # the new topic's partitions have no leader yet
            return False

    wait_until(nothing, 30, "an empty topic")
    (tmp_path / "policy.toml").write_text("[sources.payments]\nreview = 0.5\n")
    assert not load_policy(tmp_path / "policy.toml", small.plan()).remembers
