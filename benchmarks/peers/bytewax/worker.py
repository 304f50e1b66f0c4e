"""Bytewax: three keyed branches over the same input, joined by event, scored in batches; at least once.

The branches run side by side, because a keyed step groups what it is given by key: behind a first
one, a second would not see its events in time order. State lives in the steps and goes to the
recovery store (SQLite) every ten seconds. Run by `python -m bytewax.run`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import bytewax.operators as op
import orjson
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.operators import KeyedStream, StatefulBatchLogic, Stream

from benchmarks.job.windows import Ring, card_features, customer_features, merchant_features
from benchmarks.peers.forest import Forest
from benchmarks.peers.settings import alert, read

SETTINGS = read()
FOREST = Forest(SETTINGS.model / "model.onnx")
Event = dict[str, Any]
Features = Callable[[Ring, int, int], list[float]]


class Branch(StatefulBatchLogic[Event, tuple[str, Any], Ring]):  # type: ignore[misc]
    """One entity's ring; turns each event into (event id, features)."""

    features: Features
    whole = False

    def __init__(self, resumed: Ring | None) -> None:
        self.ring = resumed if resumed is not None else Ring()

    def on_batch(self, values: list[Event]) -> tuple[Iterable[tuple[str, Any]], bool]:
        """Read and fold each event."""
        compute = type(self).features
        ring = self.ring
        out: list[tuple[str, Any]] = []
        for event in values:
            row = compute(ring, event["event_time"], event["amount"])
            out.append((event["event_id"], (event, row) if self.whole else row))
        return out, StatefulBatchLogic.RETAIN

    def snapshot(self) -> Ring:
        """A copy: the store pickles it later."""
        return Ring(self.ring.to_bytes())


class CardBranch(Branch):
    """Cards; carries the event itself to the join."""

    features = staticmethod(card_features)
    whole = True


class CustomerBranch(Branch):
    """Customers."""

    features = staticmethod(customer_features)


class MerchantBranch(Branch):
    """Merchants."""

    features = staticmethod(merchant_features)


def decode(messages: list[KafkaSourceMessage[bytes | None, bytes | None]]) -> list[Event]:
    """Events of one batch of messages."""
    return [orjson.loads(message.value) for message in messages if isinstance(message, KafkaSourceMessage)]


def branch(name: str, stream: Stream[Event], logic: type[Branch]) -> KeyedStream[Any]:
    """Key by one entity, compute its features, key by event again."""
    column = f"{name}_id"
    keyed = op.key_on(f"by_{name}", stream, lambda event: event[column])
    rows = op.stateful_batch(name, keyed, logic)
    return op.map(f"{name}_features", rows, lambda pair: pair[1])


def score(joined: list[tuple[str, tuple[Any, ...]]]) -> list[KafkaSinkMessage[bytes, bytes]]:
    """Score a batch of joined events; alerts only."""
    rows = [[e["amount"], *card, *customer, *merchant] for _, ((e, card), customer, merchant) in joined]
    out = []
    for (event_id, ((event, _), _, _)), result in zip(joined, FOREST.scores(rows), strict=True):
        if result >= SETTINGS.threshold:
            card = event["card_id"]
            out.append(KafkaSinkMessage(card.encode(), alert(event_id, card, result)))
    return out


flow = Dataflow("peer")
source = KafkaSource([SETTINGS.bootstrap], [SETTINGS.input_topic], batch_size=1000)
decoded = op.flat_map_batch("decode", op.input("in", flow, source), decode)
parts = [
    branch("card", decoded, CardBranch),
    branch("customer", decoded, CustomerBranch),
    branch("merchant", decoded, MerchantBranch),
]
found = op.flat_map_batch("score", op.join("join", *parts), score)
op.output("out", found, KafkaSink([SETTINGS.bootstrap], SETTINGS.alert_topic))
