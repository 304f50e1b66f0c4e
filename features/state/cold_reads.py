"""Reads slices that the cache lacks: own ones checked against loss, others' with their age (PROTOCOL 4, 6).

One round trip a micro-batch, whatever the number of keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from features.core.batch import Bools, FeatureMatrix, Ints
from features.core.errors import RetriableError
from features.kernel.row_format import stamp_of
from features.state.owned import Owned, StateSettings
from features.store.base import Partition, ShardAnswer, ShardRead, Store
from features.store.layout import key_of

if TYPE_CHECKING:
    from features.engine.prepared import EntityKeys, Prepared
    from features.engine.row_engine import RowEngine


class LostWrites(RetriableError):
    """The store holds less than it acknowledged (PROTOCOL 4.2): recover."""


class NotOurs(RetriableError):
    """A mark is above the committed offset that we know of: the partition is another's, or was rewound."""

    def __init__(self, partition: Partition, mark: int) -> None:
        super().__init__(
            f"{partition.source}[{partition.number}]: its state is ahead of its committed offset"
        )
        self.partition = partition
        self.mark = mark


ForeignSlice = tuple[str, str, str, int, int]
"""A slice of another owner as it was read: entity, key, source, partition, stamp."""


@dataclass(frozen=True, slots=True)
class ColdRead:
    """What the read for one batch found that its decisions and the journal must say.

    `foreign` are slices of other owners that were read. `stale` are shards, by entity, where others' slices were older
    than the bound (PROTOCOL 6.1); `missing` are keys, by entity, without state while the store is away (5.7). `raised`
    are flags by name, with one value a key.
    """

    foreign: tuple[ForeignSlice, ...] = ()
    stale: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    missing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    raised: tuple[tuple[str, EntityKeys, Bools], ...] = ()

    def flag(self, prepared: Prepared, matrix: FeatureMatrix) -> None:
        """Raise the flags on the events of one source."""
        key_index = prepared.sources[matrix.batch.source.name].key_index
        for name, keys, of_keys in self.raised:
            if keys.entity in key_index:
                matrix.flags[name] = keys.spread(of_keys, key_index[keys.entity])


@dataclass(slots=True)
class _Wanted:
    """Keys of one entity to read, by shard."""

    keys: EntityKeys
    chosen: Ints
    foreign: set[tuple[str, int]]
    slices: list[tuple[int, str, int, bytes]] = field(default_factory=list)


