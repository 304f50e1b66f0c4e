"""Typed events to a `SourceBatch`: columns, and the checks that look at time.

Common to all wire formats: a codec yields events of the shape's type, this makes columns of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import msgspec
import numpy as np

from features.core import times
from features.core.batch import Bools, Column, Ints, SourceBatch
from features.core.durations import parse_duration
from features.core.errors import DefinitionError
from features.definitions.spec import Source
from stream.codecs.explain import RejectionError
from stream.codecs.messages import RawBatch
from stream.codecs.shape import Leaf, Shape

# 1900 to 2200: a time outside was written in another unit.
_EARLIEST = -2_208_988_800_000_000
_LATEST = 7_258_118_400_000_000

T = TypeVar("T")
Rejected = dict[int, RejectionError]


class ColumnBuilder:
    """Makes batches of one source."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._source = shape.source
        self._max_age = _duration(shape.source, "max_age", shape.source.max_age)
        self._max_ahead = _duration(shape.source, "max_ahead", shape.source.max_ahead)
        id_type = shape.by_name[shape.source.event_id].field.dtype
        if id_type not in ("string", "int64"):
            raise DefinitionError(
                f"sources.{shape.source.name}.event_id", f"must be string or int64, not {id_type}"
            )

    def build(
        self, raw: RawBatch, rows: Ints, events: Sequence[msgspec.Struct], rejected: Rejected
    ) -> SourceBatch:
        """A batch of the events that stand at `rows` of `raw`; those with impossible times go to `rejected`."""
        values = (
            self._shape.columns(events) if events else {leaf.field.name: () for leaf in self._shape.leaves}
        )
        columns: dict[str, Column] = {}
        moments: dict[str, Ints] = {}
        for leaf in self._shape.leaves:
            name = leaf.field.name
            if leaf.field.dtype == "timestamp" or name == self._source.event_time:
                moments[name] = self._shape.times.convert(values[name]) if events else np.empty(0, np.int64)
            columns[name] = _column(leaf, values[name], moments.get(name))
        event_time = moments[self._source.event_time]
        received = np.array(raw.timestamps_ms, dtype=np.int64)[rows] * 1000
        keep = np.ones(len(rows), dtype=np.bool_)
        for bad, name, reason in self._faults(moments, event_time, received):
            for place in np.flatnonzero(bad & keep).tolist():
                path = "$." + ".".join(self._shape.by_name[name].path)
                rejected[int(rows[place])] = RejectionError(path, reason + _said(int(event_time[place])))
            keep &= ~bad
        batch = SourceBatch(
            source=self._source,
            event_ids=_ids(values[self._source.event_id], columns[self._source.event_id]),
            event_time=event_time,
            received_time=np.where(received >= 0, received, event_time),
            partition=np.array(raw.partitions, dtype=np.int32)[rows],
            offset=np.array(raw.offsets, dtype=np.int64)[rows],
            position=np.arange(len(rows), dtype=np.int64),
            columns=columns,
            keys=_pick(raw.keys, rows),
            headers=_pick(raw.headers, rows),
        )
        if keep.all():
            return batch
        kept = batch.take(np.flatnonzero(keep))
        return replace(kept, position=np.arange(len(kept), dtype=np.int64))

    def _faults(
        self, moments: dict[str, Ints], event_time: Ints, received: Ints
    ) -> list[tuple[Bools, str, str]]:
        """Which events cannot stand, the column that says so, and the words."""
        source = self._source
        own = source.event_time
        faults = [
            (stamps == times.BAD, name, f"expected {self._shape.by_name[name].expected}, got another text")
            for name, stamps in moments.items()
        ]
        outside = (event_time < _EARLIEST) | (event_time >= _LATEST)
        faults.append((outside, own, "expected a year from 1900 to 2199 (is time_format right?), got "))
        known = received >= 0
        if self._max_age is not None:
            old = known & (received - event_time > self._max_age)
            faults.append((old, own, f"expected an event at most {source.max_age} old when sent, got "))
        if self._max_ahead is not None:
            ahead = known & (event_time - received > self._max_ahead)
            faults.append((ahead, own, f"expected an event at most {source.max_ahead} ahead when sent, got "))
        return faults


def _column(leaf: Leaf, values: tuple[Any, ...], moments: Ints | None) -> Column:
    if leaf.field.dtype == "string":
        texts = list(values)
        if int in set(map(type, texts)):
            return [value if value is None else str(value) for value in texts]
        return texts
    if leaf.field.dtype == "timestamp" and moments is not None:
        numbers = moments.astype(np.float64)
        numbers[moments == times.NULL] = np.nan
        return numbers
    return np.array(values, dtype=np.float64)


def _ids(values: tuple[Any, ...], column: Column) -> list[str]:
    if isinstance(column, list):
        return [value for value in column if value is not None]
    return list(map(str, values))


def _said(micros: int) -> str:
    """The time as text, where it is one."""
    return "" if micros == times.BAD else times.rfc3339(micros)


def _pick(items: list[T], rows: Ints) -> list[T]:
    return items if len(rows) == len(items) else [items[row] for row in rows.tolist()]


def _duration(source: Source, name: str, text: str | None) -> int | None:
    return None if text is None else parse_duration(text, f"sources.{source.name}.{name}")
