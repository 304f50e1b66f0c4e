"""The handbook through the live worker: bit-identical to the offline run.

Four partitions and two topics interleave, so this also proves that the scoring order is a function of the log. Needs
../shared/data. RISKSTREAM_HANDBOOK_ROWS sets the number of transactions (`all`: every one).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from features.core.batch import Floats
from features.definitions.project import load_definitions
from features.offline.materialize import materialize

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data" / "handbook_transactions.parquet"
ROWS = os.environ.get("RISKSTREAM_HANDBOOK_ROWS", "200000")
PARTITIONS = 4
WAIT_S = 600


class Read(msgspec.Struct):
    """What is compared of a decision."""

    event_id: str
    features: dict[str, float | None]


@pytest.fixture(scope="module")
def transactions() -> pl.DataFrame:
    if not DATA.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{DATA} is missing")
        pytest.skip(f"{DATA} is not here")
    frame = pl.read_parquet(DATA).with_columns(pl.col("TX_DATETIME").cast(pl.Datetime("us")))
    return frame if ROWS == "all" else frame.head(int(ROWS))


def labels_of(transactions: pl.DataFrame) -> pl.DataFrame:
    return transactions.select(
        pl.col("TRANSACTION_ID").alias("LABEL_ID"),
        (pl.col("TX_DATETIME") + pl.duration(days=7)).alias("KNOWN_DATETIME"),
        "TRANSACTION_ID",
        "TX_DATETIME",
        "TERMINAL_ID",
        "TX_FRAUD",
    )


@pytest.fixture
def project(tmp_path: Path, kafka: str, redis_url: str, make_topic: Callable[..., str]) -> dict[str, str]:
    """The handbook's project on topics of its own, decided by rules alone."""
    topics = {name: make_topic(partitions=PARTITIONS) for name in ("transactions", "labels", "decisions")}
    topics |= {name: make_topic(partitions=1) for name in ("alerts", "dead_letters")}
    text = (ROOT / "examples/handbook/definitions.py").read_text()
    for name in ("transactions", "labels"):
        text = text.replace(f'"handbook-{name}"', f'"{topics[name]}"')
    (tmp_path / "definitions.py").write_text(text)
    (tmp_path / "policy.toml").write_text("[sources.transactions]\nreview = 0.9\n")
    outputs = "\n".join(f'{name} = "{topics[name]}"' for name in ("alerts", "decisions", "dead_letters"))
    (tmp_path / "riskstream.toml").write_text(
        f'[project]\nname = "{topics["transactions"]}"\n\n[kafka]\nbootstrap_servers = "{kafka}"\n\n'
        f'[redis]\nurl = "{redis_url}"\n\n[topics]\n{outputs}\n'
    )
    return topics


def produce(kafka: str, topic: str, frame: pl.DataFrame, key: str) -> None:
    """Rows as JSON, partitioned by key as a transaction system would."""
    producer = Producer(
        {"bootstrap.servers": kafka, "linger.ms": 50, "queue.buffering.max.messages": 1_000_000}
    )
    times = [name for name, dtype in frame.schema.items() if dtype == pl.Datetime("us")]
    text = frame.with_columns(pl.col(times).dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    for row in text.iter_rows(named=True):
        producer.produce(topic, msgspec.json.encode(row), str(row[key]))
    assert producer.flush(120) == 0


def decisions(kafka: str, topic: str) -> Iterator[Read]:
    """Committed decisions, as they come."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": "reader",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
        }
    )
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(PARTITIONS)])
    decoder = msgspec.json.Decoder(Read)
    silent = 0
    while silent < WAIT_S:
        messages = consumer.consume(10_000, 1.0)
        silent = 0 if messages else silent + 1
        for message in messages:
            assert message.error() is None
            yield decoder.decode(message.value() or b"")
    consumer.close()
    pytest.fail(f"no decision for {WAIT_S} s")


def test_live_features_are_those_of_the_offline_run_bit_for_bit(
    transactions: pl.DataFrame, project: dict[str, str], kafka: str, tmp_path: Path
) -> None:
    produce(kafka, project["labels"], labels_of(transactions), "TERMINAL_ID")
    produce(kafka, project["transactions"], transactions.drop("TX_FRAUD", "TX_FRAUD_SCENARIO"), "CUSTOMER_ID")
    offline = materialize(
        {"transactions": transactions, "labels": labels_of(transactions)},
        load_definitions(str(ROOT / "examples/handbook/definitions.py")),
    )
    command = [
        sys.executable,
        "-m",
        "riskstream",
        "worker",
        "--config",
        str(tmp_path / "riskstream.toml"),
    ]
    with subprocess.Popen(command, cwd=ROOT) as worker:
        try:
            live = _collect(decisions(kafka, project["decisions"]), transactions.height)
        finally:
            worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
    names = [name for name in next(iter(live.values())) if name in offline.columns]
    assert len(names) == 14
    expected = offline.select(names).fill_null(float("nan")).to_numpy()
    ids = [str(one) for one in offline["event_id"].to_list()]
    got = np.array([[_number(live[one][name]) for name in names] for one in ids])
    _assert_same_bits(expected.astype(np.float64), got, names)


def _collect(found: Iterator[Read], count: int) -> dict[str, dict[str, float | None]]:
    live: dict[str, dict[str, float | None]] = {}
    for one in found:
        assert one.event_id not in live, f"{one.event_id} was decided twice"
        live[one.event_id] = one.features
        if len(live) == count:
            return live
    return live


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _assert_same_bits(expected: Floats, got: Floats, names: list[str]) -> None:
    differs = (expected != got) & ~(np.isnan(expected) & np.isnan(got))
    wrong = {name: int(count) for name, count in zip(names, differs.sum(axis=0), strict=True) if count}
    assert not wrong, f"rows that differ by feature: {wrong}"
