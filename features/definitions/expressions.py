"""SQL conditions and derived features, evaluated by Polars over whole batches.

An expression sees one event at a time: columns, operators, CASE and the functions in FUNCTIONS.
Sums and counts over several events are aggregations of a view, not SQL; they are refused, so that
no result can depend on how the stream was cut into batches. Everything is checked at load, and a
message points at the word (features/definitions/sql.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.core.batch import Column, Floats, SourceBatch, Strings
from features.core.errors import DefinitionError
from features.definitions.spec import Source
from features.definitions.sql import Fault, check_words, column_names, point_at

Types = dict[str, pl.DataType]
_TIME = pl.Datetime("us")  # without a zone, and UTC, so that it compares with TIMESTAMP literals
_DTYPES: dict[str, pl.DataType] = {
    "float64": pl.Float64(),
    "int64": pl.Int64(),
    "bool": pl.Boolean(),
    "string": pl.String(),
    "timestamp": _TIME,
}
_SAMPLES: dict[str, list[object]] = {
    "float64": [1.0, 0.0, -2.5, 1e300, 1e-300, None],
    "int64": [1, 0, -3, 2**53, -(2**53), None],
    "bool": [True, False, True, False, True, None],
    "string": ["x", "", "12.5", "é'%", "([", None],
    "timestamp": [0, 1_522_540_800_000_000, 1, 4_102_444_800_000_000, -1, None],
}
_NAMED_IN_MESSAGE = re.compile(
    r"""(?:col\("|function ['`]|name ['`]|unexpected token ['`]|found: )([^"'`)(,]+)"""
)
_KINDS = {"String": "a text", "Boolean": "true or false", "Datetime": "a time"}


def source_types(source: Source | None, numbers: Iterable[str] = (), texts: Iterable[str] = ()) -> Types:
    """The columns an expression may use: the source's, `event_time`, and features by name."""
    types: Types = {}
    if source is not None:
        types["event_time"] = _TIME
        types.update({field.name: _DTYPES[field.dtype] for field in source.fields})
    types.update({name: pl.Float64() for name in numbers})
    types.update({name: pl.String() for name in texts})
    return types


def check_condition(sql: str, types: Types, path: str) -> None:
    """Raise DefinitionError at `path` unless `sql` is a condition on `types`."""
    dtype = _checked(sql, types, path, types)
    if dtype != pl.Boolean:
        raise DefinitionError(path, f"expected a condition, got {_describe(dtype)}: {sql.strip()}")


def check_value(sql: str, types: Types, path: str, pending: Iterable[str] = ()) -> bool:
    """Whether a valid expression gives texts (else numbers); DefinitionError when it is not valid.

    `pending` are names that exist but are not yet computed; they are not unknown.
    """
    dtype = _checked(sql, types, path, {*types, *pending})
    if dtype == pl.String:
        return True
    if dtype.is_numeric() or dtype in (pl.Boolean, pl.Null):
        return False
    raise DefinitionError(path, f"expected a number or a text, got {_describe(dtype)}: {sql.strip()}")


def references(sql: str, path: str, names: Iterable[str]) -> list[str]:
    """Which of `names` an expression uses, in the order in which it does."""
    known = set(names)
    try:
        used = [name for name in column_names(sql) if name in known]
    except Fault as fault:
        raise DefinitionError(path, point_at(sql, fault)) from None
    return list(dict.fromkeys(used))


def frame_of(
    types: Types, columns: Mapping[str, Column], event_time: NDArray[np.int64], wanted: Iterable[str]
) -> pl.DataFrame:
    """A Polars frame of the wanted columns, typed for SQL: NaN becomes null, times become timestamps."""
    data = {}
    for name in wanted:
        data[name] = _series(name, event_time if name == "event_time" else columns[name], types[name])
    return pl.DataFrame(data) if data else pl.DataFrame({"event_time": event_time})


class Conditions:
    """Conditions of one source, compiled once; `bits` evaluates them all over a batch."""

    def __init__(self, source: Source, conditions: Sequence[str]) -> None:
        self._types = source_types(source)
        self._expressions = [
            pl.sql_expr(sql).fill_null(False).alias(str(bit)) for bit, sql in enumerate(conditions)
        ]
        self._used = sorted({name for e in self._expressions for name in e.meta.root_names()})

    def bits(self, batch: SourceBatch) -> NDArray[np.uint32]:
        """uint32[n]: bit k is set where condition k is true; null counts as false."""
        out = np.zeros(len(batch), dtype=np.uint32)
        if not self._expressions or not len(batch):
            return out
        frame = frame_of(self._types, batch.columns, batch.event_time, self._used)
        results = frame.with_columns(self._expressions)
        for bit in range(len(self._expressions)):
            true = results.get_column(str(bit)).to_numpy()
            out |= true.astype(np.uint32) << np.uint32(bit)
        return out


def to_floats(series: pl.Series) -> Floats:
    """float64 with NaN for null and for what is not finite (a division by zero)."""
    values = series.cast(pl.Float64).to_numpy(writable=True)
    values[~np.isfinite(values)] = np.nan
    return values


def to_strings(series: pl.Series) -> Strings:
    """Texts, None for null."""
    return series.to_list()


def _series(name: str, values: Column, dtype: pl.DataType) -> pl.Series:
    if isinstance(values, list):
        return pl.Series(name, values, dtype=pl.String)
    series = pl.Series(name, values, nan_to_null=True)
    if dtype == _TIME:
        return series.cast(pl.Int64).cast(_TIME)
    return series if series.dtype == dtype else series.cast(dtype)


def _checked(sql: str, types: Types, path: str, known: Iterable[str]) -> pl.DataType:
    try:
        check_words(sql, set(known))
    except Fault as fault:
        raise DefinitionError(path, point_at(sql, fault)) from None
    sample = pl.DataFrame([pl.Series(name, _SAMPLES[_kind(t)]).cast(t) for name, t in types.items()])
    try:
        return sample.with_columns(pl.sql_expr(sql).alias("")).get_column("").dtype
    except pl.exceptions.PolarsError as error:
        raise DefinitionError(path, point_at(sql, _fault_of(sql, str(error)))) from None


def _kind(dtype: pl.DataType) -> str:
    return next(kind for kind, known in _DTYPES.items() if known == dtype)


def _fault_of(sql: str, message: str) -> Fault:
    """Where in `sql` Polars' message points, as far as one can tell."""
    reason = message.strip().splitlines()[0]
    if "conversion from" in message:
        reason = "this CAST fails on some values; TRY_CAST gives null instead"
        word = r"\bCAST\b"
    elif match := _NAMED_IN_MESSAGE.search(message):
        word = re.escape(match[1].strip())
    else:
        return Fault(reason, 0, len(sql))
    hit = re.search(word, sql, re.IGNORECASE)
    return Fault(reason, hit.start(), hit.end()) if hit else Fault(reason, 0, len(sql))


def _describe(dtype: pl.DataType) -> str:
    if dtype.is_numeric():
        return "a number"
    return _KINDS.get(str(dtype.base_type()), str(dtype))
