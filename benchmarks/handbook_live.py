"""The handbook's transactions and labels through the live worker to the end, exactly once, with a forest.

    python -m benchmarks.handbook_live [--rows N] [--partitions 4]

Needs ../shared/data and build/handbook.parquet (`make handbook`). Trains a forest of 100 trees on one week, produces
all labels and transactions in order of time to real Kafka, and runs `riskstream worker` until all are committed.
Prints events/s, CPU per event of the worker (all threads), Redis memory and alerts; writes build/handbook_live.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import polars as pl
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.servers.kafka_server import KafkaServer
from tests.servers.redis_server import RedisServer

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared/data/handbook_transactions.parquet"
TRAIN = """registry = "registry"

[data]
definitions = "definitions.py"
source = "transactions"
features = "learn.parquet"
label = "TX_FRAUD"
card = "CUSTOMER_ID"
amount = "TX_AMOUNT"

[models.handbook]
algorithm = "forest"
parameters = { n_estimators = 100, max_depth = 12 }
"""


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=0, help="transactions to use; 0: all")
    parser.add_argument("--partitions", type=int, default=4)
    options = parser.parse_args()
    transactions = pl.read_parquet(DATA).with_columns(pl.col("TX_DATETIME").cast(pl.Datetime("us")))
    transactions = transactions.head(options.rows) if options.rows else transactions
    with KafkaServer(heap="1g") as kafka, RedisServer() as redis:
        project = _project(kafka, redis, options.partitions)
        produced = _produce(kafka, transactions)
        found = _run(kafka, redis, project, produced)
    found |= {"transactions": transactions.height, "partitions": options.partitions}
    path = ROOT / "build/handbook_live.json"
    path.write_text(json.dumps(found, indent=1))
    print(json.dumps(found))


def _project(kafka: KafkaServer, redis: RedisServer, partitions: int) -> Path:
    folder = ROOT / "build/handbook-live"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "definitions.py").write_text((ROOT / "examples/handbook/definitions.py").read_text())
    (folder / "policy.toml").write_text("[sources.transactions]\nreview = 0.5\ndecline = 0.9\n")
    for topic in ("handbook-transactions", "handbook-labels"):
        kafka.make_topic(topic, partitions=partitions)
    for topic in ("handbook-alerts", "handbook-dead-letters"):
        kafka.make_topic(topic, partitions=partitions)
    (folder / "riskstream.toml").write_text(
        f'[project]\nname = "handbook-live"\n\n[kafka]\nbootstrap_servers = "{kafka.bootstrap}"\n\n'
        f'[redis]\nurl = "{redis.url}"\n\n[topics]\nalerts = "handbook-alerts"\n'
        'dead_letters = "handbook-dead-letters"\n\n[models]\nregistry = "registry"\n'
        'routes = { transactions = "handbook@champion" }\nallow_unsigned = ["handbook"]\n'
    )
    (folder / "train.toml").write_text(TRAIN)
    labels = pl.read_parquet(DATA, columns=["TRANSACTION_ID", "TX_FRAUD"])
    learn = pl.scan_parquet(ROOT / "build/handbook.parquet").with_columns(pl.col("event_id").cast(pl.Int64))
    week = learn.filter(
        pl.col("event_time").dt.strftime("%Y-%m-%d").is_between(pl.lit("2018-07-25"), pl.lit("2018-07-31"))
    ).collect()
    named = labels.with_columns(pl.col("TRANSACTION_ID").cast(pl.Int64).alias("event_id")).drop(
        "TRANSACTION_ID"
    )
    week.join(named, on="event_id").sort("event_time").write_parquet(folder / "learn.parquet")
    if not (folder / "registry").exists():
        _cli(folder, "train", "--config", "train.toml", "--model", "handbook")
        version = next(path.name for path in (folder / "registry/handbook").iterdir() if path.is_dir())
        _cli(folder, "model", "promote", "--config", "riskstream.toml", f"handbook@{version}")
    return folder


def _cli(folder: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "riskstream", *arguments], cwd=folder, check=True)


def _produce(kafka: KafkaServer, transactions: pl.DataFrame) -> int:
    labels = transactions.select(
        pl.col("TRANSACTION_ID").alias("LABEL_ID"),
        (pl.col("TX_DATETIME") + pl.duration(days=7)).alias("KNOWN_DATETIME"),
        "TRANSACTION_ID",
        "TX_DATETIME",
        "TERMINAL_ID",
        "TX_FRAUD",
    )
    columns = ["TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT"]
    jobs = (
        ("handbook-labels", labels, "TERMINAL_ID"),
        ("handbook-transactions", transactions.select(columns), "CUSTOMER_ID"),
    )
    producer = Producer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "linger.ms": 50,
            "queue.buffering.max.messages": 2_000_000,
            "compression.type": "lz4",
        }
    )
    for topic, frame, key in jobs:
        times = [name for name, dtype in frame.schema.items() if dtype == pl.Datetime("us")]
        text = frame.with_columns(pl.col(times).dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
        for number, row in enumerate(text.iter_rows(named=True)):
            producer.produce(topic, msgspec.json.encode(row), str(row[key]))
            if number % 50_000 == 0:
                producer.flush(60)
        producer.flush(120)
    return 2 * transactions.height


def _run(kafka: KafkaServer, redis: RedisServer, project: Path, produced: int) -> dict[str, float]:
    command = [
        sys.executable,
        "-m",
        "riskstream",
        "worker",
        "--config",
        "riskstream.toml",
    ]
    begin = time.monotonic()
    with subprocess.Popen(command, cwd=project, stderr=(project / "worker.log").open("w")) as worker:
        warm: tuple[float, float, int] | None = None
        done = 0
        while done < produced:
            if worker.poll() is not None:
                raise RuntimeError(f"the worker ended with {worker.returncode}; see {project / 'worker.log'}")
            time.sleep(0.5)
            done = _committed(kafka)
            if warm is None and done > produced // 20:
                warm = (time.monotonic(), _cpu(worker.pid), done)
        end, cpu = time.monotonic(), _cpu(worker.pid)
        rss = _rss_mb(worker.pid)
        worker.terminate()
        worker.wait(60)
    assert warm is not None
    with redis.client() as client:
        memory = float(client.info("memory")["used_memory"])
    return {
        "events": produced,
        "events_per_s": round((done - warm[2]) / (end - warm[0])),
        "cpu_us_per_event": round((cpu - warm[1]) / (done - warm[2]) * 1e6, 2),
        "seconds_with_start": round(end - begin, 1),
        "worker_rss_mb": round(rss),
        "redis_memory_mb": round(memory / 1e6, 1),
        "alerts": _records(kafka, "handbook-alerts"),
        "dead_letters": _records(kafka, "handbook-dead-letters"),
    }


def _cpu(pid: int) -> float:
    """Seconds of CPU of all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _committed(kafka: KafkaServer) -> int:
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "handbook-live"})
    try:
        topics = consumer.list_topics(timeout=10).topics
        places = [
            TopicPartition(topic, number)
            for topic in ("handbook-transactions", "handbook-labels")
            for number in topics[topic].partitions
        ]
        return sum(max(0, one.offset) for one in consumer.committed(places, timeout=10))
    finally:
        consumer.close()


def _records(kafka: KafkaServer, topic: str) -> int:
    """Records that read_committed readers see: markers of transactions are not among them."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": "count",
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
    )
    numbers = consumer.list_topics(topic, 10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, 0) for number in numbers])
    count, ends = 0, 0
    while ends < len(numbers):
        for message in consumer.consume(10_000, 1.0):
            ends += message.error() is not None
            count += message.error() is None
    consumer.close()
    return count


if __name__ == "__main__":
    main()
