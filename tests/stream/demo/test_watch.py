"""The demo's figures are counted from messages on real topics, whatever their order."""

from __future__ import annotations

import json
import time

import pytest
from confluent_kafka import Producer

from stream.demo.bank.simulator import BROKEN, TRUTH_HEADER, Simulator
from stream.demo.run import ALL_TOPICS
from stream.demo.screen.figures import figures
from stream.demo.screen.watch import ALERTS, DEAD_LETTERS, DECISIONS, Watch
from tests.servers.process import wait_until


@pytest.fixture
def watch(kafka, kafka_server):
    known = kafka_server.admin().list_topics(timeout=10).topics
    for topic in set(ALL_TOPICS) - set(known):
        kafka_server.make_topic(topic, partitions=2)
    watch = Watch(kafka)
    watch.begin()
    yield watch
    watch.finish()


class Bank:
    """Sends events, decisions and dead letters as simulator and worker do."""

    def __init__(self, bootstrap: str) -> None:
        self.producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})

    def send(self, topic: str, value: bytes, headers: dict[str, str]) -> tuple[int, int]:
        placed: list[tuple[int, int]] = []
        self.producer.produce(
            topic,
            value,
            headers=list(headers.items()),
            on_delivery=lambda error, message: placed.append(
                (message.partition() or 0, message.offset() or 0)
            ),
        )
        assert self.producer.flush(30) == 0
        return placed[0]

    def event(self, truth: str, topic: str = "transactions") -> tuple[str, int, int]:
        return (topic, *self.send(topic, b"{}", {TRUTH_HEADER: truth}))

    def decide(self, place: tuple[str, int, int], alert: bool) -> None:
        topic, partition, offset = place
        value = {
            "event_id": f"e{offset}",
            "event_time": "2026-01-05T10:00:00.000000Z",
            "entity_keys": {"card": "c"},
            "decision": "decline" if alert else "approve",
            "score": 0.5,
            "severity": "none",
            "alert": alert,
            "exposure": 10.0,
            "reasons": [],
            "source": {"topic": topic, "partition": partition, "offset": offset},
            "times": {"received": int(time.time() * 1e6)},
        }
        if alert:
            self.send(ALERTS, json.dumps(value).encode(), {})
        self.send(DECISIONS, json.dumps(value).encode(), {})

    def bury(self, place: tuple[str, int, int]) -> None:
        topic, partition, offset = place
        headers = {"topic": topic, "partition": str(partition), "offset": str(offset)}
        self.send(DEAD_LETTERS, b"?", {f"riskstream-{name}": value for name, value in headers.items()})


def test_counts_precision_and_recall(kafka, watch):
    bank = Bank(kafka)
    for truth, alert in (("", False), ("", True), ("stolen_card", True), ("stolen_card", False), ("", False)):
        bank.decide(bank.event(truth), alert)
    bank.decide(bank.event("default", "loan-applications"), True)
    bank.bury(bank.event(BROKEN.decode()))
    wait_until(lambda: watch.scored == 6 and watch.dead_lettered == 1, 30, "all events to be settled")
    seen = figures(watch)
    assert (seen["produced"], seen["scored"], seen["dead_lettered"], seen["alerts"]) == (7, 6, 1, 3)
    assert (seen["precision"], seen["recall"]) == (0.5, 0.5)
    assert seen["fraud"]["found_by_kind"] == {"stolen_card": "1 of 2"}
    assert seen["loans"]["precision"] == 1.0
    assert seen["latency_ms"]["p99"] >= seen["latency_ms"]["p50"] > 0


def test_an_event_without_a_decision_stays_unsettled(kafka, watch):
    bank = Bank(kafka)
    bank.event("")
    bank.decide(bank.event(""), False)
    wait_until(lambda: watch.produced == 2 and watch.scored == 1, 30, "one of two events to be settled")
    assert watch.unsettled == 1


def test_a_repeated_decision_is_counted_once(kafka, watch):
    bank = Bank(kafka)
    place = bank.event("")
    for _ in range(3):
        bank.decide(place, False)
    bank.decide(bank.event(""), False)
    wait_until(lambda: watch.scored == 2, 30, "both events to be settled")
    assert watch.unsettled == 0


def test_the_simulator_sends_what_it_says(kafka, watch):
    simulator = Simulator(kafka, seed=7, warm_up_days=0)
    first = simulator.warm_up()
    simulator.run(first, rate=2000, seconds=0.5)
    sent = simulator.acknowledged["transactions"] + simulator.acknowledged["loan-applications"]
    assert sent > 200
    wait_until(lambda: watch.produced == sent, 30, "all events to be read")
