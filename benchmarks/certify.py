"""The handbook's transactions and labels through two live workers, then certified; then altered, and found.

    python -m benchmarks.certify [--rows N]

Needs ../shared/data. Real Kafka and Redis, exactly once, a forest of 100 trees: one worker is killed (SIGKILL) on the
way, one added, one model promoted. `riskstream certify` must then agree on every decision and alert. Then copies of
the outputs are altered, one record each: a score in an alert, a feature in a decision, a decision dropped, an alert
dropped, a decision repeated, a unit of work dropped from the journal; each must be found and named. Prints figures
last, writes build/certify.json, and ends with 1 when anything is not as it must be.
"""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import sys
import time
from pathlib import Path

import msgspec
import polars as pl

from benchmarks.certified import Bank
from stream.codecs.messages import RawMessage
from stream.kafka.batches import journal
from stream.replay.certify.certify import CertifyRequest, certify
from stream.replay.certify.report.certificate import Certificate
from stream.telemetry.progress_bar import progress_bar
from tests.servers.kafka_server import KafkaServer
from tests.servers.redis_server import RedisServer

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared/data/handbook_transactions.parquet"


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=210_000, help="transactions to use; each has a label")
    options = parser.parse_args()
    transactions = pl.read_parquet(DATA, n_rows=options.rows)
    transactions = transactions.with_columns(pl.col("TX_DATETIME").cast(pl.Datetime("us")))
    folder = ROOT / "build/certify"
    shutil.rmtree(folder, ignore_errors=True)
    with KafkaServer(heap="1g") as kafka, RedisServer() as redis:
        bank = Bank(
            kafka.bootstrap,
            redis.url,
            folder,
            kafka.make_topic,
            f"certify-{secrets.token_hex(3)}",
            batch=2_000,
        )
        live = _live(bank, transactions)
        begun = time.monotonic()
        found = _certified(bank.config)
        seconds = time.monotonic() - begun
        _say(found)
        tampered, caught = _tamper(bank)
    figures = {
        "decisions": found.counts.decisions_compared,
        "different": found.different,
        "tampered": tampered,
        "tampered_found": caught,
        "seconds": round(seconds, 1),
        "events": found.counts.events,
        "alerts": found.counts.alerts_compared,
        "dead_letters": found.counts.dead_letters,
        "events_per_s": round(found.counts.events / seconds),
    } | live
    (ROOT / "build/certify.json").write_text(json.dumps(figures, indent=1))
    print(json.dumps(figures))
    whole = found.counts.scored + found.counts.dead_letters == options.rows and not found.counts.missing
    sys.exit(0 if whole and not found.different and caught == tampered else 1)


def _live(bank: Bank, transactions: pl.DataFrame) -> dict[str, int]:
    """Two workers; a quarter in a promotion, at two fifths one is killed, and another is added."""
    try:
        for ordinal in (0, 1):
            bank.start(ordinal)
            bank.wait_until_assigned(ordinal)
        bank.produce(transactions[: len(transactions) // 2])
        bank.wait_for(bank.sent // 2)
        bank.registry.promote("fraud", "2")
        bank.wait_for(bank.sent * 4 // 5)
        bank.kill(1)
        bank.start(2)
        bank.produce(transactions[len(transactions) // 2 :])
        bank.wait_for(bank.sent)
    finally:
        bank.stop()
    entries = [journal.decode(one.value or b"") for one in bank.records("journal")]
    return {
        "units": len(entries),
        "sessions": len({(one.worker, one.process, one.session) for one in entries}),
        "workers": len({one.worker for one in entries}),
        "slices_read_of_others": sum(len(one.foreign) for one in entries),
    }


def _certified(config: Path) -> Certificate:
    with progress_bar("certify") as advance:
        return certify(CertifyRequest(config=config), advance)


def _tamper(bank: Bank) -> tuple[int, int]:
    """How many records were altered, and how many of those were found and named, and nothing else."""
    decisions, alerts = bank.records("decisions"), bank.records("alerts")
    middle = len(decisions) // 2
    feature = {"transactions_count_7d_by_customer": 99.0}
    changed = _altered(decisions[middle], features=feature)
    wrong_score = _altered(alerts[7], score=0.123456789)
    wanted = {
        ("altered", "decision", _place(decisions[middle])),
        ("missing", "decision", _place(decisions[middle + 1])),
        ("duplicated", "decision", _place(decisions[middle + 2])),
        ("altered", "alert", _place(alerts[7])),
        ("missing", "alert", _place(alerts[8])),
    }
    copied = [*decisions[:middle], changed, *decisions[middle + 2 :], decisions[middle + 2]]
    config = bank.settings(
        "altered.toml",
        decisions=bank.copy(copied, "altered-decisions"),
        alerts=bank.copy([*alerts[:7], wrong_score, *alerts[9:]], "altered-alerts"),
    )
    found = _certified(config)
    _say(found)
    named = {(one.what, one.record, one.place) for one in found.differences}
    caught = len(wanted & named) if found.different == len(wanted) else 0
    return len(wanted) + 1, caught + _lost_unit(bank)


def _lost_unit(bank: Bank) -> int:
    """1 if a unit of work taken out of the journal is noticed, event by event."""
    records = bank.records("journal")
    entries = [journal.decode(one.value or b"") for one in records]
    middle, topic = range(len(entries) // 2, len(entries)), f"{bank.name}-transactions"
    lost = next(n for n in middle if not entries[n].holdings and topic in dict(entries[n].partitions))
    topic = bank.copy([*records[:lost], *records[lost + 1 :]], "altered-journal")
    found = _certified(bank.settings("lost.toml", journal=topic))
    _say(found)
    return int(found.counts.missing == sum(entries[lost].runs[2::3]) == found.causes.get("lost record"))


def _altered(message: RawMessage, **changes: object) -> RawMessage:
    value = msgspec.json.decode(message.value or b"")
    value["features"] |= changes.pop("features", {})
    return message._replace(value=msgspec.json.encode(value | changes))


def _place(message: RawMessage) -> str:
    source = msgspec.json.decode(message.value or b"")["source"]
    return f"{source['topic']}[{source['partition']}]@{source['offset']}"


def _say(found: Certificate) -> None:
    for one in found.differences[:6]:
        print(f"  {one.what} {one.record} {one.place}: {one.cause} {list(one.fields)}")
    print(f"{found.verdict}: {found.different} differences {found.causes}; {found.counts}", flush=True)


if __name__ == "__main__":
    main()
