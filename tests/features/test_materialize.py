"""Features of recorded events: merged by time, point-in-time, the same however they are read."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from features.core.errors import ConfigurationError
from features.definitions.compile import compile_plan
from features.definitions.spec import (
    Aggregation,
    Definitions,
    Derived,
    FeatureView,
    Field,
    LabelOf,
    Profile,
)
from features.offline.materialize import materialize, run
from features.offline.merge import batches
from features.profiles.joins import FrameProfiles
from tests.definitions import CARD, SHOP, make_source

START = datetime(2026, 1, 1)
PAYMENTS = make_source(
    "payments",
    {"id": "int64", "at": "timestamp", "card": "string", "shop": "string", "amount": "float64", "ok": "bool"},
    optional=("shop", "ok"),
    key="card",
    time_format="iso8601",
)
FRAUDS = make_source(
    "frauds",
    {
        "id": "int64",
        "known": "timestamp",
        "payment": "int64",
        "at": "timestamp",
        "shop": "string",
        "fraud": "bool",
    },
    time_format="iso8601",
    labels=LabelOf(event_id="payment", value="fraud", event_time="at"),
)
DEFINITIONS = Definitions(
    sources=(PAYMENTS, FRAUDS),
    entities=(CARD, SHOP),
    views=(
        FeatureView(
            name="spend",
            source="payments",
            entity="card",
            windows=("1h", "1d"),
            aggregations=(
                Aggregation(function="count"),
                Aggregation(function="mean", column="amount"),
                Aggregation(function="distinct", column="shop"),
                Aggregation(function="last", column="shop", windows=("1d",), include_current=False),
            ),
        ),
        FeatureView(
            name="risk",
            source="frauds",
            entity="shop",
            windows=("1d",),
            aggregations=(Aggregation(function="count"), Aggregation(function="rate")),
        ),
    ),
    derived=(Derived(name="ratio", sql="amount / amount_mean_1d_by_card", source="payments"),),
)


def frames(count: int = 3_000, seed: int = 3) -> dict[str, pl.DataFrame]:
    """Payments of a few days with ties, nulls, and a label for each two hours later."""
    random = np.random.default_rng(seed)
    seconds = np.sort(random.integers(0, 200_000, count))
    at = pl.Series([START + timedelta(seconds=int(s)) for s in seconds], dtype=pl.Datetime("us"))
    shops = [None if s == 0 else f"shop {s}" for s in random.integers(0, 9, count)]
    payments = pl.DataFrame(
        {
            "id": np.arange(count),
            "at": at,
            "card": [f"card {c}" for c in random.integers(0, 40, count)],
            "shop": shops,
            "amount": np.round(random.exponential(50, count), 2),
            "ok": [None if o == 2 else bool(o) for o in random.integers(0, 3, count)],
        }
    )
    known = payments.filter(pl.col("shop").is_not_null())
    frauds = known.select(
        pl.col("id"),
        (pl.col("at") + pl.duration(hours=2)).alias("known"),
        pl.col("id").alias("payment"),
        "at",
        "shop",
        (pl.col("id") % 7 == 0).alias("fraud"),
    )
    return {"payments": payments, "frauds": frauds}


def test_values_of_a_small_stream() -> None:
    payments = pl.DataFrame(
        {
            "id": [1, 2, 3],
            "at": [START, START + timedelta(minutes=30), START + timedelta(hours=1)],
            "card": ["a"] * 3,
            "shop": ["x", "y", "x"],
            "amount": [10.0, 20.0, 60.0],
        }
    )
    frauds = pl.DataFrame(
        {
            "id": [9],
            "known": [START + timedelta(hours=1)],
            "payment": [1],
            "at": [START],
            "shop": ["x"],
            "fraud": [True],
        }
    )
    out = materialize({"payments": payments, "frauds": frauds}, DEFINITIONS)
    assert out.columns[:7] == ["event_id", "event_time", "id", "at", "card", "shop", "amount"]
    assert out["event_id"].to_list() == [1, 2, 3]
    assert out["payments_count_1h_by_card"].to_list() == [1, 2, 2]
    assert out["amount_mean_1d_by_card"].to_list() == [10, 15, 30]
    assert out["shop_last_1d_by_card"].to_list() == [None, "x", "y"]
    assert out["frauds_rate_1d_by_shop"].to_list() == [None, None, 1.0], (
        "labels come first where times are equal"
    )
    assert out["ratio"].to_list() == [1.0, 20 / 15, 2.0]
    assert out["ok"].to_list() == [None] * 3
    assert out["duplicate"].to_list() == out["late"].to_list() == [False] * 3


def test_files_of_any_kind_give_what_frames_give(tmp_path: Path) -> None:
    given = frames()
    expected = materialize(given, DEFINITIONS)
    for suffix in ("parquet", "csv"):
        inputs = {name: tmp_path / f"{name}.{suffix}" for name in given}
        for name, frame in given.items():
            getattr(frame, f"write_{suffix}")(inputs[name])
        heard: list[tuple[int, int]] = []
        written = run(DEFINITIONS, inputs, tmp_path / "out.parquet", lambda d, t, h=heard: h.append((d, t)))  # type: ignore[misc]
        total = sum(map(len, given.values()))
        assert (written.rows, written.read) == (3_000, total)
        assert heard[-1] == (total, total)
        assert_frame_equal(pl.read_parquet(tmp_path / "out.parquet"), expected)


def test_pandas_frames_give_a_pandas_frame() -> None:
    given = frames(200)
    expected = materialize(given, DEFINITIONS)
    out = materialize({name: frame.to_pandas() for name, frame in given.items()}, DEFINITIONS)
    assert type(out).__module__.startswith("pandas")
    assert_frame_equal(pl.from_pandas(out), expected, check_dtypes=False)


def test_the_size_of_batches_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    given = frames(1_000)
    plan = compile_plan(DEFINITIONS)
    lazy = {name: frame.lazy() for name, frame in given.items()}
    order = [_order(batches(plan, lazy, size)) for size in (5, 64, 1_000, 100_000)]
    assert order[0] == order[1] == order[2] == order[3]
    expected = materialize(given, DEFINITIONS)
    for size in (13, 700):
        monkeypatch.setattr(batches, "__defaults__", (size,))
        assert_frame_equal(materialize(given, DEFINITIONS), expected)


def _order(made: Any) -> list[tuple[int, str, int]]:
    """(time, source, row) of all events in scoring order."""
    events = []
    for batch in made:
        rows = [
            (int(place), int(time), part.source.name, int(row))
            for part in batch.source_batches
            for place, time, row in zip(part.position, part.event_time, part.offset, strict=True)
        ]
        assert sorted(row[0] for row in rows) == list(range(len(batch)))
        events += [row[1:] for row in sorted(rows)]
    ranked = [(time, source != "frauds", row) for time, source, row in events]
    assert ranked == sorted(ranked)
    return events


def test_the_future_changes_nothing() -> None:
    given = frames()
    whole = materialize(given, DEFINITIONS)
    cut = START + timedelta(seconds=100_000)
    past = {
        "payments": given["payments"].filter(pl.col("at") < cut),
        "frauds": given["frauds"].filter(pl.col("known") < cut),
    }
    assert_frame_equal(materialize(past, DEFINITIONS), whole.filter(pl.col("event_time") < cut))


def test_profiles_and_their_flags_are_in_the_output() -> None:
    profile = Profile(name="holder", entity="card", fields=(Field(name="income", dtype="float64"),))
    definitions = replace(DEFINITIONS, profiles=(profile,))
    given = frames(50)
    with pytest.raises(ConfigurationError, match=r"has profiles \(holder\)"):
        materialize(given, definitions)
    people = pl.DataFrame({"card": [f"card {n}" for n in range(20)], "income": [float(n) for n in range(20)]})
    joined = FrameProfiles(compile_plan(definitions), {"holder": people})
    out = materialize(given, definitions, profiles=joined)
    missing = [int(card.split()[1]) >= 20 for card in out["card"]]
    assert out["profile_missing:holder"].to_list() == missing
    assert (out["income_of_card"].is_null().to_numpy() == np.array(missing)).all()


def test_an_unsorted_file_is_told_with_its_row_and_leaves_no_output(tmp_path: Path) -> None:
    given = frames(100)
    given["payments"].reverse().write_parquet(tmp_path / "p.parquet")
    with pytest.raises(
        ConfigurationError, match=r"input payments row \d+: `at` is earlier than in the row before"
    ):
        run(DEFINITIONS, {"payments": tmp_path / "p.parquet"}, tmp_path / "out.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["p.parquet"]


def test_inputs_without_rows_give_an_empty_table(tmp_path: Path) -> None:
    given = {name: frame.head(0) for name, frame in frames(5).items()}
    out = materialize(given, DEFINITIONS)
    assert len(out) == 0
    assert out.schema == materialize(frames(5), DEFINITIONS).schema
    given["payments"].write_parquet(tmp_path / "p.parquet")
    assert run(DEFINITIONS, {"payments": tmp_path / "p.parquet"}, tmp_path / "out.parquet").rows == 0


def test_one_scored_source_is_chosen() -> None:
    given = frames(20)
    with pytest.raises(ConfigurationError, match="0 inputs are scored"):
        materialize({"frauds": given["frauds"]}, DEFINITIONS)
    refunds = replace(PAYMENTS, name="refunds", topic="refunds")
    definitions = replace(DEFINITIONS, sources=(PAYMENTS, refunds, FRAUDS))
    both = {**given, "refunds": given["payments"]}
    with pytest.raises(ConfigurationError, match=r"2 inputs are scored \(payments, refunds\)"):
        materialize(both, definitions)
    out = materialize(both, definitions, source="refunds")
    assert out["payments_count_1d_by_card"].to_list() != [0] * 20
    with pytest.raises(ConfigurationError, match="input `refund` is no source"):
        materialize({"payments": given["payments"], "refund": given["payments"]}, DEFINITIONS)
