"""The least that a worker on this machine could need: consumes, looks the known score up, produces the alert.

No state, no features, no model. Its latency is that of broker, clients, generator and reader; what a worker
has above it is the worker's own. Client settings are riskstream's.
"""

from __future__ import annotations

import sys

import numpy as np
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from benchmarks.harness.contender import Contender
from benchmarks.harness.report import versions
from benchmarks.peers.settings import Settings, alert, read
from stream.kafka.client import clients
from stream.settings.tables import Kafka

_BLOCK = 4_000
_ID = slice(len(b'{"event_id":"'), len(b'{"event_id":"tx-000000000'))


def _contender(delivery: str) -> Contender:
    return Contender(
        name=f"floor {delivery}",
        delivery=delivery,
        warm=60_000,
        events=300_000,
        command=lambda _: [sys.executable, "-m", "benchmarks.harness.floor"],
        versions=versions,
    )


FLOOR: tuple[Contender, ...] = (_contender("exactly_once"), _contender("at_least_once"))


class Floor:
    """One block at a time: consume, produce, commit."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._scores = np.load(settings.model / "scores.npz")["scores"]
        self._exact = settings.delivery == "exactly_once"
        kafka = Kafka(bootstrap_servers=settings.bootstrap, group_id=settings.group)
        self._consumer = Consumer(
            {**clients.consumer_settings(kafka, "group"), "auto.offset.reset": "earliest"}
        )
        name = f"floor-{settings.group}" if self._exact else None
        self._producer = Producer(clients.producer_settings(kafka, "worker", name))

    def run(self) -> None:
        """Work until killed."""
        if self._exact:
            self._producer.init_transactions(30)
        self._consumer.subscribe([self._settings.input_topic])
        while True:
            messages = self._consumer.consume(1, 0.05)
            messages += self._consumer.consume(_BLOCK, 0)
            good = [message for message in messages if message.error() is None]
            if good:
                self._block(good)

    def _block(self, messages: list[Message]) -> None:
        reached = [TopicPartition(self._settings.input_topic, 0, (messages[-1].offset() or 0) + 1)]
        if self._exact:
            self._producer.begin_transaction()
            metadata = self._consumer.consumer_group_metadata()
            self._producer.send_offsets_to_transaction(reached, metadata, 10)
        for message in messages:
            self._alert(message)
        self._producer.flush(10)
        if self._exact:
            self._producer.commit_transaction(10)
        else:
            self._consumer.commit(offsets=reached, asynchronous=True)

    def _alert(self, message: Message) -> None:
        name = (message.value() or b"")[_ID].decode()
        score = float(self._scores[int(name[3:])])
        if score >= self._settings.threshold:
            value = alert(name, (message.key() or b"").decode(), score)
            self._producer.produce(self._settings.alert_topic, value, message.key())


if __name__ == "__main__":
    Floor(read()).run()
