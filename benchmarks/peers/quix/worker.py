"""Quix Streams: one application, two data frames: by card and by customer, then by merchant.

State is in Quix's own store (RocksDB and changelog topics), kept as bytes. With one input partition
`group_by` re-keys in place; Quix allows it once a data frame, so a topic leads to the third key.
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


def slim(event: dict[str, Any]) -> dict[str, Any]:
    """What the second half needs, so that the topic between the halves stays small."""
    return {
        name: event[name] for name in ("event_id", "event_time", "card_id", "merchant_id", "amount", "row")
    }


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
    middle = app.topic(f"{SETTINGS.input_topic}-by-merchant", key_serializer="str", key_deserializer="str")
    alerts = app.topic(SETTINGS.alert_topic, key_serializer="str", value_serializer="bytes")
    first = app.dataframe(events).apply(card_step, stateful=True)
    first = first.group_by("customer_id").apply(customer_step, stateful=True)
    first.apply(slim).to_topic(middle, key=lambda event: event["merchant_id"])
    second = app.dataframe(middle).apply(merchant_step, stateful=True).apply(score)
    second = second.filter(lambda event: event["score"] >= SETTINGS.threshold)
    second = second.apply(lambda event: alert(event["event_id"], event["card_id"], event["score"]))
    second.to_topic(alerts)
    app.run()


if __name__ == "__main__":
    main()
