"""The handbook's published features, on the first weeks of its transactions; `make handbook` does all of them."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from benchmarks import handbook
from features.definitions.compile import compile_plan
from features.definitions.project import load_definitions

ROWS = 400_000


@pytest.fixture(scope="module")
def transactions() -> pl.DataFrame:
    path = handbook.DATA / "handbook_transactions.parquet"
    if not path.is_file():
        reason = f"{path} is not there: the handbook's data is not part of the repository"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return pl.read_parquet(path).head(ROWS)


@pytest.fixture(scope="module")
def ours(transactions: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    folder = tmp_path_factory.mktemp("handbook")
    handbook.materialized(transactions, folder, folder / "out.parquet")
    return pl.read_parquet(folder / "out.parquet")


@pytest.fixture(scope="module")
def golden(transactions: pl.DataFrame) -> pl.DataFrame:
    published = pl.read_parquet(handbook.DATA / "handbook_golden.parquet")
    return published.filter(pl.col("TRANSACTION_ID") < len(transactions))


def test_every_published_value_is_ours(ours: pl.DataFrame, golden: pl.DataFrame) -> None:
    assert ours["event_id"].n_unique() == len(ours) == ROWS
    results = handbook.compare(ours, golden, handbook.published_names())
    assert [one for one in results if one.mismatches] == []
    assert len(results) == 14
    assert min(one.compared for one in results) > 5_000


def test_one_wrong_value_is_seen(ours: pl.DataFrame, golden: pl.DataFrame) -> None:
    names = handbook.published_names()
    some = golden.filter("IN_CUSTOMER_SLICE")["TRANSACTION_ID"][7]
    for published in ("CUSTOMER_ID_NB_TX_7DAY_WINDOW", "CUSTOMER_ID_AVG_AMOUNT_7DAY_WINDOW"):
        name = names[published]
        wrong = pl.when(pl.col("event_id") == some).then(pl.col(name) + 2e-9).otherwise(name).alias(name)
        results = handbook.compare(ours.with_columns(wrong), golden, names)
        assert {one.column: one.mismatches for one in results if one.mismatches} == {published: 1}


def test_a_missing_row_is_seen(ours: pl.DataFrame, golden: pl.DataFrame) -> None:
    some = golden.filter("IN_TERMINAL_SLICE")["TRANSACTION_ID"][3]
    results = handbook.compare(ours.filter(pl.col("event_id") != some), golden, handbook.published_names())
    assert sum(one.mismatches for one in results) >= 8


def test_pairs_are_fed_as_published_and_labels_a_week_later(transactions: pl.DataFrame) -> None:
    fed = handbook.in_published_order(transactions)
    assert fed["TX_DATETIME"].is_sorted()
    ids = fed["TRANSACTION_ID"].to_list()
    assert ids.index(121454) + 1 == ids.index(121453)
    moved = [one for one, place in zip(ids, range(len(ids)), strict=True) if one != place]
    assert len(moved) == 2 * sum(pair[1] < ROWS for pair in handbook.PUBLISHED_LATER)
    labels = handbook.labels_of(fed)
    late = (labels["KNOWN_DATETIME"] - labels["TX_DATETIME"]).unique().to_list()
    assert late == [timedelta(days=7)]


def test_every_published_name_is_a_feature_of_the_example() -> None:
    plan = compile_plan(load_definitions(handbook.EXAMPLE / "definitions.py"))
    mapped = json.loads((Path(handbook.EXAMPLE) / "columns.json").read_text())
    assert sorted(mapped.values()) == sorted(plan.readers["transactions"].names)
