"""A plain loop: confluent-kafka, redis-py and scikit-learn or ONNX Runtime; at least once.

Written as one would write it with care: messages fetched in blocks, one or two Redis round trips an event
for its three entities (one pipeline of nine commands, or packed bytes; hiredis parser), the model
asked once an event, offsets committed every 500 events after the producer is flushed.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson
from confluent_kafka import Consumer, Producer

from benchmarks.job.windows import card_features, customer_features, merchant_features
from benchmarks.peers.plain.state import PackedStrings, SortedSets, State
from benchmarks.peers.settings import Settings, alert, read

BLOCK = 500
Score = Callable[[list[float]], float]


def _sklearn_score(settings: Settings) -> Score:
    import numpy as np
    import skops.io

    model = skops.io.load(settings.model / "model.skops", trusted=["sklearn.tree._tree.Tree"])
    model.n_jobs = 1

    def score(row: list[float]) -> float:
        return float(model.predict_proba(np.array([row], dtype=np.float32))[0, 1])

    return score


def _onnx_score(settings: Settings) -> Score:
    from benchmarks.peers.forest import Forest

    forest = Forest(settings.model / "model.onnx")
    return lambda row: forest.scores([row])[0]


class Worker:
    """State in Redis, read and written with every event."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        packed = settings.runtime == "onnx packed"
        self.state: State = PackedStrings(settings.redis_url) if packed else SortedSets(settings.redis_url)
        self.score = _sklearn_score(settings) if settings.runtime == "sklearn" else _onnx_score(settings)
        self.producer = Producer({"bootstrap.servers": settings.bootstrap, "linger.ms": 5})

    def handle(self, value: bytes) -> None:
        """One event: read, compute, write back, score, alert."""
        event = orjson.loads(value)
        time, amount, card = event["event_time"], event["amount"], event["card_id"]
        keys = [card, event["customer_id"], event["merchant_id"]]
        rings = self.state.rings(keys, event["event_id"], time, amount)
        row = [amount]
        row += card_features(rings[0], time, amount)
        row += customer_features(rings[1], time, amount)
        row += merchant_features(rings[2], time, amount)
        self.state.store(keys, rings)
        score = self.score(row)
        if score >= self.settings.threshold:
            value = alert(event["event_id"], card, score)
            self.producer.produce(self.settings.alert_topic, key=card.encode(), value=value)

    def run(self) -> None:
        """Consume until the process is stopped."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.settings.bootstrap,
                "group.id": self.settings.group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
            }
        )
        consumer.subscribe([self.settings.input_topic])
        while True:
            messages = consumer.consume(BLOCK, timeout=0.005)
            for message in messages:
                if message.error() is None:
                    self.handle(message.value() or b"")
            if messages:
                self.producer.flush()
                consumer.commit(asynchronous=False)


if __name__ == "__main__":
    Worker(read()).run()
