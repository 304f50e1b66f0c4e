"""Reads slices that the cache lacks: own ones checked against loss, others' with their age (PROTOCOL 4, 6).

One round trip a micro-batch, whatever the number of keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Protocol

import numpy as np

from features.core.batch import Bools, Ints
from features.core.errors import RetriableError
from features.store.base import Partition, ShardAnswer, ShardRead, Store
from features.store.layout import key_of, stamp_of

if TYPE_CHECKING:
    from features.engine.engine import FeatureEngine
    from features.engine.prepared import EntityKeys, Prepared


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


class OwnedPartition(Protocol):
    """What a cold read asks and raises of an owned partition."""

    committed: int
    origin: int
    base: Ints


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
        engine: FeatureEngine,
        store: Store,
        partitions: Mapping[str, int],
        refresh_ms: int,
        now_ms: Callable[[], int],
        lock: Lock,
    ) -> None:
        self._engine = engine
        self._store = store
        self._partitions = partitions
        self._refresh_us = refresh_ms * 1000
        self._lock = lock
        self._now_ms = now_ms
        self._owned: Mapping[Partition, OwnedPartition] = {}
        self._shared: dict[str, bool] = {}
        self._foreign: dict[str, list[Partition]] = {}
        self._seen: dict[Partition, Ints] = {}
        self._as_of = 0
        self.session = 0
        self.recovered_ms = 0
        self.keys_read = 0
        self.foreign_read: list[ForeignSlice] = []
        self.stale_shards: dict[str, set[int]] = {}
        self.missing: dict[str, list[str]] = {}
        self.keys_of_batch: list[EntityKeys] = []

    def own(self, owned: Mapping[Partition, OwnedPartition]) -> None:
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
    def owned(self) -> Mapping[Partition, OwnedPartition]:
        """The partitions that are ours."""
        return self._owned

    def _partitions_of(self, source: str) -> list[Partition]:
        return [Partition(source, number) for number in range(self._partitions[source])]

    def _co_located(self, sources: set[str]) -> bool:
        """Whether the same partition numbers of all sources are ours, so that a key's slices all are."""
        ours = {frozenset(one.number for one in self._owned if one.source == source) for source in sources}
        return len(ours) == 1 and len({self._partitions[source] for source in sources}) == 1

    def load(self, prepared: Prepared) -> None:
        """Read keys that are not in the cache, and others' slices that were read too long ago."""
        self._begin()
        now_us = self._as_of * 1000
        wanted = []
        self.keys_of_batch = [
            keys for keys in self._engine.entity_keys(prepared) if keys.entity in self._shared
        ]
        for keys in self.keys_of_batch:
            lacking = ~keys.loaded
            if self._shared[keys.entity]:
                lacking |= keys.foreign_read_at < now_us - self._refresh_us
            if lacking.any():
                wanted.append(self._wanted(keys, lacking))
        self._read(wanted, now_us)

    def _begin(self) -> None:
        """What the journal tells of a unit of work: others' slices read, shards too old, keys left out."""
        self._as_of = self._now_ms()
        self.foreign_read, self.stale_shards, self.missing = [], {}, {}

    def leave_out(self, prepared: Prepared) -> None:
        """The store is away: a key without rows is read as missing and not folded (PROTOCOL 5.7).

        So is one whose rows came by replay alone: what others know of it was never read.
        """
        self._begin()
        self.keys_of_batch = [
            keys for keys in self._engine.entity_keys(prepared) if keys.entity in self._shared
        ]
        for keys in self.keys_of_batch:
            if self._shared[keys.entity]:
                keys.loaded &= keys.foreign_read_at > 0
            lacking = np.flatnonzero(~keys.loaded)
            if not len(lacking):
                continue
            self.missing[keys.entity] = [key_of(keys.names[row]) for row in lacking.tolist()]
            prepared.leave_out(keys.entity, keys.indices[lacking])

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
                    places, above = self._above_base(prepared, group.index, keys.shards)
                    lacking[places[above]] = True
            lacking &= ~keys.loaded
            if lacking.any():
                wanted.append(self._wanted(keys, lacking))
        self._read(wanted, 0)

    def _above_base(self, prepared: Prepared, group: int, shards: Ints) -> tuple[Ints, Bools]:
        """Key place of each event of a group, and whether its offset is at or above the base of its slice."""
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

    def stale(self, entity: str, shards: Ints, max_age_ms: int) -> Bools:
        """For keys in these shards, whether another owner's slices were older than the bound (PROTOCOL 6.1).

        As of when the batch was loaded, so that all of its events are told the same.
        """
        if not self._shared.get(entity):
            return np.zeros(len(shards), np.bool_)
        oldest = self._as_of - max_age_ms
        late = np.zeros(int(shards.max(initial=0)) + 1, np.bool_)
        for partition in self._foreign[entity]:
            seen = self._seen.get(partition)
            late |= True if seen is None else seen[: len(late)] < oldest
        found: Bools = late[shards]
        if found.any():
            self.stale_shards.setdefault(entity, set()).update(shards[found].tolist())
        return found

    def _read(self, wanted: list[_Wanted], now_us: int) -> None:
        if not wanted:
            return
        # PROTOCOL 4.2 compares with the base as it was when we asked: the flusher may raise it meanwhile.
        bases = {partition: one.base.copy() for partition, one in self._owned.items()}
        reads, places = by_shard([(one.keys, one.chosen) for one in wanted])
        for answer, (asked, keys) in zip(self._store.read(reads), places, strict=True):
            self._check_marks(answer, bases)
            for found, number, place in zip(answer.slices, asked, keys, strict=True):
                if found:
                    self._sort_slices(wanted[number], place, found)
        for one in wanted:
            self.keys_read += len(one.chosen)
            slots = one.keys.indices[one.chosen]
            self._engine.load(one.keys.entity, slots, one.slices, one.foreign, now_us)

    def _check_marks(self, answer: ShardAnswer, bases: Mapping[Partition, Ints]) -> None:
        for partition, one in self._owned.items():
            mark = answer.marks[partition].offset if partition in answer.marks else one.origin
            if mark < bases[partition][answer.shard]:
                raise LostWrites(f"redis lost writes of {partition.source}[{partition.number}]")
            if mark > one.committed:
                raise NotOurs(partition, mark)
            with self._lock:
                one.base[answer.shard] = max(int(one.base[answer.shard]), mark)  # PROTOCOL 4.3
        for partition, found in answer.marks.items():
            if partition not in self._owned:
                seen = self._seen.setdefault(partition, np.zeros(self._engine.shards, np.int64))
                seen[answer.shard] = found.time_ms

    def _sort_slices(self, one: _Wanted, place: int, found: Mapping[bytes, bytes]) -> None:
        loaded = bool(one.keys.loaded[place])
        slot = int(one.keys.indices[place])
        for name, row in found.items():
            partition = Partition.of(name)
            if partition not in self._owned:
                key = key_of(one.keys.names[place])
                self.foreign_read.append((one.keys.entity, key, *partition, stamp_of(row)))
            elif loaded:
                continue  # the cache is ahead of what is stored
            one.slices.append((slot, partition.source, partition.number, row))


def by_shard(
    wanted: Sequence[tuple[EntityKeys, Ints]],
) -> tuple[list[ShardRead], list[tuple[list[int], list[int]]]]:
    """One read a shard of keys at given places, and for each of its names the number in `wanted` and the place."""
    names: dict[int, list[bytes]] = {}
    places: dict[int, tuple[list[int], list[int]]] = {}
    for number, (keys, chosen) in enumerate(wanted):
        for place, shard in zip(chosen.tolist(), keys.shards[chosen].tolist(), strict=True):
            names.setdefault(shard, []).append(keys.names[place])
            asked, slots = places.setdefault(shard, ([], []))
            asked.append(number)
            slots.append(place)
    return [ShardRead(shard, found) for shard, found in names.items()], list(places.values())
