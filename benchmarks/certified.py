"""A small bank whose decisions can be certified: two workers, one killed, one added, a promotion; then altered copies.

Used by benchmarks/certify.py with the handbook's transactions, and by tests/integration/test_certify.py with made-up
ones in the same form.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import RandomForestClassifier

from features.definitions.compile import compile_plan
from features.definitions.project import load_definitions
from models.bundles import bundle, signing
from models.bundles.bundle import Contents
from models.bundles.registry import Registry
from models.core.manifest import Manifest
from stream.codecs.messages import RawMessage
from stream.kafka.readers.topic_reader import TopicReader
from stream.settings.tables import Kafka
from tests.servers.process import wait_until

ROOT = Path(__file__).resolve().parents[1]
PARTITIONS = 4
OUTPUTS = ("alerts", "decisions", "dead_letters", "journal")
SETTINGS = """[project]
name = "{name}"
[kafka]
bootstrap_servers = "{kafka}"
[kafka.consumer]
"session.timeout.ms" = 3000
"heartbeat.interval.ms" = 500
[redis]
url = "{redis}"
[topics]
alerts = "{alerts}"
decisions = "{decisions}"
dead_letters = "{dead_letters}"
journal = "{journal}"
[models]
routes = {{ transactions = "fraud@champion" }}
trusted_keys = ["signer.pub.pem"]
poll_ms = 50
[worker]
batch_size = {batch}
flush_interval_ms = 200
dead_letter_ratio = 1.0
dead_letter_consecutive = 0
{more}
"""
POLICY = """[sources.transactions]
review = 0.5
decline = 0.8
suppress = { entity = "customer", period = "2d" }

[[sources.transactions.rules]]
name = "large"
when = "TX_AMOUNT > 220"
action = "review"
"""


def labels_of(transactions: pl.DataFrame) -> pl.DataFrame:
    """Every fraud label becomes known seven days after its transaction."""
    return transactions.select(
        pl.col("TRANSACTION_ID").alias("LABEL_ID"),
        (pl.col("TX_DATETIME") + pl.duration(days=7)).alias("KNOWN_DATETIME"),
        "TRANSACTION_ID",
        "TX_DATETIME",
        "TERMINAL_ID",
        "TX_FRAUD",
    )


def made_up(rows: int) -> pl.DataFrame:
    """Transactions in the handbook's form: 300 customers at 40 terminals, over five days."""
    rng = np.random.default_rng(1)
    start = datetime(2018, 4, 1)
    seconds = np.sort(rng.integers(0, 5 * 86_400, rows)).tolist()
    return pl.DataFrame(
        {
            "TRANSACTION_ID": range(rows),
            "TX_DATETIME": pl.Series(
                [start + timedelta(seconds=one) for one in seconds], dtype=pl.Datetime("us")
            ),
            "CUSTOMER_ID": rng.integers(0, 300, rows),
            "TERMINAL_ID": rng.integers(0, 40, rows),
            "TX_AMOUNT": np.round(rng.gamma(2, 45, rows), 2),
            "TX_FRAUD": (rng.random(rows) < 0.05).astype(np.int64),
        }
    )


