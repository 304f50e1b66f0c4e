"""A sample of the handbook by HTTP and by Kafka: asked at the same state, the whole decision is the same.

The sample is cut into rounds in which no two transactions or labels share a customer or terminal: so the state before a
round is the state before each of its events. Every transaction is asked over HTTP when Redis holds all earlier
rounds, then the round is produced and scored by the worker.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from skl2onnx import to_onnx
from sklearn.ensemble import RandomForestClassifier

from features.definitions.project import load_definitions
from features.engine.hashing import hash_strings, shard_of
from features.offline.materialize import materialize
from features.store.base import Partition, Store
from models.bundles import bundle
from models.bundles.bundle import Contents
from models.bundles.registry import Registry
from models.core.manifest import Manifest
from stream.codecs.contracts import Decision, Times
from stream.project import build
from stream.service.client import AsyncClient
from stream.service.serving import make_app
from stream.settings.config import Config, load
from stream.settings.service import ApiSettings
from tests.servers.process import wait_until
from tests.stream.service.service_under_test import serving

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data" / "handbook_transactions.parquet"
CUSTOMERS = 40
ROWS = 1_200
PARTITIONS = 2
Event = dict[str, Any]


@pytest.fixture(scope="module")
def sample() -> pl.DataFrame:
    """All transactions of forty customers until there are enough: 18 days, so that labels become known."""
    if not DATA.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{DATA} is missing")
        pytest.skip(f"{DATA} is not here")
    frame = pl.read_parquet(DATA).with_columns(pl.col("TX_DATETIME").cast(pl.Datetime("us")))
    return frame.filter(pl.col("CUSTOMER_ID") < CUSTOMERS).head(ROWS)


def labels_of(transactions: pl.DataFrame) -> pl.DataFrame:
    """Every label at its transaction's time plus seven days."""
    return transactions.select(
        pl.col("TRANSACTION_ID").alias("LABEL_ID"),
        (pl.col("TX_DATETIME") + pl.duration(days=7)).alias("KNOWN_DATETIME"),
        "TRANSACTION_ID",
        "TX_DATETIME",
        "TERMINAL_ID",
        "TX_FRAUD",
    )


def in_order(transactions: pl.DataFrame) -> list[tuple[str, Event]]:
    """(source, event) of both topics by time, labels first, up to the last transaction."""
    labels = labels_of(transactions)
    found: list[tuple[Any, int, str, Event]] = []
    sent = transactions.drop("TX_FRAUD", "TX_FRAUD_SCENARIO")
    for rank, source, frame, time in (
        (0, "labels", labels, "KNOWN_DATETIME"),
        (1, "transactions", sent, "TX_DATETIME"),
    ):
        found += [(row[time], rank, source, row) for row in frame.iter_rows(named=True)]
    found = [one for one in found if one[0] <= transactions["TX_DATETIME"][-1]]
    found.sort(key=lambda one: (one[0], one[1], one[3]["TRANSACTION_ID"]))
    return [(source, {name: _plain(value) for name, value in row.items()}) for _, _, source, row in found]


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float) else value.strftime("%Y-%m-%dT%H:%M:%SZ")


def rounds(events: list[tuple[str, Event]]) -> Iterator[list[tuple[str, Event]]]:
    """Cuts in which no entity occurs twice."""
    gathered: list[tuple[str, Event]] = []
    seen: set[str] = set()
    for source, event in events:
        keys = {name for name, _, _ in touched(source, event)}
        if seen & keys:
            yield gathered
            gathered, seen = [], set()
        gathered.append((source, event))
        seen |= keys
    yield gathered


def touched(source: str, event: Event) -> list[tuple[str, str, str]]:
    """(entity and key, key, source) of the state that an event is folded into."""
    names = ["terminal"] if source == "labels" else ["customer", "terminal"]
    return [
        (f"{name}:{event[name.upper() + '_ID']}", str(event[f"{name.upper()}_ID"]), source) for name in names
    ]


