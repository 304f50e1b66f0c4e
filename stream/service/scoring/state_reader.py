"""The state as the stream has flushed it, read fresh for each batch of requests; never written.

To this process every slice is another owner's: the worker stays the only writer, and what it has not yet
flushed (`worker.flush_interval_ms`) is not seen here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from features.core.batch import FeatureMatrix, Ints
from features.core.errors import RetriableError
from features.core.times import now_ms
from features.engine.engine import FeatureEngine
from features.engine.prepared import EntityKeys, Prepared
from features.state.cold_reads import by_shard
from features.store.base import Marks, Partition, Store

_CHECK_EVERY_S = 1.0
NOWHERE = -1
"""Partition and offset of an event that is not in Kafka."""


@dataclass(frozen=True, slots=True)
class EntityView:
    """What is known of one entity at `as_of_us`; `age_seconds` is None when nothing was read."""

    as_of_us: int
    age_seconds: float | None
    features: Mapping[str, float | str | None]
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReadKeys:
    """Keys of one entity with the time in ms of the oldest mark over their slices; -1 where there is none."""

    keys: EntityKeys
    oldest_ms: Ints


@dataclass(slots=True)
class _Slices:
    keys: EntityKeys
    oldest_ms: Ints
    found: list[tuple[int, str, int, bytes]] = field(default_factory=list)


class StateReader:
    """Loads slices into an engine of its own. `shared` says whether a worker's state can be there at all."""

    def __init__(self, engine: FeatureEngine, store: Store, *, max_age_ms: int, shared: bool) -> None:
        self._engine = engine
        self._store = store
        self._max_age_ms = max_age_ms
        self._shared = shared
        self._checked = float("-inf")
        self._sources: dict[str, set[str]] = {}
        for group in engine.plan.groups:
            self._sources.setdefault(group.entity, set()).add(group.source)

    def check(self) -> None:
        """RetriableError while there is no state of these definitions; looks at most once a second."""
        now = time.monotonic()
        if not self._shared or now - self._checked < _CHECK_EVERY_S:
            return
        found = self._store.manifest()
        if found is None:
            raise RetriableError("no worker has opened the state yet")
        if (found.plan, found.shards) != (self._engine.plan.fingerprint, self._engine.shards):
            raise RetriableError("the state is of other definitions or shards than this service's")
        self._checked = now

    def check_fresh(self) -> None:
        """RetriableError unless workers keep the state current: none runs, or one is still recovering."""
        self._checked = float("-inf")
        self.check()
        if not self._shared:
            return
        oldest = min((mark.time_ms for shard in self._store.marks() for mark in shard.values()), default=None)
        if oldest is not None and oldest < now_ms() - self._max_age_ms:
            raise RetriableError("the state is stale: no worker keeps it current, or one is recovering")

    def load(self, prepared: Prepared) -> list[ReadKeys]:
        """Read every slice of the keys in one round trip; the engine must hold no state."""
        self.check()
        wanted = [
            _Slices(keys, np.full(len(keys.indices), -1, np.int64))
            for keys in self._engine.entity_keys(prepared)
            if keys.entity in self._sources and len(keys.indices)
        ]
        reads, places = by_shard([(one.keys, np.arange(len(one.keys.indices))) for one in wanted])
        for answer, (asked, keys) in zip(self._store.read(reads) if reads else [], places, strict=True):
            for slices, number, place in zip(answer.slices, asked, keys, strict=True):
                self._take(wanted[number], place, slices, answer.marks)
        now_us = now_ms() * 1000
        for one in wanted:
            self._engine.load(one.keys.entity, one.keys.indices, one.found, set(), now_us)
        return [ReadKeys(one.keys, one.oldest_ms) for one in wanted]

    def _take(self, one: _Slices, place: int, slices: Mapping[bytes, bytes], marks: Marks) -> None:
        slot = int(one.keys.indices[place])
        for name, row in slices.items():
            partition = Partition.of(name)
            one.found.append((slot, partition.source, partition.number, row))
        feeding = self._sources[one.keys.entity]
        times = [mark.time_ms for partition, mark in marks.items() if partition.source in feeding]
        one.oldest_ms[place] = min(times, default=-1)

    def flag(self, prepared: Prepared, matrix: FeatureMatrix, read: list[ReadKeys]) -> None:
        """Raise `stale:ENTITY` on events whose slices nobody has kept current for too long."""
        limit = now_ms() - self._max_age_ms
        key_index = prepared.sources[matrix.batch.source.name].key_index
        for one in read:
            stale = (one.oldest_ms >= 0) & (one.oldest_ms < limit)
            if one.keys.entity not in key_index or not stale.any():
                continue
            matrix.flags[f"stale:{one.keys.entity}"] = one.keys.spread(stale, key_index[one.keys.entity])