@dataclass
class Bank:
    """A project in `folder` on topics of its own; `sent` counts what was produced; `more` are settings of workers."""

    kafka: str
    redis: str
    folder: Path
    make_topic: Callable[..., str]
    name: str
    batch: int = 4000
    more: str = ""
    sent: int = 0
    workers: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for topic in ("transactions", "labels", "decisions"):
            self.make_topic(f"{self.name}-{topic}", partitions=PARTITIONS)
        for topic in ("alerts", "dead_letters", "journal"):
            self.make_topic(f"{self.name}-{topic}", partitions=2)
        text = (ROOT / "examples/handbook/definitions.py").read_text()
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "definitions.py").write_text(text.replace('"handbook-', f'"{self.name}-'))
        (self.folder / "policy.toml").write_text(POLICY)
        self.config = self.settings("riskstream.toml")
        private, public = signing.new_key()
        (self.folder / "signer.pub.pem").write_text(public)
        (self.folder / "signer.pem").write_text(private)
        self.registry = Registry(str(self.folder / "registry"))
        plan = compile_plan(load_definitions(self.folder / "definitions.py"))
        names = plan.readers["transactions"].names
        for version in ("1", "2"):
            place = self.registry.path("fraud", version)
            made = _forest(version, plan.fingerprint, ("TX_AMOUNT", *names))
            bundle.write(place, made, key=signing.private_key(private, "signer.pem"))
        self.registry.promote("fraud", "1")

    def settings(self, file: str, **topics: str) -> Path:
        """A settings file; `topics` replace the bank's own."""
        named = {topic: f"{self.name}-{topic}" for topic in OUTPUTS} | topics
        path = self.folder / file
        own = {
            "name": self.name,
            "kafka": self.kafka,
            "redis": self.redis,
            "batch": self.batch,
            "more": self.more,
        }
        path.write_text(SETTINGS.format(**own, **named))
        return path

    # -- events --------------------------------------------------------------------------------

    def produce(self, transactions: pl.DataFrame, bad_every: int = 5_000) -> None:
        """Labels and transactions as JSON, in order of time in each topic; some are no events."""
        producer = Producer(
            {"bootstrap.servers": self.kafka, "linger.ms": 20, "queue.buffering.max.messages": 2_000_000}
        )
        columns = ["TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT"]
        jobs = (
            ("labels", labels_of(transactions), "TERMINAL_ID"),
            ("transactions", transactions.select(columns), "CUSTOMER_ID"),
        )
        for topic, frame, key in jobs:
            times = [name for name, dtype in frame.schema.items() if dtype == pl.Datetime("us")]
            text = frame.with_columns(pl.col(times).dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
            for number, row in enumerate(text.iter_rows(named=True)):
                bad = topic == "transactions" and number % bad_every == bad_every // 2
                value = b'{"TX_AMOUNT": "no number"}' if bad else msgspec.json.encode(row)
                producer.produce(f"{self.name}-{topic}", value, str(row[key]))
                if number % 50_000 == 0:
                    producer.flush(60)
        assert producer.flush(120) == 0
        self.sent += 2 * transactions.height

    def committed(self) -> int:
        """How many offsets the group has committed."""
        asking = Consumer({"bootstrap.servers": self.kafka, "group.id": self.name, "log_level": 2})
        places = [
            TopicPartition(f"{self.name}-{topic}", number)
            for topic in ("transactions", "labels")
            for number in range(PARTITIONS)
        ]
        try:
            return sum(max(0, one.offset) for one in asking.committed(places, 10))
        except KafkaException:
            return 0
        finally:
            asking.close()

    def wait_for(self, events: int, seconds: float = 600) -> None:
        """Until so many events are committed."""

        def come() -> bool:
            codes = [worker.poll() for worker in self.workers.values()]
            assert all(code in (None, -9) for code in codes), f"a worker ended: {codes}; {self.log(2000)}"
            return self.committed() >= events

        wait_until(come, seconds, f"{events} events to be committed")

    # -- workers -------------------------------------------------------------------------------

    def start(self, ordinal: int) -> None:
        """A worker process."""
        command = [sys.executable, "-m", "riskstream", "worker"]
        command += ["--config", str(self.config), "--ordinal", str(ordinal)]
        with (self.folder / f"worker-{ordinal}.log").open("ab") as log:
            self.workers[ordinal] = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)

    def wait_until_assigned(self, ordinal: int) -> None:
        """Until a worker has partitions."""
        log = self.folder / f"worker-{ordinal}.log"
        wait_until(lambda: b'"assigned"' in log.read_bytes(), 60, f"worker {ordinal} to have partitions")

    def kill(self, ordinal: int) -> None:
        """SIGKILL."""
        self.workers[ordinal].kill()
        self.workers[ordinal].wait(30)

    def stop(self) -> None:
        """All workers that still run, in good order."""
        for worker in self.workers.values():
            if worker.poll() is None:
                worker.send_signal(signal.SIGTERM)
                worker.wait(60)

    def log(self, most: int) -> str:
        """Ends of the workers' logs."""
        return "\n".join(path.read_text()[-most:] for path in sorted(self.folder.glob("worker-*.log")))

    # -- altered copies ------------------------------------------------------------------------

    def records(self, topic: str) -> list[RawMessage]:
        """Everything in one of the outputs."""
        reader = TopicReader(Kafka(bootstrap_servers=self.kafka), [f"{self.name}-{topic}"])
        found: list[RawMessage] = []
        while not reader.done:
            found += reader.poll()
        reader.close()
        return found

    def copy(self, records: Iterable[RawMessage], name: str) -> str:
        """Records on a topic of their own, partition by partition."""
        target = self.make_topic(f"{self.name}-{name}", partitions=PARTITIONS)
        producer = Producer({"bootstrap.servers": self.kafka, "queue.buffering.max.messages": 2_000_000})
        for number, one in enumerate(records):
            headers = list(one.headers or [])
            producer.produce(target, one.value, one.key, one.partition, headers=headers)  # type: ignore[arg-type]
            if number % 50_000 == 0:
                producer.flush(60)
        assert producer.flush(60) == 0
        return target


def _forest(version: str, plan: str, names: tuple[str, ...]) -> Contents:
    """Trained on noise that leans towards large amounts: any forest will do that moves with all of its inputs."""
    rng = np.random.default_rng(int(version))
    rows = np.abs(rng.normal(scale=3, size=(3_000, len(names)))).astype(np.float32)
    rows[:, 0] = rng.uniform(0, 250, size=3_000)
    bad = (
        rows[:, 0] / 250 + rows[:, 1:].mean(axis=1) / 10 + rng.normal(scale=0.1, size=3_000) > 0.95
    ).astype(int)
    trained = RandomForestClassifier(100, max_depth=8, random_state=int(version), n_jobs=1).fit(rows, bad)
    kinds = [("features", FloatTensorType([None, len(names)]))]
    graph = to_onnx(trained, initial_types=kinds, options={"zipmap": False})
    golden = {name: rows[:10, place].tolist() for place, name in enumerate(names)}
    manifest = Manifest(
        name="fraud", version=version, algorithm="forest", source="transactions", plan=plan, numeric=names,
        categorical=(), baseline=dict.fromkeys(names, 0.0), files={},
    )  # fmt: skip
    scores = trained.predict_proba(rows[:10])[:, 1].tolist()
    return Contents(manifest=manifest, model=graph.SerializeToString(), golden=golden, golden_scores=scores)
