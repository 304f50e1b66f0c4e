"""A backtest beside a live worker on the same Kafka and Redis changes no key, offset, topic or group of it."""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import polars as pl
import pytest
import redis
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from stream.replay.backtest.backtest import backtest
from stream.replay.backtest.request import BacktestRequest
from tests.servers.process import wait_until

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/handbook"
START = 1_772_323_200
PARTITIONS = 3
EVENTS = 3_000
INPUTS = {"transactions": "CUSTOMER_ID", "labels": "TERMINAL_ID"}


@pytest.fixture
def project(
    tmp_path: Path, kafka: str, redis_url: str, make_topic: Callable[..., str]
) -> Iterator[dict[str, str]]:
    """The handbook's project on topics of its own, and a worker that runs it."""
    name = f"beside{secrets.token_hex(4)}"
    outputs = ("alerts", "decisions", "dead_letters", "journal")
    topics = {one: make_topic(f"{name}-{one}", partitions=PARTITIONS) for one in (*INPUTS, *outputs)}
    text = (EXAMPLE / "definitions.py").read_text()
    for source in INPUTS:
        text = text.replace(f'"handbook-{source}"', f'"{topics[source]}"')
    (tmp_path / "definitions.py").write_text(text)
    (tmp_path / "policy.toml").write_text((EXAMPLE / "policy.toml").read_text().replace("220", "150"))
    (tmp_path / "stricter.toml").write_text((EXAMPLE / "policy.toml").read_text().replace("220", "100"))
    named = "\n".join(f'{one} = "{topics[one]}"' for one in outputs)
    (tmp_path / "riskstream.toml").write_text(
        f'[project]\nname = "{name}"\n\n[kafka]\nbootstrap_servers = "{kafka}"\n\n'
        f'[redis]\nurl = "{redis_url}"\n\n[topics]\n{named}\n\n[worker]\nflush_interval_ms = 100\n'
    )
    command = [sys.executable, "-m", "riskstream", "worker", "--config"]
    with subprocess.Popen([*command, str(tmp_path / "riskstream.toml")], cwd=ROOT) as worker:
        try:
            yield topics | {"name": name, "kafka": kafka, "redis": redis_url}
        finally:
            worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0


def produce(project: dict[str, str], rows: range) -> None:
    producer = Producer({"bootstrap.servers": project["kafka"], "linger.ms": 20})
    for row in rows:
        event = {
            "TRANSACTION_ID": row, "TX_DATETIME": _iso(START + row * 60), "CUSTOMER_ID": row * 7 % 60,
            "TERMINAL_ID": row * 11 % 90, "TX_AMOUNT": row * 37 % 200 + 0.5,
        }  # fmt: skip
        late = {
            "LABEL_ID": row,
            "KNOWN_DATETIME": _iso(START + row * 60 + 86_400),
            "TX_FRAUD": int(row % 23 == 0),
        }
        for source, value in (("transactions", event), ("labels", event | late)):
            producer.produce(project[source], msgspec.json.encode(value), str(value[INPUTS[source]]))
    assert producer.flush(60) == 0


def _iso(seconds: int) -> str:
    return str(pl.from_epoch(pl.Series([seconds])).dt.strftime("%Y-%m-%dT%H:%M:%SZ").item())


