"""Quix Streams: one StreamingDataFrame, keyed by card, then by customer, then by merchant.

State is in Quix's own store (RocksDB and changelog topics), kept as bytes; with one input
partition Quix re-keys in place, without a repartition topic.
"""

from __future__ import annotations

from typing import Any

from quixstreams import Application, State

from benchmarks.job.windows import Ring, card_features, customer_features, merchant_features
from benchmarks.peers.forest import Forest
from benchmarks.peers.settings import alert, read

SETTINGS = read()
FOREST = Forest(SETTINGS.model / "model.onnx")
LOW_LATENCY_COMMIT_S = 0.05


def card_step(event: dict[str, Any], state: State) -> dict[str, Any]:
    """The first nine features: amount and the card's."""
    ring = Ring(state.get_bytes("ring"))
    event["row"] = [event["amount"], *card_features(ring, event["event_time"], event["amount"])]
    state.set_bytes("ring", ring.to_bytes())
    return event


def customer_step(event: dict[str, Any], state: State) -> dict[str, Any]:
    """Adds the customer's features."""
    ring = Ring(state.get_bytes("ring"))
    event["row"] += customer_features(ring, event["event_time"], event["amount"])
    state.set_bytes("ring", ring.to_bytes())
    return event


def merchant_step(event: dict[str, Any], state: State) -> dict[str, Any]:
    """Adds the merchant's features."""
    ring = Ring(state.get_bytes("ring"))
    event["row"] += merchant_features(ring, event["event_time"], event["amount"])
    state.set_bytes("ring", ring.to_bytes())
    return event


def score(event: dict[str, Any]) -> dict[str, Any]:
    """The model's score of the 25 features."""
    event["score"] = FOREST.scores([event["row"]])[0]
    return event


def main() -> None:
    """Run until stopped."""
    app = Application(
        broker_address=SETTINGS.bootstrap,
        consumer_group=SETTINGS.group,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once" if SETTINGS.delivery == "exactly_once" else "at-least-once",
        commit_interval=LOW_LATENCY_COMMIT_S if SETTINGS.low_latency else 5.0,
        producer_extra_config={"retry.backoff.ms": 1, "retry.backoff.max.ms": 5},
        state_dir=SETTINGS.state,
        loglevel="WARNING",
    )
    events = app.topic(SETTINGS.input_topic, key_deserializer="str", value_deserializer="json")
    alerts = app.topic(SETTINGS.alert_topic, key_serializer="str", value_serializer="bytes")
    frame = app.dataframe(events).apply(card_step, stateful=True)
    frame = frame.group_by("customer_id").apply(customer_step, stateful=True)
    frame = frame.group_by("merchant_id").apply(merchant_step, stateful=True)
    frame = frame.apply(score)
    frame = frame.filter(lambda event: event["score"] >= SETTINGS.threshold)
    frame = frame.apply(lambda event: (event["card_id"], alert(event["event_id"], event["card_id"], event["score"])))
    frame.apply(lambda pair: pair[1]).to_topic(alerts)
    app.run()


if __name__ == "__main__":
    main()