class ColdReader:
    """Loads rows into the engine."""

    def __init__(
        self,
        engine: RowEngine,
        store: Store,
        partitions: Mapping[str, int],
        settings: StateSettings,
        now_ms: Callable[[], int],
        lock: Lock,
    ) -> None:
        self._engine = engine
        self._store = store
        self._partitions = partitions
        self._settings = settings
        self._lock = lock
        self._now_ms = now_ms
        self._owned: Mapping[Partition, Owned] = {}
        self._shared: dict[str, bool] = {}
        self._foreign: dict[str, list[Partition]] = {}
        self._seen: dict[Partition, Ints] = {}
        self.session = 0
        self.recovered_ms = 0
        self.keys_read = 0

    def own(self, owned: Mapping[Partition, Owned]) -> None:
        """From now on these partitions are ours; all others' slices are read only (PROTOCOL 6.1)."""
        self._owned = owned
        self._seen = {}
        self.session += 1
        self.recovered_ms = self._now_ms()
        for entity in {group.entity for group in self._engine.plan.groups}:
            feeding = [group for group in self._engine.plan.groups if group.entity == entity]
            self._foreign[entity] = [
                partition
                for group in feeding
                for partition in self._partitions_of(group.source)
                if partition not in owned
            ]
            local = all(group.partition_local for group in feeding)
            together = local and self._co_located({group.source for group in feeding})
            self._shared[entity] = bool(self._foreign[entity]) and not together

    @property
    def owned(self) -> Mapping[Partition, Owned]:
        """The partitions that are ours."""
        return self._owned

    def _partitions_of(self, source: str) -> list[Partition]:
        return [Partition(source, number) for number in range(self._partitions[source])]

    def _co_located(self, sources: set[str]) -> bool:
        """Whether the same partition numbers of all sources are ours, so that a key's slices all are."""
        ours = {frozenset(one.number for one in self._owned if one.source == source) for source in sources}
        return len(ours) == 1 and len({self._partitions[source] for source in sources}) == 1

    def load(self, prepared: Prepared) -> ColdRead:
        """Read keys that are not in the cache, and others' slices that were read too long ago."""
        as_of_ms = self._now_ms()
        too_old_us = (as_of_ms - self._settings.foreign_refresh_ms) * 1000
        keys_of_batch = self._keys_of(prepared)
        wanted = []
        for keys in keys_of_batch:
            lacking = ~keys.loaded
            if self._shared[keys.entity]:
                lacking |= keys.foreign_read_at < too_old_us
            if lacking.any():
                wanted.append(self._wanted(keys, lacking))
        foreign = self._read(wanted, as_of_ms * 1000)
        stale = [(keys, self._stale(keys, as_of_ms)) for keys in keys_of_batch]
        return ColdRead(
            foreign=tuple(foreign),
            stale={
                keys.entity: tuple(np.unique(keys.shards[of_keys]).tolist())
                for keys, of_keys in stale
                if of_keys.any()
            },
            raised=tuple((f"stale:{keys.entity}", keys, of_keys) for keys, of_keys in stale if of_keys.any()),
        )

    def _keys_of(self, prepared: Prepared) -> list[EntityKeys]:
        return [keys for keys in self._engine.entity_keys(prepared) if keys.entity in self._shared]

    def leave_out(self, prepared: Prepared) -> ColdRead:
        """The store is away: a key without rows is read as missing and not folded (PROTOCOL 5.7).

        So is one whose rows came by replay alone: what others know of it was never read.
        """
        missing: dict[str, tuple[str, ...]] = {}
        raised = []
        for keys in self._keys_of(prepared):
            if self._shared[keys.entity]:
                keys.loaded &= keys.foreign_read_at > 0
            lacking = np.flatnonzero(~keys.loaded)
            if len(lacking):
                missing[keys.entity] = tuple(key_of(keys.names[row]) for row in lacking.tolist())
                raised.append((f"state_missing:{keys.entity}", keys, ~keys.loaded))
                prepared.leave_out(keys.entity, keys.indices[lacking])
        return ColdRead(missing=missing, raised=tuple(raised))

    def _wanted(self, keys: EntityKeys, lacking: Bools) -> _Wanted:
        foreign = {(one.source, one.number) for one in self._foreign[keys.entity]}
        return _Wanted(keys, np.flatnonzero(lacking), foreign)

    def load_for_replay(self, prepared: Prepared) -> None:
        """Read keys without a row that have an event at or above the base (PROTOCOL 5.5).

        Others' slices of them count as read long ago: the first unit of work reads them again, for the journal.
        """
        wanted = []
        for keys in self._engine.entity_keys(prepared):
            lacking = np.zeros(len(keys.indices), np.bool_)
            for group in self._engine.plan.groups:
                if group.entity == keys.entity:
                    rows, above = self._above_base(prepared, group.index, keys.shards)
                    lacking[rows[above]] = True
            lacking &= ~keys.loaded
            if lacking.any():
                wanted.append(self._wanted(keys, lacking))
        self._read(wanted, 0)

    def _above_base(self, prepared: Prepared, group: int, shards: Ints) -> tuple[Ints, Bools]:
        """Row of each event's key in `EntityKeys`, and whether its offset is at or above the base of its slice."""
        events = prepared.group_events(group)
        above = np.zeros(len(events.offset), np.bool_)
        source = self._engine.plan.groups[group].source
        for number in np.unique(events.partition).tolist():
            of = events.partition == number
            base = self._owned[Partition(source, number)].base
            above[of] = events.offset[of] >= base[shards[events.key[of]]]
        return events.key, above

    def skips(self, prepared: Prepared) -> dict[int, Bools]:
        """By group, events that a stored slice is known to hold: their key was not worth reading."""
        loaded = {keys.entity: keys.loaded for keys in self._engine.entity_keys(prepared)}
        return {
            group.index: ~loaded[group.entity][prepared.group_events(group.index).key]
            for group in self._engine.plan.groups
            if len(prepared.group_events(group.index).offset)
        }

    def _stale(self, keys: EntityKeys, as_of_ms: int) -> Bools:
        """For each key, whether another owner's slices were older than the bound (PROTOCOL 6.1).

        As of when the batch was loaded, so that all of its events get the same flags.
        """
        if not self._shared[keys.entity]:
            return np.zeros(len(keys.shards), np.bool_)
        oldest_ms = as_of_ms - self._settings.foreign_max_age_ms
        late = np.zeros(int(keys.shards.max(initial=0)) + 1, np.bool_)
        for partition in self._foreign[keys.entity]:
            seen = self._seen.get(partition)
            late |= True if seen is None else seen[: len(late)] < oldest_ms
        of_keys: Bools = late[keys.shards]
        return of_keys

    def _read(self, wanted: list[_Wanted], now_us: int) -> list[ForeignSlice]:
        """Load the wanted keys into the engine; returns the slices of other owners among what was read."""
        if not wanted:
            return []
        # PROTOCOL 4.2 compares with the base as it was when we asked: the flusher may raise it meanwhile.
        bases = {partition: owned.base.copy() for partition, owned in self._owned.items()}
        foreign: list[ForeignSlice] = []
        reads, asked = by_shard([(of_entity.keys, of_entity.chosen) for of_entity in wanted])
        for answer, (numbers, rows) in zip(self._store.read(reads), asked, strict=True):
            self._check_marks(answer, bases)
            for slices, number, row in zip(answer.slices, numbers, rows, strict=True):
                if slices:
                    self._sort_slices(wanted[number], row, slices, foreign)
        for of_entity in wanted:
            self.keys_read += len(of_entity.chosen)
            indices = of_entity.keys.indices[of_entity.chosen]
            self._engine.load(of_entity.keys.entity, indices, of_entity.slices, of_entity.foreign, now_us)
        return foreign

    def _check_marks(self, answer: ShardAnswer, bases: Mapping[Partition, Ints]) -> None:
        for partition, owned in self._owned.items():
            mark = answer.marks[partition].offset if partition in answer.marks else owned.origin
            if mark < bases[partition][answer.shard]:
                raise LostWrites(f"redis lost writes of {partition.source}[{partition.number}]")
            if mark > owned.committed:
                raise NotOurs(partition, mark)
            with self._lock:
                owned.came_to(answer.shard, mark)
        for partition, seen_mark in answer.marks.items():
            if partition not in self._owned:
                seen = self._seen.setdefault(partition, np.zeros(self._engine.shards, np.int64))
                seen[answer.shard] = seen_mark.time_ms

    def _sort_slices(
        self, wanted: _Wanted, row: int, slices: Mapping[bytes, bytes], foreign: list[ForeignSlice]
    ) -> None:
        keys = wanted.keys
        loaded = bool(keys.loaded[row])
        index = int(keys.indices[row])
        for name, encoded in slices.items():
            partition = Partition.of(name)
            if partition not in self._owned:
                foreign.append((keys.entity, key_of(keys.names[row]), *partition, stamp_of(encoded)))
            elif loaded:
                continue  # the cache is ahead of what is stored
            wanted.slices.append((index, partition.source, partition.number, encoded))


def by_shard(
    wanted: Sequence[tuple[EntityKeys, Ints]],
) -> tuple[list[ShardRead], list[tuple[list[int], list[int]]]]:
    """One read a shard of the keys in some rows; and, for each name in it, the number in `wanted` and the row there."""
    names: dict[int, list[bytes]] = {}
    asked: dict[int, tuple[list[int], list[int]]] = {}
    for number, (keys, chosen) in enumerate(wanted):
        for row, shard in zip(chosen.tolist(), keys.shards[chosen].tolist(), strict=True):
            names.setdefault(shard, []).append(keys.names[row])
            numbers, rows = asked.setdefault(shard, ([], []))
            numbers.append(number)
            rows.append(row)
    return [ShardRead(shard, of_shard) for shard, of_shard in names.items()], list(asked.values())
