"""Derived features: SQL over columns, aggregations and each other."""

from __future__ import annotations

import numpy as np
import pytest

from features.core.batch import FeatureMatrix, SourceBatch
from features.definitions.compile import compile_plan
from features.definitions.derived import DerivedFeatures
from features.definitions.plan import Plan
from features.definitions.spec import Aggregation, Definitions, Derived, FeatureView
from tests.definitions import CARD, make_source

SOURCE = make_source(
    "payments",
    {"id": "string", "at": "timestamp", "card": "string", "amount": "float64", "shop": "string"},
    optional=("shop",),
    topic="p",
)
SPEND = FeatureView(
    name="spend",
    source="payments",
    entity="card",
    windows=("1d",),
    aggregations=(
        Aggregation(function="mean", column="amount", name="usual"),
        Aggregation(function="last", column="shop", name="before"),
    ),
)


def plan_of(*sql: tuple[str, str]) -> Plan:
    derived = tuple(Derived(name=name, sql=text, source="payments") for name, text in sql)
    return compile_plan(
        Definitions(
            sources=(SOURCE,),
            entities=(CARD,),
            views=(SPEND,),
            derived=derived,
        )
    )


def matrix() -> FeatureMatrix:
    times = np.array([0, 1_000_000, 43_200_000_000], dtype=np.int64)
    zeros = np.zeros(3, dtype=np.int64)
    batch = SourceBatch(
        source=SOURCE,
        event_ids=["a", "b", "c"],
        event_time=times,
        received_time=times,
        partition=zeros.astype(np.int32),
        offset=zeros,
        position=zeros,
        columns={
            "id": ["a", "b", "c"],
            "at": times.astype(np.float64),
            "card": ["1", "1", "1"],
            "amount": np.array([10.0, 20.0, 0.0]),
            "shop": ["x", None, "y"],
        },
    )
    none = np.zeros(3, dtype=np.bool_)
    values = np.array([[np.nan], [10.0], [0.0]])
    return FeatureMatrix(batch, ("usual",), values, {"before": [None, "x", "y"]}, {}, none, none)


def test_a_derived_feature_may_use_those_defined_after_it() -> None:
    plan = plan_of(("twice", "ratio * 2"), ("ratio", "amount / usual"), ("plus", "twice + ratio"))
    out = DerivedFeatures(plan).add(matrix())
    assert out.names == plan.readers["payments"].names == ("usual", "ratio", "twice", "plus")
    np.testing.assert_array_equal(out.column("ratio"), [np.nan, 2.0, np.nan])
    np.testing.assert_array_equal(out.column("plus"), [np.nan, 6.0, np.nan])


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("amount / 0", [np.nan, np.nan, np.nan]),
        ("1", [1, 1, 1]),
        ("amount > 10", [0, 1, 0]),
        ("usual IS NULL", [1, 0, 0]),
        ("COALESCE(usual, -1)", [-1, 10, 0]),
        ("shop = before", [np.nan, np.nan, 1]),
        ("EXTRACT(hour FROM event_time)", [0, 0, 12]),
        ("CASE WHEN amount > 10 THEN 2.5 END", [np.nan, 2.5, np.nan]),
    ],
)
def test_values(sql: str, expected: list[float]) -> None:
    out = DerivedFeatures(plan_of(("x", sql))).add(matrix())
    np.testing.assert_array_equal(out.column("x"), np.array(expected, dtype=np.float64))


@pytest.mark.parametrize(
    ("name", "sql", "expected"),
    [
        ("hour", "EXTRACT(hour FROM event_time)", [0, 0, 12]),
        ("hour", "HOUR(event_time)", [0, 0, 12]),
        ("day", "DATE_PART('day', event_time)", [1, 1, 1]),
        ("sqrt", "SQRT(amount / 10) * 0 + 1", [1, 1, 1]),
        ("double", "CAST(amount AS double)", [10, 20, 0]),
    ],
)
def test_a_feature_named_like_a_function_or_a_part_of_a_date_is_no_circle(name, sql, expected) -> None:
    out = DerivedFeatures(plan_of((name, sql))).add(matrix())
    np.testing.assert_array_equal(out.column(name), np.array(expected, dtype=np.float64))


def test_what_has_no_mean_has_no_ratio() -> None:
    ratio, score = "amount / NULLIF(usual, 0)", "(amount - usual) / NULLIF(usual, 0)"
    out = DerivedFeatures(plan_of(("ratio", ratio), ("score", score))).add(matrix())
    np.testing.assert_array_equal(out.column("ratio"), [np.nan, 2.0, np.nan])
    np.testing.assert_array_equal(out.column("score"), [np.nan, 1.0, np.nan])


def test_texts() -> None:
    plan = plan_of(("path", "before || '>' || shop"), ("long", "LENGTH(path)"))
    out = DerivedFeatures(plan).add(matrix())
    assert out.strings["path"] == [None, None, "y>y"]
    assert plan.readers["payments"].text_names == ("before", "path")
    np.testing.assert_array_equal(out.column("long"), [np.nan, np.nan, 3])


def test_a_batch_cut_anywhere_gives_the_same() -> None:
    plan = plan_of(("ratio", "amount / usual"), ("night", "EXTRACT(hour FROM at) < 6"))
    whole = DerivedFeatures(plan).add(matrix()).values
    one = matrix()
    for row in range(3):
        batch = one.batch
        part = SourceBatch(
            batch.source,
            [batch.event_ids[row]],
            batch.event_time[row : row + 1],
            batch.received_time[row : row + 1],
            batch.partition[row : row + 1],
            batch.offset[row : row + 1],
            batch.position[row : row + 1],
            {name: column[row : row + 1] for name, column in batch.columns.items()},
        )
        strings = {"before": one.strings["before"][row : row + 1]}
        none = one.late[:1]
        cut = FeatureMatrix(part, one.names, one.values[row : row + 1], strings, {}, none, none)
        np.testing.assert_array_equal(DerivedFeatures(plan).add(cut).values[0], whole[row])


def test_without_derived_features_nothing_is_copied() -> None:
    given = matrix()
    assert DerivedFeatures(plan_of()).add(given) is given