class Live:
    """All that a worker leaves: Redis keys, committed offsets, what is in topics, consumer groups."""

    def __init__(self, project: dict[str, str]) -> None:
        self._project = project
        self._admin = AdminClient({"bootstrap.servers": project["kafka"]})
        settings = {"bootstrap.servers": project["kafka"], "group.id": "reader", "enable.auto.commit": False}
        self._consumer = Consumer(
            settings | {"auto.offset.reset": "earliest", "isolation.level": "read_committed"}
        )

    def state(self) -> dict[str, object]:
        with redis.Redis.from_url(self._project["redis"]) as client:
            keys = sorted(client.scan_iter())
            held = {
                key: client.hgetall(key) if client.type(key) == b"hash" else client.dump(key) for key in keys
            }
        stored = {key: _lasting(value) for key, value in held.items()}
        return {"topics": self._ends(), "groups": self._groups(), "offsets": self.offsets(), "redis": stored}

    def stored(self) -> bool:
        """Whether each shard's marks stand at the committed offsets."""
        offsets = {f"{self._source(topic)}/{number}": at for (topic, number), at in self.offsets().items()}
        with redis.Redis.from_url(self._project["redis"]) as client:
            marks = [_lasting(client.hgetall(key)) for key in client.scan_iter("rs:*:m")]
        expected = {place.encode(): str(at).encode() for place, at in offsets.items()}
        return len(offsets) == 2 * PARTITIONS and len(marks) > 0 and all(one == expected for one in marks)

    def _source(self, topic: str) -> str:
        return next(source for source in INPUTS if self._project[source] == topic)

    def offsets(self) -> dict[tuple[str, int], int]:
        asked = ConsumerGroupTopicPartitions(self._project["name"])
        found = next(iter(self._admin.list_consumer_group_offsets([asked]).values())).result()
        return {(one.topic, one.partition): one.offset for one in found.topic_partitions or ()}

    def read(self, topic: str, count: int) -> list[tuple[bytes, bytes]]:
        places = [TopicPartition(self._project[topic], number, 0) for number in range(PARTITIONS)]
        self._consumer.assign(places)
        found: list[tuple[bytes, bytes]] = []

        def read() -> bool:
            for message in self._consumer.consume(1_000, 0.2):
                assert message.error() is None
                found.append((message.key() or b"", message.value() or b""))
            return len(found) >= count

        wait_until(read, 60, f"{count} records in {topic}")
        self._consumer.unassign()
        return sorted(found)

    def _ends(self) -> dict[str, list[int]]:
        listed = self._admin.list_topics(timeout=10).topics
        return {
            topic: [
                self._consumer.get_watermark_offsets(TopicPartition(topic, number), 10)[1]
                for number in sorted(listed[topic].partitions)
            ]
            for topic in sorted(listed)
            if topic.startswith(self._project["name"]) or "replay" in topic or "backtest" in topic
        }

    def _groups(self) -> list[tuple[str, str]]:
        listed = self._admin.list_consumer_groups().result()
        return sorted((one.group_id, str(one.state)) for one in listed.valid)


def settled(live: Live, events: int) -> dict[str, object]:
    """The state once the worker has committed and stored all events."""
    assert len(live.read("decisions", events)) == events
    wait_until(live.stored, 60, "the worker to rest")
    return live.state()


def _lasting(value: object) -> object:
    """A hash without the times at which a worker looked last: it goes on looking while it has nothing to do."""
    if isinstance(value, dict):
        return {name: data for name, data in value.items() if not name.endswith(b":t")}
    return value


def test_nothing_live_changes(project: dict[str, str], tmp_path: Path) -> None:
    live = Live(project)
    produce(project, range(EVENTS))
    before = settled(live, EVENTS)
    alerts, decisions = live.read("alerts", 1), live.read("decisions", EVENTS)
    assert before["redis"] and alerts
    inputs = [f"kafka:{project[source]}" for source in INPUTS]
    asked = BacktestRequest(
        config=tmp_path / "riskstream.toml", inputs=inputs, policy=tmp_path / "stricter.toml", against="live",
        work=tmp_path / "work", decisions=tmp_path / "decisions", with_features=True, processes=2,
    )  # fmt: skip
    found = backtest(asked).figures[0]
    assert found.b is not None and found.a.outcome.alerts > found.b.outcome.alerts > 100
    assert live.state() == before
    assert (live.read("alerts", len(alerts)), live.read("decisions", EVENTS)) == (alerts, decisions)
    produce(project, range(EVENTS, EVENTS + 500))
    after = settled(live, EVENTS + 500)
    assert after != before
