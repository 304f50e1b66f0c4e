"""`make handbook`: the Fraud Detection Handbook's features for all of its transactions, compared row by row.

Materializes examples/handbook over 1,754,155 transactions and as many labels, each a week after its
transaction, and compares with the published features of 57,082 of them: counts and risks must be equal,
averages within 1e-9, on every row. Ten pairs of transactions of one customer in one second were published
in the other order; they are fed in that order, so that their rows are compared too.

Leaves all features in build/handbook.parquet and the figures, printed last, in build/handbook.json.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from features.definitions.project import load_definitions
from features.offline.materialize import run

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "handbook"
DATA = Path(os.environ.get("RISKSTREAM_DATA", ROOT.parent / "shared" / "data"))
BUILD = ROOT / "build"
DELAY_DAYS = 7
TOLERANCE = 1e-9
PUBLISHED_LATER = (
    (121453, 121454),
    (163831, 163832),
    (174806, 174807),
    (619758, 619759),
    (1240489, 1240490),
    (1350833, 1350834),
    (1472490, 1472491),
    (1553976, 1553977),
    (1633924, 1633926),
    (1653669, 1653670),
)
"""Transactions that the published table has in the opposite order."""


@dataclass(frozen=True)
class Comparison:
    """How many values of a column were compared, and how many differ."""

    column: str
    compared: int
    mismatches: int
    largest: float


def in_published_order(transactions: pl.DataFrame) -> pl.DataFrame:
    """The transactions with the ten pairs exchanged; times stay in order, as each pair shares a second."""
    first = dict(PUBLISHED_LATER)
    second = {other: one for one, other in PUBLISHED_LATER}
    place = pl.col("TRANSACTION_ID").cast(pl.Int64).replace({**first, **second})
    return transactions.sort("TX_DATETIME", place)


def labels_of(transactions: pl.DataFrame) -> pl.DataFrame:
    """One label a transaction, known exactly seven days after it."""
    return transactions.select(
        pl.col("TRANSACTION_ID").alias("LABEL_ID"),
        pl.col("TX_DATETIME").dt.offset_by(f"{DELAY_DAYS}d").alias("KNOWN_DATETIME"),
        "TRANSACTION_ID",
        "TX_DATETIME",
        "TERMINAL_ID",
        "TX_FRAUD",
    )


def published_names() -> dict[str, str]:
    """Published feature name -> ours."""
    names: dict[str, str] = json.loads((EXAMPLE / "columns.json").read_text())
    return names


def compare(ours: pl.DataFrame, golden: pl.DataFrame, names: Mapping[str, str]) -> list[Comparison]:
    """Every published value beside ours, where the golden file says that it may be compared."""
    joined = golden.join(ours, left_on="TRANSACTION_ID", right_on="event_id", how="left", suffix=" ours")
    results = []
    for published, name in names.items():
        rows = joined
        if published.startswith("CUSTOMER_ID"):
            rows = joined.filter("IN_CUSTOMER_SLICE")
        elif published.startswith("TERMINAL_ID"):
            rows = joined.filter("IN_TERMINAL_SLICE")
        allowed = TOLERANCE if "_AVG_" in published else 0.0
        expected = rows[published].cast(pl.Float64).to_numpy()
        got = rows[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        apart = np.abs(expected - got)
        wrong = ~(apart <= allowed)
        results.append(Comparison(published, len(rows), int(wrong.sum()), float(np.nanmax(apart))))
    return results


def materialized(transactions: pl.DataFrame, folder: Path, output: Path) -> tuple[int, float, float]:
    """Write inputs to a folder and features to `output`: events read, seconds, CPU seconds."""
    inputs = {"transactions": folder / "transactions.parquet", "labels": folder / "labels.parquet"}
    in_published_order(transactions).write_parquet(inputs["transactions"])
    labels_of(transactions).write_parquet(inputs["labels"])
    definitions = load_definitions(EXAMPLE / "definitions.py")
    started, used = time.perf_counter(), time.process_time()
    written = run(definitions, inputs, output)
    return written.read, time.perf_counter() - started, time.process_time() - used


def main() -> int:
    """Run all of it; 1 when a value differs, 2 without the data."""
    source = DATA / "handbook_transactions.parquet"
    if not source.is_file():
        sys.stderr.write(f"make handbook: {source} is not there; set RISKSTREAM_DATA to the folder with it\n")
        return 2
    inputs = BUILD / "handbook-inputs"
    inputs.mkdir(parents=True, exist_ok=True)
    transactions = pl.read_parquet(source)
    print("compiling the kernels (cached on disk)", flush=True)
    materialized(transactions.head(2_000), inputs, inputs / "warm.parquet")
    print(f"materializing {len(transactions):,} transactions and their labels", flush=True)
    output = BUILD / "handbook.parquet"
    events, seconds, cpu = materialized(transactions, inputs, output)
    names = published_names()
    ours = pl.read_parquet(output, columns=["event_id", *names.values()])
    golden = pl.read_parquet(DATA / "handbook_golden.parquet")
    results = compare(ours, golden, names)
    mismatches = sum(one.mismatches for one in results)
    complete = len(ours) == len(transactions) == ours["event_id"].n_unique()
    figures = {
        "rows": len(ours),
        "rows_compared": len(golden),
        "values_compared": sum(one.compared for one in results),
        "mismatches": mismatches,
        "events": events,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu, 2),
        "events_per_second": round(events / seconds),
        "events_per_cpu_second": round(events / cpu),
        "columns": {
            one.column: {"compared": one.compared, "mismatches": one.mismatches, "largest": one.largest}
            for one in results
        },
    }
    (BUILD / "handbook.json").write_text(json.dumps(figures, indent=2) + "\n")
    for one in results:
        print(
            f"{one.column:<38}{one.compared:>8} compared{one.mismatches:>8} differ, at most {one.largest:.1e}"
        )
    rates = f"{figures['events_per_second']:,}/s, {figures['events_per_cpu_second']:,} per CPU second"
    print(f"events      {events:,} ({rates})")
    print(
        f"rows        {len(ours):,} materialized, {len(golden):,} compared, {figures['values_compared']:,} values"
    )
    print(f"mismatches  {mismatches}")
    print(f"seconds     {seconds:.1f}")
    return 0 if mismatches == 0 and complete else 1


if __name__ == "__main__":
    sys.exit(main())
