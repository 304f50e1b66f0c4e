"""Joins labels to decisions on disk: memory holds one bucket of labels and one part of decisions, never all.

An event's label is the last one that became known. Labels are spread over buckets by the event's id as they are
read; at the end each bucket is joined alone, and its matches are kept in the order of the decisions.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from stream.replay.backtest.parts import PART_ROWS, PartReader, PartWriter, parts_of

BUCKET_ROWS = 1_000_000


class Verdicts:
    """Labels under way, and the decisions that they judge. `total` is about how many labels there may be."""

    def __init__(self, folder: Path, total: int, bucket_rows: int = BUCKET_ROWS) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self._folder = folder
        self._buckets = max(1, -(-total // bucket_rows))
        self._part_rows = max(10_000, PART_ROWS // self._buckets)
        places = [folder / f"labels-{bucket}" for bucket in range(self._buckets)]
        self._writers = [PartWriter(place, self._part_rows) for place in places]

    def add(self, labels: pl.DataFrame) -> None:
        """Labels in the order in which they came (see `recorded.label_frame`)."""
        if not labels.height:
            return
        if self._buckets == 1:
            self._writers[0].add(labels)
            return
        bucket = labels["labelled"].hash() % self._buckets
        for number, writer in enumerate(self._writers):
            writer.add(labels.filter(bucket == number))

    def join(self, source: str, decisions: Path) -> None:
        """Find the label of each event of a source among the parts of a folder. Call after the last `add`."""
        spread = [decisions] if self._buckets == 1 else self._spread_ids(source, decisions)
        for number, (writer, folder) in enumerate(zip(self._writers, spread, strict=True)):
            writer.close()
            found = PartWriter(self._folder / f"found-{source}-{number}")
            found.add(_matches(parts_of(self._folder / f"labels-{number}"), parts_of(folder)))
            found.close()

    def judged(
        self, source: str, decisions: Path, columns: Sequence[str] | None = None
    ) -> Iterator[pl.DataFrame]:
        """A folder's parts with `label` and `label_known`, null where no label is known."""
        readers = [PartReader(self._folder / f"found-{source}-{number}") for number in range(self._buckets)]
        end = 0
        for part in parts_of(decisions):
            frame = pl.read_parquet(part, columns=None if columns is None else list(columns))
            start, end = end, end + frame.height
            found = pl.concat([reader.until("row", end) for reader in readers], how="diagonal")
            yield frame.hstack(_spread(found, start, frame.height))

    def _spread_ids(self, source: str, decisions: Path) -> list[Path]:
        """Ids of the events and their rows, bucket by bucket like the labels."""
        folders = [self._folder / f"ids-{source}-{number}" for number in range(self._buckets)]
        writers = [PartWriter(folder, self._part_rows) for folder in folders]
        start = 0
        for part in parts_of(decisions):
            ids = pl.read_parquet(part, columns=["event_id"]).with_row_index("row", start)
            start += ids.height
            bucket = ids["event_id"].hash() % self._buckets
            for number, writer in enumerate(writers):
                writer.add(ids.filter(bucket == number))
        for writer in writers:
            writer.close()
        return folders


def _matches(labels: Sequence[Path], ids: Sequence[Path]) -> pl.DataFrame:
    """Row, label and when it was known, of all events that have one."""
    if not labels or not ids:
        return pl.DataFrame()
    latest = (
        pl.concat([pl.read_parquet(part) for part in labels])
        .sort("label_known", maintain_order=True)
        .unique("labelled", keep="last")
    )
    index = "row" if "row" not in pl.read_parquet_schema(ids[0]) else None
    events = pl.scan_parquet(list(ids), row_index_name=index).select("row", "event_id")
    joined = events.join(latest.lazy(), left_on="event_id", right_on="labelled", how="inner")
    found = joined.select(pl.col("row").cast(pl.Int64), "label", "label_known")
    return found.collect(engine="streaming").sort("row")


def _spread(found: pl.DataFrame, start: int, rows: int) -> pl.DataFrame:
    """The two columns for all rows of a part."""
    label, known = np.full(rows, np.nan), np.full(rows, np.datetime64("NaT"), dtype="datetime64[us]")
    if found.height:
        at = found["row"].to_numpy() - start
        label[at], known[at] = found["label"].to_numpy(), found["label_known"].to_numpy()
    return pl.DataFrame(
        {"label": pl.Series(label, nan_to_null=True), "label_known": pl.Series(known).cast(pl.Datetime("us"))}
    )
