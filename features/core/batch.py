"""Columnar micro-batches: what flows from the decoder to the decision.

    bytes -> MicroBatch -> FeatureMatrix -> scores -> Decisions -> bytes

Times are int64 microseconds since 1970 UTC everywhere inside riskstream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from features.definitions.spec import Source

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Strings = list[str | None]
Column = Floats | Ints | Bools | Strings
Rows = Ints | slice

T = TypeVar("T")


def take_rows(column: Column, rows: Rows) -> Column:
    """Rows of a column in the order given."""
    return take_items(column, rows) if isinstance(column, list) else column[rows]


def take_items(items: list[T], rows: Rows) -> list[T]:
    """Items of a list in the order given."""
    return items[rows] if isinstance(rows, slice) else [items[row] for row in rows.tolist()]


@dataclass(slots=True)
class SourceBatch:
    """Events of one source, in scoring order.

    All columns have `len(self)` rows. `columns` holds every field of the source: `float64` arrays
    (NaN is null) for numbers, bools (0, 1) and timestamps alike, lists of `str | None` for strings.
    `int64` fields are exact up to 2**53. Entity keys of integer columns are read from
    `columns` as whole numbers.

    `position` is the event's rank in the micro-batch that it belongs to, unique over all its sources.
    `partition` and `offset` are where the event stands in the source's topic; offline, partition 0
    and the row number.
    """

    source: Source
    event_ids: list[str]
    event_time: Ints
    received_time: Ints
    partition: NDArray[np.int32]
    offset: Ints
    position: Ints
    columns: dict[str, Column]
    keys: list[bytes | None] = field(default_factory=list)
    headers: list[list[tuple[str, bytes | None]] | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.event_time)

    @property
    def partitions(self) -> list[int]:
        """The different partitions, ascending; usually there is one."""
        if len(self) and (self.partition == self.partition[0]).all():
            return [int(self.partition[0])]
        distinct: list[int] = np.unique(self.partition).tolist()
        return distinct

    def take(self, rows: Rows) -> SourceBatch:
        """Rows in the order given, each with its own position; a slice shares the arrays' memory."""
        return replace(
            self,
            event_ids=take_items(self.event_ids, rows),
            event_time=self.event_time[rows],
            received_time=self.received_time[rows],
            partition=self.partition[rows],
            offset=self.offset[rows],
            position=self.position[rows],
            columns={name: take_rows(column, rows) for name, column in self.columns.items()},
            keys=take_items(self.keys, rows) if self.keys else [],
            headers=take_items(self.headers, rows) if self.headers else [],
        )


@dataclass(slots=True)
class MicroBatch:
    """Events of one unit of work: at most one `SourceBatch` a source."""

    source_batches: tuple[SourceBatch, ...]

    def __len__(self) -> int:
        return sum(len(batch) for batch in self.source_batches)


@dataclass(slots=True)
class SliceStamps:
    """Which prefix of each slice the events saw: `stamps[n, len(partitions)]`, -1 where there was none.

    A stamp is the offset of the last event folded into the slice, plus one.
    """

    entity: str
    source: str
    partitions: tuple[int, ...]
    stamps: Ints

    def take(self, rows: Rows) -> SliceStamps:
        """The stamps of some events, in the order given."""
        return replace(self, stamps=self.stamps[rows])


@dataclass(slots=True)
class FeatureMatrix:
    """Features of the scored events of one source.

    `values[n, len(names)]` is float64, NaN is missing. `strings` holds the features that are texts
    (first, last of a string column; string profile fields). `flags` says per event what was missing
    or stale (`profile_missing:applicant`, `stale:merchant`); absent means never. `duplicate` marks
    events whose id their primary entity has already seen; `late` those older than a newer event of it.
    `stamps` holds, for each entity whose slices spread over partitions, the slices each event summed.
    """

    batch: SourceBatch
    names: tuple[str, ...]
    values: Floats
    strings: dict[str, Strings]
    flags: dict[str, Bools]
    duplicate: Bools
    late: Bools
    stamps: tuple[SliceStamps, ...] = ()

    def __len__(self) -> int:
        return len(self.batch)

    def take(self, rows: Rows) -> FeatureMatrix:
        """Rows in the order given."""
        return FeatureMatrix(
            batch=self.batch.take(rows),
            names=self.names,
            values=self.values[rows],
            strings={name: take_items(texts, rows) for name, texts in self.strings.items()},
            flags={name: flag[rows] for name, flag in self.flags.items()},
            duplicate=self.duplicate[rows],
            late=self.late[rows],
            stamps=tuple(stamps.take(rows) for stamps in self.stamps),
        )

    def column(self, name: str) -> Column:
        """A feature, or else a column of the event, by name; KeyError when there is neither."""
        if name in self.strings:
            return self.strings[name]
        if name in self.names:
            return self.values[:, self.names.index(name)]
        return self.batch.columns[name]

    def matrix(self, names: Sequence[str], *, exact: bool = False) -> NDArray[np.float32] | Floats:
        """[n, len(names)] of numeric features and event columns: a model's input; float32 unless `exact`, then float64.

        A number beyond float32 becomes infinite.
        """
        out = np.empty((len(self), len(names)), dtype=np.float64 if exact else np.float32)
        with np.errstate(over="ignore"):
            for index, name in enumerate(names):
                out[:, index] = self.column(name)
        return out
