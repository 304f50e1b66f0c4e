"""Columnar micro-batches: what flows from the decoder to the decision.

    bytes -> MicroBatch -> FeatureMatrix -> scores -> Decisions -> bytes

Times are int64 microseconds since 1970 UTC everywhere inside riskstream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from features.definitions.spec import Source

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Strings = list[str | None]
Column = Floats | Ints | Bools | Strings


@dataclass(slots=True)
class SourceBatch:
    """Events of one source, in scoring order.

    All columns have `len(self)` rows. `columns` holds every field of the source: `float64` arrays
    (NaN is null) for numbers, bools (0, 1) and timestamps alike, lists of `str | None` for strings.
    `int64` fields are exact up to 2**53. Entity keys of integer columns are read from
    `columns` as whole numbers.

    `position` is the event's place in the micro-batch it belongs to, unique over all its sources.
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
        found: list[int] = np.unique(self.partition).tolist()
        return found


@dataclass(slots=True)
class MicroBatch:
    """Events of one unit of work: at most one `SourceBatch` a source."""

    parts: tuple[SourceBatch, ...]

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)


@dataclass(slots=True)
class SliceStamps:
    """Which prefix of each slice the events saw: `stamps[n, len(partitions)]`, -1 where there was none.

    A stamp is the offset of the last event folded into the slice, plus one.
    """

    entity: str
    source: str
    partitions: tuple[int, ...]
    stamps: Ints


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

    def column(self, name: str) -> Column:
        """A feature, or else a column of the event, by name; KeyError when there is neither."""
        if name in self.strings:
            return self.strings[name]
        if name in self.names:
            return self.values[:, self.names.index(name)]
        return self.batch.columns[name]

    def matrix(self, names: Sequence[str]) -> NDArray[np.float32]:
        """float32[n, len(names)] of numeric features and event columns: a model's input."""
        out = np.empty((len(self), len(names)), dtype=np.float32)
        for place, name in enumerate(names):
            out[:, place] = self.column(name)
        return out
