"""`make bench-backtest`: the handbook's transactions and labels through `riskstream backtest`, once and ten times over.

    python -m benchmarks.backtest [--copies 10] [--processes 2] [--kafka-rows N] [--cases rules model model_shared ...]

Each case is a fresh process that reads Parquet and writes a report, figures and decisions: with a forest of 100 trees
or with rules alone; the file as it is, or `--copies` copies of it shifted in time to one long stream; in one process
or in several; from Kafka, with the decisions over files beside them. CPU and memory are those of the whole command,
start included. Needs ../shared/data and build/handbook.parquet (`make handbook`); prints its figures last and writes
build/bench_backtest.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from benchmarks.handbook import DATA, EXAMPLE, in_published_order, labels_of
from benchmarks.handbook_live import TRAIN, _produce
from tests.servers.kafka_server import KafkaServer

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build/backtest-bench"
COMMAND = (sys.executable, "-m", "riskstream")
COPY_DAYS = 190
"""183 days of transactions and a week for their last labels: copies do not overlap."""
CASES = {
    "rules": ("rules", 1, 1),
    "model": ("model", 1, 1),
    "model_shared": ("model", 1, 0),
    "rules_long": ("rules", 0, 1),
    "model_long": ("model", 0, 1),
}
"""Settings, copies (0: as many as asked for), processes (0: as many as asked for)."""


@dataclass(frozen=True)
class Measured:
    """One case. An event is a transaction or a label; `rss_mb` is the peak of the largest process."""

    events: int
    transactions: int
    seconds: float
    events_per_s: int
    transactions_per_s: int
    cpu_us_per_event: float
    rss_mb: int
    alerts: int


def main() -> int:
    """Run and print; 2 without the data."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--copies", type=int, default=10)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--cases", nargs="+", choices=[*CASES, "kafka"], default=[*CASES, "kafka"])
    parser.add_argument("--kafka-rows", type=int, default=0, help="transactions in topics; 0: all")
    options = parser.parse_args()
    source = DATA / "handbook_transactions.parquet"
    features = ROOT / "build/handbook.parquet"
    missing = [path for path in (source, features) if not path.is_file()]
    if missing:
        sys.stderr.write(f"make bench-backtest: {missing[0]} is not there; see `make handbook`\n")
        return 2
    project(features, source)
    measure("rules", *inputs(source, 1, head=20_000), 1)
    found = {}
    for name in options.cases:
        if name == "kafka":
            found[name] = from_kafka(source, options.kafka_rows)
        else:
            settings, copies, processes = CASES[name]
            given, events = inputs(source, copies or options.copies)
            found[name] = measure(settings, given, events, processes or options.processes)
        print(f"{name:<14}{json.dumps(asdict(found[name]))}", flush=True)
    path = ROOT / "build/bench_backtest.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    figures = {**known.get("cases", {}), **{name: asdict(one) for name, one in found.items()}}
    written = {
        "cases": figures,
        "copies": options.copies,
        "processes": options.processes,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
    }
    path.write_text(json.dumps(written, indent=1) + "\n")
    print(json.dumps(written))
    return 0


