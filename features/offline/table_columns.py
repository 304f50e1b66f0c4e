"""Columns of tables (Parquet, CSV, frames) brought to the declared types, with what does not fit.

Used for recorded events and for profiles alike. Times may be timestamps, dates, texts, or numbers
in the declared `time_format`; a time without a zone is UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from features.core.errors import ConfigurationError
from features.definitions.spec import Field

TIME = pl.Datetime("us")
DTYPES: dict[str, pl.DataType] = {
    "float64": pl.Float64(),
    "int64": pl.Int64(),
    "bool": pl.Boolean(),
    "string": pl.String(),
    "timestamp": TIME,
}
_PER_MICRO = {"s": 1e-6, "ms": 1e-3, "us": 1.0, "ns": 1e3}
_TRUTH = {"true": True, "false": False, "1": True, "0": False}


@dataclass(frozen=True)
class TypedColumn:
    """A column of the declared type, and which rows do not fit for which reason.

    A wrong value is null in `series`. `raw` is what the table held.
    """

    series: pl.Series
    raw: pl.Series
    faults: tuple[tuple[str, pl.Series], ...]


def typed_column(frame: pl.DataFrame, field: Field, time_format: str, name: str) -> TypedColumn:
    """Find and convert a field's column; ConfigurationError at `name` where there can be none."""
    raw = _find(frame, field, name)
    if raw.dtype.is_float():
        raw = raw.fill_nan(None)
    series = _cast(raw, field, time_format, name)
    faults: list[tuple[str, pl.Series]] = []

    def fault(reason: str, wrong: pl.Series) -> None:
        if bool(wrong.any()):
            faults.append((reason, wrong.fill_null(False)))

    if series.null_count() > raw.null_count():
        fault(f"expected {field.dtype}", series.is_null() & raw.is_not_null())
    if field.dtype in ("int64", "bool") and raw.dtype.is_float():
        fault(f"expected {field.dtype}", series.cast(pl.Float64) != raw)
    if field.required and raw.null_count():
        fault("is null, but required", raw.is_null())
    if field.dtype == "float64":
        fault("expected a finite number", ~series.is_finite())
    if field.minimum is not None:
        fault(f"is below {field.minimum:g}", series < field.minimum)
    if field.maximum is not None:
        fault(f"is above {field.maximum:g}", series > field.maximum)
    return TypedColumn(series.alias(field.name), raw, tuple(faults))


def _find(frame: pl.DataFrame, field: Field, name: str) -> pl.Series:
    for column in (field.name, field.alias):
        if column is not None and column in frame.columns:
            return frame.get_column(column)
    head, *inner = (field.alias or field.name).split(".")
    series: pl.Series | None = frame.get_column(head) if head in frame.columns else None
    for member in inner:
        structure = (
            series is not None and isinstance(series.dtype, pl.Struct) and member in series.struct.fields
        )
        series = series.struct.field(member) if series is not None and structure else None
    if series is not None:
        return series
    if field.required:
        raise ConfigurationError(f"{name}: no column `{field.name}`; it has {', '.join(frame.columns)}")
    return pl.Series(field.name, [None] * len(frame), dtype=DTYPES[field.dtype])


def _cast(raw: pl.Series, field: Field, time_format: str, name: str) -> pl.Series:
    if field.dtype == "timestamp":
        return _times(raw, field, time_format, name)
    if field.dtype == "bool" and raw.dtype == pl.String:
        return raw.str.to_lowercase().replace_strict(_TRUTH, default=None, return_dtype=pl.Boolean)
    if raw.dtype.is_temporal() or raw.dtype.is_nested() or (field.dtype == "string" and raw.dtype.is_float()):
        raise ConfigurationError(
            f"{name}: column `{raw.name}` holds {raw.dtype}, but `{field.name}` is {field.dtype}"
        )
    return raw.cast(DTYPES[field.dtype], strict=False)


def _times(raw: pl.Series, field: Field, time_format: str, name: str) -> pl.Series:
    if isinstance(raw.dtype, pl.Datetime):
        return _utc(raw).cast(TIME)
    if raw.dtype in (pl.Date, pl.Null):
        return raw.cast(TIME)
    if time_format in _PER_MICRO:
        numbers = raw.cast(pl.Float64 if time_format in ("s", "ms") else pl.Int64, strict=False)
        micros = numbers // 1000 if time_format == "ns" else (numbers / _PER_MICRO[time_format]).round()
        return micros.cast(pl.Int64).cast(TIME)
    if raw.dtype != pl.String:
        raise ConfigurationError(
            f"{name}: column `{raw.name}` holds {raw.dtype}, but `{field.name}` is a time as {time_format}"
        )
    texts = raw.str.strip_chars()
    if time_format == "iso8601":
        return _iso8601(texts)
    try:
        return _utc(texts.str.to_datetime(time_format, time_unit="us", strict=False))
    except pl.exceptions.ComputeError:  # a format that Polars does not know, such as hours without minutes
        times = [_strptime(text, time_format) for text in texts]
        return pl.Series(raw.name, times, dtype=TIME)


def _strptime(text: str | None, time_format: str) -> datetime | None:
    try:
        time = None if text is None else datetime.strptime(text, time_format)
    except ValueError:
        return None
    return time.astimezone(UTC).replace(tzinfo=None) if time is not None and time.tzinfo else time


def _iso8601(texts: pl.Series) -> pl.Series:
    plain = texts.str.replace(" ", "T").str.replace(r"^(\d{4}-\d\d-\d\d)$", "${1}T00:00:00")
    local = plain.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)
    zoned = texts.str.contains(r"(?:Z|[+-]\d\d:?\d\d)$")
    if not bool(zoned.any()):
        return local
    offsets = plain.str.replace("Z$", "+00:00")
    shifted = _utc(offsets.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%#z", time_unit="us", strict=False))
    return pl.select(pl.when(zoned).then(shifted).otherwise(local)).to_series()


def _utc(series: pl.Series) -> pl.Series:
    dtype = series.dtype
    if isinstance(dtype, pl.Datetime) and dtype.time_zone:
        return series.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return series
