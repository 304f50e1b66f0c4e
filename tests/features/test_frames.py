"""Tables become batches: types, aliases, times, and the place of what does not fit."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import polars as pl
import pytest

from features.core.errors import ConfigurationError
from features.definitions.spec import Field, Source
from features.offline.reader import FrameReader, concatenated

FIELDS = (
    Field(name="id", dtype="string"),
    Field(name="at", dtype="timestamp"),
    Field(name="amount", dtype="float64", alias="payment.amount", minimum=0, required=False),
    Field(name="items", dtype="int64", required=False, maximum=9),
    Field(name="ok", dtype="bool", required=False),
)


def reader(**changes: Any) -> FrameReader:
    settings: dict[str, Any] = {"fields": FIELDS, "time_format": "ms", **changes}
    return FrameReader(Source(name="s", topic="s", event_id="id", event_time="at", **settings), "events.csv")


def frame(**columns: Any) -> pl.DataFrame:
    return pl.DataFrame({"id": ["a", "b"], "at": [1000, 2000], **columns})


def test_columns_have_the_declared_types() -> None:
    batch = reader().batch(frame(amount=["1.5", None], items=["3", "4"], ok=["True", "0"]).fill_null("1.0"))
    np.testing.assert_array_equal(batch.columns["amount"], [1.5, 1.0])
    np.testing.assert_array_equal(batch.columns["ok"], [1.0, 0.0])
    assert batch.columns["id"] == ["a", "b"]
    assert batch.event_time.tolist() == [1_000_000, 2_000_000]
    assert batch.event_ids == ["a", "b"]


def test_missing_optional_columns_are_null() -> None:
    batch = reader().batch(frame())
    assert np.isnan(batch.columns["amount"]).all()  # type: ignore[arg-type]


def test_an_alias_reaches_into_structures() -> None:
    batch = reader().batch(frame(payment=[{"amount": 7.0}, {"amount": None}]))
    np.testing.assert_array_equal(batch.columns["amount"], [7.0, np.nan])


def test_numbers_may_be_ids() -> None:
    batch = reader().batch(frame().with_columns(id=pl.Series([17, 18])))
    assert batch.event_ids == ["17", "18"]


@pytest.mark.parametrize(
    ("values", "time_format", "expected"),
    [
        ([1.5, 2.0], "s", [1_500_000, 2_000_000]),
        ([5, 6], "us", [5, 6]),
        ([5999, 6000], "ns", [5, 6]),
        (["1970-01-01T00:00:01", "1970-01-01 00:00:02.5"], "iso8601", [1_000_000, 2_500_000]),
        (["1970-01-01T02:00:01+02:00", "1970-01-01T00:00:02Z"], "iso8601", [1_000_000, 2_000_000]),
        (["1970-01-02", "1970-01-02T00:00:00"], "iso8601", [86_400_000_000] * 2),
        (["02/01/1970 01", "02/01/1970 02"], "%d/%m/%Y %H", [90_000_000_000, 93_600_000_000]),
        ([datetime(1970, 1, 1, 0, 0, 1), datetime(1970, 1, 1, 0, 0, 2)], "s", [1_000_000, 2_000_000]),
        ([datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)] * 2, "iso8601", [1_000_000] * 2),
        ([datetime(1970, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))] * 2, "s", [0, 0]),
        ([date(1970, 1, 2), date(1970, 1, 3)], "ms", [86_400_000_000, 172_800_000_000]),
    ],
)
def test_times(values: list[Any], time_format: str, expected: list[int]) -> None:
    times = pl.Series(values)
    batch = reader(time_format=time_format).batch(frame().with_columns(at=times))
    assert batch.event_time.tolist() == expected


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": ["a", None]}, "events.csv row 1 id: is null, but required"),
        ({"at": [1000, None]}, "events.csv row 1 at: is null, but required"),
        ({"at": ["1000", "soon"]}, "events.csv row 1 at: expected timestamp, got 'soon'"),
        ({"amount": ["1", "12,0"]}, "events.csv row 1 amount: expected float64, got '12,0'"),
        ({"amount": [-1.0, 1.0]}, "events.csv row 0 amount: is below 0, got -1.0"),
        ({"amount": [1.0, float("inf")]}, "events.csv row 1 amount: expected a finite number, got inf"),
        ({"items": [1, 10]}, "events.csv row 1 items: is above 9, got 10"),
        ({"items": [1.0, 1.5]}, "events.csv row 1 items: expected int64, got 1.5"),
        ({"ok": ["yes", "true"]}, "events.csv row 0 ok: expected bool, got 'yes'"),
        ({"ok": [0.0, 2.0]}, "events.csv row 1 ok: expected bool, got 2.0"),
        ({"id": [1.0, 2.0]}, "events.csv: column `id` holds Float64, but `id` is string"),
        ({"at": [2000, 1000]}, "events.csv row 1: `at` is earlier than in the row before"),
    ],
)
def test_what_does_not_fit_is_told_with_its_row(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        reader().batch(frame(**columns) if "id" not in columns else pl.DataFrame({"at": [1, 2], **columns}))
    assert str(caught.value).startswith(message)


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"no column `id`; it has at"):
        reader().batch(pl.DataFrame({"at": [1]}))


def test_rows_are_counted_and_ordered_over_frames() -> None:
    one = reader()
    one.batch(frame())
    assert one.batch(frame(at=[2000, 3000])).offset.tolist() == [2, 3]
    with pytest.raises(ConfigurationError, match="row 4"):
        one.batch(frame(at=[2999, 3000]))


def test_batches_are_cut_and_joined_again() -> None:
    whole = reader().batch(frame(amount=[1.0, 2.0]))
    again = concatenated([whole.take(slice(0, 1)), whole.take(slice(1, 2))])
    assert again.event_ids == whole.event_ids
    for name, column in whole.columns.items():
        np.testing.assert_array_equal(again.columns[name], column)
