"""Hot swap under load on real Kafka: promotions and rollbacks while events flow."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from confluent_kafka import Consumer, Producer
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.linear_model import LogisticRegression

from features.definitions.compile import compile_plan
from features.definitions.project import load_definitions
from models.bundles import bundle, signing
from models.bundles.bundle import Contents
from models.bundles.registry import Registry
from models.core.base import ModelInputs
from models.core.manifest import Manifest
from stream.codecs.contracts import Decision
from tests.servers.process import wait_until

EVENTS = 100_000
SWITCHES = 50
IN_FLIGHT = 4_000
VERSIONS = ("1", "2", "3")

DEFINITIONS = """
from features.definitions.spec import Aggregation, Definitions, Entity, FeatureView, Field, Source
definitions = Definitions(
    sources=(Source(name="tx", topic="{topic}", event_id="id", event_time="at", key="card", fields=(
        Field(name="id", dtype="string"), Field(name="at", dtype="timestamp"),
        Field(name="card", dtype="string"), Field(name="amount", dtype="float64"))),),
    entities=(Entity(name="card", keys=("card",)),),
    views=(FeatureView(name="cards", source="tx", entity="card", windows=("1d",),
        aggregations=(Aggregation(function="count"),)),),
)
"""
SETTINGS = """
[project]
name = "{topic}"
[kafka]
bootstrap_servers = "{kafka}"
[redis]
url = "{redis}"
[topics]
alerts = "{topic}-alerts"
decisions = "{topic}-decisions"
dead_letters = "{topic}-dead"
[models]
routes = {{ tx = "fraud@champion" }}
trusted_keys = ["signer.pub.pem"]
poll_ms = 20
[worker]
batch_size = 1000
"""


class Project:
    """A project with three signed versions whose scores differ."""

    def __init__(self, directory: Path, topic: str, kafka: str, redis: str) -> None:
        (directory / "definitions.py").write_text(DEFINITIONS.format(topic=topic))
        (directory / "riskstream.toml").write_text(SETTINGS.format(topic=topic, kafka=kafka, redis=redis))
        (directory / "policy.toml").write_text("[sources.tx]\nreview = 0.99\n")
        private, public = signing.new_key()
        (directory / "signer.pub.pem").write_text(public)
        plan = compile_plan(load_definitions(directory / "definitions.py"))
        self.registry = Registry(str(directory / "registry"))
        for version in VERSIONS:
            place = self.registry.path("fraud", version)
            bundle.write(place, _contents(version, plan.fingerprint), key=signing.private_key(private, "k"))
        trust = signing.trust([str(directory / "signer.pub.pem")])
        self.models = {v: bundle.load(self.registry.path("fraud", v), trust, plan) for v in VERSIONS}
        self.registry.promote("fraud", "1")
        self.config = directory / "riskstream.toml"

    def challenge(self, version: str) -> None:
        text = self.config.read_text()
        self.config.write_text(text.replace("poll_ms", f'shadow = {{ tx = "fraud@{version}" }}\npoll_ms'))


def _contents(version: str, plan: str) -> Contents:
    rng = np.random.default_rng(int(version))
    rows = rng.uniform(0, 100, size=(200, 1)).astype(np.float32)
    bad = (rows[:, 0] + rng.normal(scale=20, size=200) > 20 * int(version)).astype(int)
    trained = LogisticRegression().fit(rows, bad)
    graph = to_onnx(
        trained, initial_types=[("features", FloatTensorType([None, 1]))], options={"zipmap": False}
    )
    manifest = Manifest(
        name="fraud", version=version, algorithm="logistic", source="tx", plan=plan, numeric=("amount",),
        categorical=(), baseline={"amount": 0.0}, files={},
    )  # fmt: skip
    golden = {"amount": rows[:10, 0].tolist()}
    return Contents(manifest=manifest, model=graph.SerializeToString(), golden=golden,
                    golden_scores=trained.predict_proba(rows[:10])[:, 1].tolist())  # fmt: skip


class Reader(threading.Thread):
    """Reads decisions as they are committed, in the order in which they were."""

    def __init__(self, kafka: str, topic: str) -> None:
        super().__init__(daemon=True)
        self.decisions: list[Decision] = []
        self.done = threading.Event()
        self._consumer = Consumer({
            "bootstrap.servers": kafka, "group.id": f"{topic}-reader", "auto.offset.reset": "earliest",
            "log_level": 2,
                "isolation.level": "read_committed", "enable.auto.commit": False,
        })  # fmt: skip
        self._consumer.subscribe([topic])
        self._decoder = msgspec.json.Decoder(Decision)

    def run(self) -> None:
        while not self.done.is_set():
            for message in self._consumer.consume(2000, 0.1):
                assert message.error() is None, message.error()
                self.decisions.append(self._decoder.decode(message.value() or b""))
        self._consumer.close()

    def last_version(self) -> str:
        return self.decisions[-1].model.version if self.decisions else ""


class Feeder(threading.Thread):
    """Keeps events flowing until there were enough and `enough` is set; `IN_FLIGHT` at a time."""

    def __init__(self, kafka: str, topic: str, reader: Reader) -> None:
        super().__init__(daemon=True)
        self.least = EVENTS
        self.sent = 0
        self.amounts: list[float] = []
        self.enough = threading.Event()
        self._topic, self._reader = topic, reader
        self._producer = Producer({"bootstrap.servers": kafka, "linger.ms": 2, "log_level": 2})

    def run(self) -> None:
        rng = np.random.default_rng(0)
        while self.sent < self.least or not self.enough.is_set():
            if self.sent - len(self._reader.decisions) >= IN_FLIGHT:
                self._producer.poll(0.001)
                continue
            for amount in rng.uniform(0, 100, size=200).tolist():
                card = f"c{self.sent % 997}"
                event = {
                    "id": f"e{self.sent}",
                    "at": 1_700_000_000_000 + self.sent,
                    "card": card,
                    "amount": amount,
                }
                self._producer.produce(self._topic, msgspec.json.encode(event), card.encode())
                self.amounts.append(amount)
                self.sent += 1
            self._producer.poll(0)
        self._producer.flush()


def switch(registry: Registry, number: int) -> str:
    """Promote another version, or take the promotion back; returns the champion."""
    if number % 2:
        return registry.rollback("fraud").current()["champion"]
    return registry.promote("fraud", VERSIONS[1 + number // 2 % 2]).current()["champion"]


class Run:
    """A project with its topics; `start` lets a worker, a reader and a feeder loose."""

    def __init__(self, kafka: str, redis: str, directory: Path, make_topic: Callable[..., str]) -> None:
        topic = make_topic(partitions=2)
        for name in ("alerts", "decisions", "dead"):
            make_topic(f"{topic}-{name}", partitions=1)
        self.project = Project(directory, topic, kafka, redis)
        self.reader = Reader(kafka, f"{topic}-decisions")
        self.feeder = Feeder(kafka, topic, self.reader)
        self.log = directory / "worker.log"
        self.worker: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.launch()
        self.reader.start()
        self.feeder.start()

    def launch(self) -> None:
        command = [sys.executable, "-m", "riskstream", "worker", "--config", str(self.project.config)]
        with self.log.open("ab") as log:
            self.worker = subprocess.Popen(command, stdout=log, stderr=log)

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        def holds() -> bool:
            assert self.worker is not None
            assert self.worker.poll() is None, "the worker ended"
            return condition()

        wait_until(holds, 60, what)

    def stop(self) -> None:
        if self.worker is not None and self.worker.poll() is None:
            self.worker.terminate()
            self.worker.wait(30)

    def close(self) -> None:
        self.stop()
        self.reader.done.set()
        self.feeder.enough.set()
        print(self.log.read_text()[-3000:])


@pytest.fixture
def run(kafka: str, redis_url: str, tmp_path: Path, make_topic: Callable[..., str]):
    made = Run(kafka, redis_url, tmp_path, make_topic)
    yield made
    made.close()


def test_fifty_switches_under_load(run):
    project, reader, feeder = run.project, run.reader, run.feeder
    run.start()
    run.wait_for(lambda: reader.last_version() == "1", "first decisions")
    champions = ["1"]
    for number in range(SWITCHES):
        champions.append(switch(project.registry, number))
        run.wait_for(lambda: reader.last_version() == champions[-1], f"switch {number} to show in decisions")
    feeder.enough.set()
    run.wait_for(lambda: not feeder.is_alive() and len(reader.decisions) >= feeder.sent, "all decisions")
    decisions = reader.decisions

    assert len(decisions) == feeder.sent >= EVENTS
    assert {one.event_id for one in decisions} == {f"e{number}" for number in range(feeder.sent)}
    seen = [decisions[0].model.version]
    for one in decisions:
        if one.model.version != seen[-1]:
            seen.append(one.model.version)
    assert seen == champions

    history = [change for change in project.registry.aliases("fraud").history if change.alias == "champion"]
    starts, place = [change.at for change in history], 0
    for one in decisions:
        while history[place].version != one.model.version:
            place += 1
        assert starts[place] <= one.times.scored
    assert place == SWITCHES

    for version, model in project.models.items():
        mine = [one for one in decisions if one.model.version == version]
        assert mine
        assert {one.model.sha256 for one in mine} == {model.version.sha256}
        amounts = np.array([[feeder.amounts[int(one.event_id[1:])]] for one in mine], dtype=np.float32)
        assert np.abs(model.score_inputs(ModelInputs(amounts, {})) - [one.score for one in mine]).max() < 1e-9


def test_a_challenger_in_the_shadow(run):
    project, reader, feeder = run.project, run.reader, run.feeder
    project.challenge("3")
    feeder.least = 5_000
    feeder.enough.set()
    run.start()
    run.wait_for(lambda: len(reader.decisions) >= 2 * 5_000, "champion's and challenger's decisions")
    run.stop()
    by_mode = {mode: [one for one in reader.decisions if one.mode == mode] for mode in ("live", "shadow")}
    assert {one.model.version for one in by_mode["live"]} == {"1"}
    assert {one.model.version for one in by_mode["shadow"]} == {"3"}
    live, shadow = ({one.event_id: one for one in by_mode[mode]} for mode in ("live", "shadow"))
    assert len(live) == len(shadow) == feeder.sent
    for event_id, one in live.items():
        assert shadow[event_id].features == one.features
        assert shadow[event_id].alert_id != one.alert_id
