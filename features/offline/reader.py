"""Tables become batches: Polars frames with a source's columns, checked as the live decoder checks them.

A column is found by its field's name, or else by its alias on the wire. A value that does not fit
is an error that names file, row and column: recorded data is corrected, not dead-lettered.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from features.core.batch import Column, Floats, Ints, SourceBatch
from features.core.errors import ConfigurationError
from features.definitions.spec import Field, FieldType, Source
from features.offline.table_columns import DTYPES, TIME, typed_column


class FrameReader:
    """Reads one source's events from frames of its columns, in order of time.

    `name` is how messages name the input (a file's path). Frames are given one after the other;
    rows are counted over all of them.
    """

    def __init__(self, source: Source, name: str) -> None:
        self._source = source
        self._name = name
        self._rows = 0
        self._newest = np.iinfo(np.int64).min

    def batch(self, frame: pl.DataFrame) -> SourceBatch:
        """The next rows as a batch; ConfigurationError names the first row that is wrong."""
        source = self._source
        typed = {field.name: self._typed(frame, field) for field in source.fields}
        times = typed[source.event_time].cast(pl.Int64).to_numpy()
        self._check_order(times)
        count = len(frame)
        rows = np.arange(self._rows, self._rows + count, dtype=np.int64)
        self._rows += count
        return SourceBatch(
            source=source,
            event_ids=typed[source.event_id].cast(pl.String).to_list(),
            event_time=times,
            received_time=times,
            partition=np.zeros(count, dtype=np.int32),
            offset=rows,
            position=rows,
            columns={name: _column(series) for name, series in typed.items()},
        )

    def _typed(self, frame: pl.DataFrame, field: Field) -> pl.Series:
        column = typed_column(frame, field, self._source.time_format, self._name)
        for reason, wrong in column.faults:
            row = int(wrong.arg_max() or 0)
            got = "" if column.raw[row] is None else f", got {column.raw[row]!r}"
            raise ConfigurationError(f"{self._name} row {self._rows + row} {field.name}: {reason}{got}")
        return column.series

    def _check_order(self, times: Ints) -> None:
        if not len(times):
            return
        before = np.concatenate([[self._newest], times[:-1]])
        wrong = np.flatnonzero(times < before)
        if len(wrong):
            row = self._rows + int(wrong[0])
            raise ConfigurationError(
                f"{self._name} row {row}: `{self._source.event_time}` is earlier than in the row before; "
                "sort the input by it"
            )
        self._newest = int(times[-1])


def concatenated(batches: Sequence[SourceBatch]) -> SourceBatch:
    """Batches of one source, one after the other."""
    if len(batches) == 1:
        return batches[0]
    first = batches[0]
    return SourceBatch(
        source=first.source,
        event_ids=[event_id for batch in batches for event_id in batch.event_ids],
        event_time=np.concatenate([batch.event_time for batch in batches]),
        received_time=np.concatenate([batch.received_time for batch in batches]),
        partition=np.concatenate([batch.partition for batch in batches]),
        offset=np.concatenate([batch.offset for batch in batches]),
        position=np.concatenate([batch.position for batch in batches]),
        columns={name: _joined([batch.columns[name] for batch in batches]) for name in first.columns},
    )


def typed_series(name: str, values: Column, dtype: FieldType) -> pl.Series:
    """A batch's column as a Polars series of the field's type, null where it was null."""
    if isinstance(values, list):
        return pl.Series(name, values, dtype=pl.String)
    numbers = pl.Series(name, values, nan_to_null=True)
    return numbers.cast(pl.Int64).cast(TIME) if dtype == "timestamp" else numbers.cast(DTYPES[dtype])


def _joined(columns: Sequence[Column]) -> Column:
    if isinstance(columns[0], list):
        return [value for column in columns for value in column]
    return np.concatenate(columns)  # type: ignore[arg-type]


def _column(series: pl.Series) -> Column:
    if series.dtype == pl.String:
        return series.to_list()
    numbers = series.cast(pl.Int64) if series.dtype == TIME else series
    values: Floats = numbers.cast(pl.Float64).to_numpy()
    return values
