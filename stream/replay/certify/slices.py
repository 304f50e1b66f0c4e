"""State during a replay: the newest row of every slice, and those older ones that other owners still saw.

A row depends on its own partition's events of its key alone (PROTOCOL 1.1), so any version of it can be made, and kept
for those who read it when the journal says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from features.core.batch import MicroBatch
from features.definitions.plan import Plan
from features.engine.engine import FeatureEngine
from features.engine.prepared import DirtyRun, EntityKeys
from features.kernel.row_format import stamp_of

Slice = tuple[str, int, bytes]
"""Source, partition, row."""
SliceName = tuple[str, str, str, int]
"""Entity, key, source, partition."""


class Slices:
    """Rows by entity and key. `wanted` says which stamps of a slice will be asked for, and how often."""

    def __init__(self, plan: Plan, shards: int, wanted: Mapping[SliceName, Counter[int]]) -> None:
        self._rows: dict[tuple[str, str], dict[tuple[str, int], bytes]] = {}
        self._wanted = wanted
        self._kept: dict[tuple[SliceName, int], bytes] = {}
        self._partitions: dict[str, set[int]] = {}
        self._engine = FeatureEngine(plan, shards=shards)

    def partitions(self, source: str) -> set[int]:
        """Partitions of a source that have slices."""
        return self._partitions.get(source, set())

    def newest(self, entity: str, key: str, owned: Callable[[str, int], bool]) -> list[Slice]:
        """The rows of a key in partitions that are `owned`."""
        found = self._rows.get((entity, key), {})
        return [(source, number, row) for (source, number), row in found.items() if owned(source, number)]

    def at(self, name: SliceName, stamp: int) -> bytes | None:
        """A slice as it was at a stamp; None when no such version has come by."""
        row = self._kept.get((name, stamp))
        counts = self._wanted.get(name)
        if counts is not None and row is not None:
            counts[stamp] -= 1
            if counts[stamp] <= 0:
                del self._kept[name, stamp]
        return row

    def put(self, runs: Sequence[DirtyRun], batch: MicroBatch) -> None:
        """Rows as they are after a batch."""
        between: dict[tuple[str, int, int], list[SliceName]] = {}
        for run in runs:
            slice_ = (run.source, run.partition)
            self._partitions.setdefault(run.source, set()).add(run.partition)
            for key, row in zip(run.keys, run.rows, strict=True):
                rows = self._rows.setdefault((run.entity, key), {})
                name = (run.entity, key, *slice_)
                if name in self._wanted:
                    for stamp in self._seen(name, row, rows.get(slice_)):
                        between.setdefault((*slice_, stamp), []).append(name)
        for (source, partition, stamp), names in between.items():
            self._fold_until(batch, source, partition, stamp, names)
        for run in runs:
            slice_ = (run.source, run.partition)
            for key, row in zip(run.keys, run.rows, strict=True):
                self._rows[run.entity, key][slice_] = row

    def _seen(self, name: SliceName, row: bytes, before: bytes | None) -> list[int]:
        """Keep the row if it is wanted as it is; wanted stamps that lie inside the batch."""
        stamp, old = stamp_of(row), 0 if before is None else stamp_of(before)
        wanted = self._wanted[name]
        if wanted.get(stamp, 0) > 0:
            self._kept[name, stamp] = row
        return [one for one, count in wanted.items() if count > 0 and old < one < stamp]

    def _fold_until(
        self, batch: MicroBatch, source: str, partition: int, stamp: int, names: Sequence[SliceName]
    ) -> None:
        """Make versions in the middle of a batch: a worker that recovers may show them (PROTOCOL 3.1)."""
        part = next(part for part in batch.source_batches if part.source.name == source)
        early = np.flatnonzero((part.partition == partition) & (part.offset < stamp))
        for run in self._folded(MicroBatch((part.take(early),)), lambda *_: True):
            for key, row in zip(run.keys, run.rows, strict=True):
                name = (run.entity, key, run.source, run.partition)
                if name in names and stamp_of(row) == stamp:
                    self._kept[name, stamp] = row

    def fold(self, batch: MicroBatch, only: Callable[[str, str], bool] = lambda *_: True) -> None:
        """Fold events that nobody scores (muted replay); `only` says of which entities' keys."""
        if len(batch):
            self.put(self._folded(batch, only), batch)

    def _folded(self, batch: MicroBatch, only: Callable[[str, str], bool]) -> list[DirtyRun]:
        engine = self._engine
        engine.drop_all()
        prepared = engine.prepare(batch)
        chosen = {}
        for keys in engine.entity_keys(prepared):
            chosen[keys.entity] = np.array([only(keys.entity, key) for key in keys.keys], np.bool_)
            self._load(keys)
        skip = {}
        for group in engine.plan.groups:
            events = prepared.group_events(group.index)
            skip[group.index] = ~chosen[group.entity][events.key]
        engine.fold(prepared, skip)
        return engine.take_dirty()

    def _load(self, keys: EntityKeys) -> None:
        slices = [
            (slot, *one)
            for slot, key in zip(keys.indices.tolist(), keys.keys, strict=True)
            for one in self.newest(keys.entity, key, lambda *_: True)
        ]
        self._engine.load(keys.entity, keys.indices, slices, set(), 1)