def make_model(folder: Path, sample: pl.DataFrame, fingerprint: str, names: list[str]) -> float:
    """A forest over the sample's own features in the registry; the score that three in ten reach."""
    rows = materialize(
        {"transactions": sample, "labels": labels_of(sample)}, load_definitions(folder / "definitions.py")
    )
    matrix = rows.select(names).to_numpy().astype(np.float32)
    truth = sample.sort("TRANSACTION_ID")["TX_FRAUD"].to_numpy()
    assert truth.sum() > 5
    ordered = np.nan_to_num(matrix)
    forest = RandomForestClassifier(30, max_depth=6, class_weight="balanced", random_state=1)
    forest.fit(ordered, truth)
    graph = to_onnx(forest, ordered[:1], options={"zipmap": False}, target_opset=17)
    scores = forest.predict_proba(ordered)[:, 1]
    manifest = Manifest(
        name="forest",
        version="1",
        algorithm="random_forest",
        source="transactions",
        plan=fingerprint,
        numeric=tuple(names),
        categorical=(),
        baseline={name: float(value) for name, value in zip(names, np.median(ordered, axis=0), strict=True)},
        files={},
        input="X",
        output="probabilities",
    )
    golden = {name: ordered[:50, place].tolist() for place, name in enumerate(names)}
    registry = Registry(str(folder / "registry"))
    bundle.write(
        registry.path("forest", "1"),
        Contents(
            manifest=manifest,
            model=graph.SerializeToString(),
            golden=golden,
            golden_scores=scores[:50].tolist(),
        ),
    )
    registry.promote("forest", "1")
    return float(np.quantile(scores, 0.7))


@pytest.fixture
def project(
    tmp_path: Path, sample: pl.DataFrame, kafka: str, redis_url: str, make_topic: Callable[..., str]
) -> Config:
    """The handbook's project on topics of its own, with a forest that calls three in ten for review."""
    topics = {name: make_topic(partitions=PARTITIONS) for name in ("transactions", "labels", "decisions")}
    topics |= {name: make_topic(partitions=1) for name in ("alerts", "dead_letters")}
    text = (ROOT / "examples/handbook/definitions.py").read_text()
    for name in ("transactions", "labels"):
        text = text.replace(f'"handbook-{name}"', f'"{topics[name]}"')
    (tmp_path / "definitions.py").write_text(text)
    outputs = "\n".join(f'{name} = "{topics[name]}"' for name in ("alerts", "decisions", "dead_letters"))
    (tmp_path / "riskstream.toml").write_text(
        f'[project]\nname = "{topics["transactions"]}"\n\n[kafka]\nbootstrap_servers = "{kafka}"\n\n'
        f'[redis]\nurl = "{redis_url}"\n\n[topics]\n{outputs}\n\n'
        '[models]\nregistry = "registry"\nroutes = { transactions = "forest@champion" }\n'
        'allow_unsigned = ["forest"]\n\n[worker]\nflush_interval_ms = 1\n'
    )
    config = load(tmp_path / "riskstream.toml")
    plan = build.make_plan(config)
    reader = plan.readers["transactions"]
    threshold = make_model(tmp_path, sample, plan.fingerprint, ["TX_AMOUNT", *reader.names])
    (tmp_path / "policy.toml").write_text(
        f"[sources.transactions]\nreview = {threshold!r}\n\n[[sources.transactions.rules]]\n"
        'name = "above_220"\nwhen = "TX_AMOUNT > 220"\naction = "decline"\ntext = "an amount above 220"\n'
    )
    return config