def project(features: Path, transactions: Path) -> None:
    """Definitions of the handbook, a policy of thresholds, and a forest trained on one week."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "definitions.py").write_text((EXAMPLE / "definitions.py").read_text())
    (FOLDER / "policy.toml").write_text((EXAMPLE / "policy.toml").read_text())
    routes = 'routes = { transactions = "handbook@champion" }\n'
    head = '[project]\nname = "backtest-bench"\n\n[models]\nregistry = "registry"\nallow_unsigned = ["handbook"]\n'
    (FOLDER / "rules.toml").write_text(head)
    (FOLDER / "model.toml").write_text(head + routes)
    if (FOLDER / "registry/handbook/aliases.json").exists():
        return
    (FOLDER / "train.toml").write_text(TRAIN)
    fraud = pl.read_parquet(transactions, columns=["TRANSACTION_ID", "TX_FRAUD"])
    fraud = fraud.select(pl.col("TRANSACTION_ID").cast(pl.String).alias("event_id"), "TX_FRAUD")
    day = pl.col("event_time").dt.strftime("%Y-%m-%d")
    week = (
        pl.scan_parquet(features).filter(day.is_between(pl.lit("2018-07-25"), pl.lit("2018-07-31"))).collect()
    )
    week = week.with_columns(pl.col("event_id").cast(pl.String)).join(fraud, on="event_id")
    week.sort("event_time").write_parquet(FOLDER / "learn.parquet")
    subprocess.run(
        [*COMMAND, "train", "--config", "train.toml", "--model", "handbook"], cwd=FOLDER, check=True
    )
    version = next(path.name for path in (FOLDER / "registry/handbook").iterdir() if path.is_dir())
    promote = ["model", "promote", "--config", "rules.toml", f"handbook@{version}"]
    subprocess.run([*COMMAND, *promote], cwd=FOLDER, check=True)


def inputs(source: Path, copies: int, head: int | None = None) -> tuple[list[str], int]:
    """Folders of Parquet files, a file a copy, shifted in time and with ids of their own; how many events."""
    found = recorded(source, copies, head)
    events = sum(pl.scan_parquet(path).select(pl.len()).collect().item() for path in found.values())
    return [f"{name}={path}" for name, path in found.items()], events


def recorded(source: Path, copies: int, head: int | None) -> dict[str, Path]:
    """The folders, written where they are not there."""
    folder = FOLDER / f"inputs-{copies}{'' if head is None else f'-{head}'}"
    found = {"transactions": folder / "transactions", "labels": folder / "labels"}
    if (folder / "complete").exists():
        return found
    frame = pl.read_parquet(source).with_columns(pl.col("TX_DATETIME").cast(pl.Datetime("us")))
    frame = in_published_order(frame if head is None else frame.head(head))
    for path in found.values():
        path.mkdir(parents=True, exist_ok=True)
    for copy in range(copies):
        shifted = frame.with_columns(
            pl.col("TRANSACTION_ID").cast(pl.Int64) + copy * frame.height,
            pl.col("TX_DATETIME") + pl.duration(days=COPY_DAYS * copy),
        )
        columns = ["TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT"]
        shifted.select(columns).write_parquet(found["transactions"] / f"{copy:03}.parquet")
        labels_of(shifted).write_parquet(found["labels"] / f"{copy:03}.parquet")
    (folder / "complete").touch()
    return found


def from_kafka(source: Path, rows: int) -> Measured:
    """The model over topics; SystemExit where a decision differs from that over files."""
    frame = pl.read_parquet(source).with_columns(pl.col("TX_DATETIME").cast(pl.Datetime("us")))
    frame = in_published_order(frame.head(rows or frame.height))
    files = measure("model", *inputs(source, 1, frame.height), 1, decisions="from-files")
    with KafkaServer(heap="1g") as kafka:
        topics = [kafka.make_topic(f"handbook-{name}", partitions=4) for name in ("transactions", "labels")]
        _produce(kafka, frame)
        address = f'\n[kafka]\nbootstrap_servers = "{kafka.bootstrap}"\n'
        (FOLDER / "kafka.toml").write_text((FOLDER / "model.toml").read_text() + address)
        found = measure(
            "kafka", [f"kafka:{topic}" for topic in topics], files.events, 1, decisions="from-kafka"
        )
    kept = [pl.scan_parquet(FOLDER / one / "setting.parquet") for one in ("from-files", "from-kafka")]
    a, b = (one.drop("partition", "offset").sort("event_id").collect() for one in kept)
    if not a.equals(b):
        raise SystemExit("decisions from Kafka differ from those of the same events from files")
    return found


def measure(
    settings: str, given: list[str], events: int, processes: int, decisions: str = "decisions"
) -> Measured:
    """Run the command to its end."""
    figures = FOLDER / "figures.json"
    arguments = ["backtest", "--config", f"{settings}.toml", "--work", "work", "--decisions", decisions]
    arguments += ["--report", "report.html", "--json", str(figures), "--processes", str(processes)]
    for one in given:
        arguments += ["--input", one]
    if decisions != "decisions":
        arguments.append("--with-features")
    subprocess.run(["rm", "-rf", str(FOLDER / "work")], check=True)
    started = time.perf_counter()
    process = subprocess.Popen([*COMMAND, *arguments], cwd=FOLDER, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"riskstream backtest ended with {os.waitstatus_to_exitcode(status)}")
    outcome = json.loads(figures.read_text())[0]["a"]["outcome"]
    return Measured(
        events=events,
        transactions=outcome["events"],
        seconds=round(seconds, 1),
        events_per_s=round(events / seconds),
        transactions_per_s=round(outcome["events"] / seconds),
        cpu_us_per_event=round((used.ru_utime + used.ru_stime) / events * 1e6, 2),
        rss_mb=round(used.ru_maxrss / 1024),
        alerts=outcome["alerts"],
    )


if __name__ == "__main__":
    sys.exit(main())
