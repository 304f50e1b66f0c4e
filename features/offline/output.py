"""Materialized features as tables: the columns of the output, and Parquet files written in pieces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from features.core.batch import FeatureMatrix, SourceBatch
from features.definitions.plan import Plan
from features.offline.reader import typed_series

PIECE_ROWS = 262_144


def output_frame(plan: Plan, matrix: FeatureMatrix) -> pl.DataFrame:
    """One row an event: id, time, the event's columns, features, `duplicate`, `late`, flags."""
    batch = matrix.batch
    source = batch.source
    own = [typed_series(field.name, batch.columns[field.name], field.dtype) for field in source.fields]
    by_name = {series.name: series for series in own}
    reader = plan.readers[source.name]
    columns = [
        by_name[source.event_id].alias("event_id"),
        pl.Series("event_time", batch.event_time).cast(pl.Datetime("us")),
        *(series for series in own if series.name not in ("event_id", "event_time")),
    ]
    column_of = {name: column for column, name in enumerate(matrix.names)}
    columns += [pl.Series(name, matrix.values[:, column_of[name]], nan_to_null=True) for name in reader.names]
    columns += [pl.Series(name, matrix.strings[name], dtype=pl.String) for name in reader.text_names]
    columns += [pl.Series("duplicate", matrix.duplicate), pl.Series("late", matrix.late)]
    for profile in reader.profiles:
        for flag in (f"profile_missing:{profile.name}", f"profile_stale:{profile.name}"):
            values = matrix.flags.get(flag, np.zeros(len(matrix), dtype=np.bool_))
            columns.append(pl.Series(flag, values))
    return pl.DataFrame(columns)


def empty_frame(plan: Plan, target: str) -> pl.DataFrame:
    """The output of a source without events: the columns alone."""
    source = plan.sources[target]
    reader = plan.readers[target]
    none = np.zeros(0, dtype=np.int64)
    texts = {field.name: field.dtype == "string" for field in source.fields}
    batch = SourceBatch(
        source=source,
        event_ids=[],
        event_time=none,
        received_time=none,
        partition=none.astype(np.int32),
        offset=none,
        position=none,
        columns={name: [] if text else none.astype(np.float64) for name, text in texts.items()},
    )
    matrix = FeatureMatrix(
        batch=batch,
        names=reader.names,
        values=np.empty((0, len(reader.names))),
        strings={name: [] for name in reader.text_names},
        flags={},
        duplicate=none.astype(np.bool_),
        late=none.astype(np.bool_),
    )
    return output_frame(plan, matrix)


class PieceWriter:
    """Output on its way: files of PIECE_ROWS rows in a folder, joined at the end."""

    def __init__(self, folder: Path) -> None:
        self.rows = 0
        self._folder = folder
        self._held: list[pl.DataFrame] = []
        self._files: list[Path] = []

    def add(self, frame: pl.DataFrame) -> None:
        """Append rows."""
        self.rows += len(frame)
        self._held.append(frame)
        if sum(len(frame) for frame in self._held) >= PIECE_ROWS:
            self._write()

    def join(self, empty: pl.DataFrame) -> Path:
        """One Parquet file of all rows, in their order; `empty` gives the columns where there are none."""
        if self._held or not self._files:
            self._held.append(empty)
            self._write()
        whole = self._folder / "whole.parquet"
        pl.scan_parquet(self._files).sink_parquet(whole, compression="zstd", maintain_order=True)
        return whole

    def _write(self) -> None:
        self._files.append(self._folder / f"{len(self._files):08}.parquet")
        pl.concat(self._held).write_parquet(self._files[-1], compression="lz4")
        self._held = []