class Topics:
    """Produces events and reads decisions; knows how far Redis must have come."""

    def __init__(self, config: Config) -> None:
        server = {"bootstrap.servers": config.kafka.bootstrap_servers}
        self._plan = build.make_plan(config)
        self._producer = Producer({**server, "linger.ms": 0})
        self._consumer = Consumer(
            {**server, "group.id": "look", "isolation.level": "read_committed", "enable.auto.commit": False}
        )
        self._consumer.assign([TopicPartition(config.topics.decisions, at, 0) for at in range(PARTITIONS)])
        self._shards = config.worker.shards

    def produce(self, events: list[tuple[str, Event]]) -> list[tuple[int, Partition, int]]:
        """(shard, partition, offset) that the marks must reach."""
        reached: list[tuple[int, Partition, int]] = []

        def delivered(source: str, event: Event) -> Callable[..., None]:
            shards = shard_of(hash_strings([key for _, key, _ in touched(source, event)]), self._shards)

            def called(error: object, message: Any) -> None:
                assert error is None
                place = Partition(source, message.partition())
                reached.extend((int(shard), place, message.offset() + 1) for shard in shards)

            return called

        for source, event in events:
            key = str(event["TERMINAL_ID" if source == "labels" else "CUSTOMER_ID"])
            topic = self._plan.sources[source].topic
            self._producer.produce(topic, json.dumps(event), key, on_delivery=delivered(source, event))
        assert self._producer.flush(60) == 0
        return reached

    def close(self) -> None:
        self._consumer.close()

    def decisions(self, count: int) -> dict[str, Decision]:
        """So many new decisions by event."""
        found: dict[str, Decision] = {}

        def read() -> bool:
            for message in self._consumer.consume(count - len(found), 0.05) if len(found) < count else ():
                made = msgspec.json.decode(message.value() or b"", type=Decision)
                assert found.setdefault(made.event_id, made) is made
            return len(found) == count

        wait_until(read, 60, f"{count} decisions")
        return found


def arrived(store: Store, reached: list[tuple[int, Partition, int]]) -> bool:
    """Whether Redis holds every produced event."""
    marks = store.marks()
    return all(place in marks[shard] and marks[shard][place].offset >= at for shard, place, at in reached)


def comparable(decision: Decision) -> Decision:
    """Without what cannot be the same: where in Kafka, and when it was received and scored."""
    return msgspec.structs.replace(
        decision,
        source=msgspec.structs.replace(decision.source, partition=-1, offset=-1),
        times=Times(event=decision.times.event, received=0, scored=0),
    )


async def ask(client: AsyncClient, events: list[tuple[str, Event]]) -> dict[str, Decision]:
    """What HTTP says of a round's transactions."""
    asked = [client.score(source, event) for source, event in events if source == "transactions"]
    return {one.event_id: one for one in await asyncio.gather(*asked)}


async def play(
    url: str, topics: Topics, store: Store, sample: pl.DataFrame
) -> tuple[dict[str, Decision], dict[str, Decision]]:
    """Decisions by HTTP and by Kafka, round by round. Nothing else needs the event loop while it waits."""
    by_http: dict[str, Decision] = {}
    by_kafka: dict[str, Decision] = {}
    async with AsyncClient(url, timeout=30) as client:
        for events in rounds(in_order(sample)):
            said = await ask(client, events)
            reached = topics.produce(events)
            by_http |= said
            by_kafka |= topics.decisions(len(said))
            wait_until(partial(arrived, store, reached), 60, "the state to reach Redis")
    return by_http, by_kafka


def test_http_and_kafka_decide_alike_on_every_event(project: Config, sample: pl.DataFrame) -> None:
    command = [sys.executable, "-m", "riskstream", "worker", "--config"]
    topics, store = Topics(project), build.make_store(project)
    with subprocess.Popen([*command, str(project.path)], cwd=ROOT) as worker:
        try:
            wait_until(lambda: store.manifest() is not None, 60, "the worker to open the state")
            with serving(make_app(project, ApiSettings(), insecure=True)) as url:
                by_http, by_kafka = asyncio.run(play(url, topics, store, sample))
        finally:
            worker.kill()
            store.close()
            topics.close()
    assert len(by_http) == sample.height
    different = [one for one in by_kafka if comparable(by_http[one]) != comparable(by_kafka[one])]
    assert different == [], (by_http[different[0]], by_kafka[different[0]])
    alerts = [one for one in by_kafka.values() if one.alert]
    assert len(alerts) > sample.height // 10
    assert all(one.reasons for one in alerts)
    risky = [one for one in by_kafka.values() if _number(one, "labels_rate_7d_by_terminal") > 0]
    assert risky, "no label became known in time"


def _number(decision: Decision, name: str) -> float:
    value = decision.features[name]
    return float(value) if isinstance(value, float | int) else 0.0
