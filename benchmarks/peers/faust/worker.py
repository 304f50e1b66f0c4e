"""Faust: one agent and three tables (in memory, with changelog topics); at least once.

The topics have one partition, so that one agent may use the three tables without re-keying the stream.
Table values are bytes; events arrive and alerts leave as raw bytes, decoded by orjson.
"""

from __future__ import annotations

from typing import Any

import faust
import orjson

from benchmarks.job.windows import Ring, card_features, customer_features, merchant_features
from benchmarks.peers.forest import Forest
from benchmarks.peers.settings import alert, read

SETTINGS = read()
FOREST = Forest(SETTINGS.model / "model.onnx")
app = faust.App(
    SETTINGS.group,
    broker=f"kafka://{SETTINGS.bootstrap}",
    store="memory://",
    topic_partitions=1,
    topic_replication_factor=1,
    topic_disable_leader=True,
    consumer_auto_offset_reset="earliest",
    stream_wait_empty=False,
    web_enabled=False,
    datadir=str(SETTINGS.state),
)
events = app.topic(SETTINGS.input_topic, value_serializer="raw", value_type=bytes)
alerts = app.topic(SETTINGS.alert_topic, value_serializer="raw", value_type=bytes, key_serializer="raw")


def _table(name: str) -> Any:
    return app.Table(name, default=bytes, partitions=1, key_type=bytes, value_type=bytes)


cards, customers, merchants = _table("cards"), _table("customers"), _table("merchants")


@app.agent(events)
async def score(stream: Any) -> None:
    """One event: three tables, the model, perhaps an alert."""
    async for value in stream:
        event = orjson.loads(value)
        time, amount = event["event_time"], event["amount"]
        row = [amount]
        for table, key, read_windows in (
            (cards, "card_id", card_features),
            (customers, "customer_id", customer_features),
            (merchants, "merchant_id", merchant_features),
        ):
            name = event[key].encode()
            ring = Ring(table[name])
            row += read_windows(ring, time, amount)
            table[name] = ring.to_bytes()
        result = FOREST.scores([row])[0]
        if result >= SETTINGS.threshold:
            card = event["card_id"]
            await alerts.send(key=card.encode(), value=alert(event["event_id"], card, result))


if __name__ == "__main__":
    app.main()
