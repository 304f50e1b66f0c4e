"""A batch as the engine takes it: keys with indices, events by group in scoring order, and what comes back encoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from features.core.batch import Bools, Ints, MicroBatch, Rows, SourceBatch
from features.kernel.tables import Events
from features.store.layout import key_of

Number = TypeVar("Number", bound=np.generic)


@dataclass(slots=True)
class EntityKeys:
    """The different keys of one entity in a batch, named as the store does; all arrays in the same order.

    `indices` are the keys' numbers in the engine's tables, ascending.
    """

    entity: str
    indices: Ints
    names: Sequence[bytes]
    shards: Ints
    loaded: Bools
    foreign_read_at: Ints

    @property
    def keys(self) -> list[str]:
        """The texts of all keys."""
        return list(map(key_of, self.names))

    def spread(self, of_keys: NDArray[Number], key_index: Ints) -> NDArray[Number]:
        """What is known of each key as one value an event; zero for an event without a key (index -1)."""
        out = np.zeros(len(key_index), of_keys.dtype)
        known = key_index >= 0
        out[known] = of_keys[np.searchsorted(self.indices, key_index[known])]
        return out


@dataclass(slots=True)
class GroupEvents:
    """Events that fold into a group, in scoring order; `key` is their row in the entity's `EntityKeys`."""

    offset: Ints
    partition: Ints
    key: Ints


@dataclass(slots=True)
class PreparedSource:
    """One source's events with the hashes of their ids and, for each entity, the index of their key."""

    batch: SourceBatch
    id_hashes: Ints
    key_index: dict[str, Ints] = field(default_factory=dict)


@dataclass(slots=True)
class GroupPass:
    """Events of one group in scoring order, as the kernel takes them.

    `reader` is the number of the scored source that reads an event's features, -1 where none does.
    """

    entity: str
    events: Events
    reader: Ints

    def __len__(self) -> int:
        return len(self.reader)

    def take(self, rows: Rows) -> GroupPass:
        """Some events, in the order given."""
        arrays: list[Any] = [np.ascontiguousarray(array[..., rows]) for array in self.events]
        return GroupPass(self.entity, Events(*arrays), np.ascontiguousarray(self.reader[rows]))


@dataclass(slots=True)
class Prepared:
    """A batch whose keys have indices; valid until the engine drops or evicts."""

    batch: MicroBatch
    sources: dict[str, PreparedSource]
    keys: dict[str, Ints]
    passes: dict[int, GroupPass]

    def group_events(self, group: int) -> GroupEvents:
        """The events that fold into a group; needed where a replay looks at single events."""
        entity, events = self.passes[group].entity, self.passes[group].events
        chosen = events.folds & (events.key >= 0)
        rows = np.searchsorted(self.keys[entity], events.key[chosen])
        return GroupEvents(events.offset[chosen], events.partition[chosen], rows)

    def leave_out(self, entity: str, indices: Ints) -> None:
        """Read those keys of an entity as missing, and fold nothing into them."""
        for group_pass in self.passes.values():
            if group_pass.entity == entity:
                key = group_pass.events.key
                key[np.isin(key, indices)] = -1

    def fold_nothing(self) -> None:
        """Let no event count in its own windows or go into the state: the batch only asks."""
        for group_pass in self.passes.values():
            group_pass.events.folds[:] = False

    def restrict(self, group: int, reads: Bools, folds: Bools) -> None:
        """Keep of a group's events those that are read or folded; both are given for every event of the group."""
        group_pass = self.passes[group]
        group_pass.reader[~reads] = -1
        keep = folds | (group_pass.reader >= 0)
        if not keep.all():
            self.passes[group] = group_pass.take(np.flatnonzero(keep))


@dataclass(slots=True)
class DirtyRun:
    """Rows of one entity, source, partition and shard, touched since the last take and encoded."""

    entity: str
    source: str
    partition: int
    shard: int
    names: list[bytes]
    rows: list[bytes]

    @property
    def keys(self) -> list[str]:
        """The texts of the rows' keys."""
        return list(map(key_of, self.names))


class KeyNames(Sequence[bytes]):
    """Names of some keys, looked up when asked for: most batches need few of them."""

    def __init__(self, names: list[bytes], indices: Ints) -> None:
        self._names = names
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, row: int) -> bytes: ...
    @overload
    def __getitem__(self, row: slice) -> list[bytes]: ...

    def __getitem__(self, row: int | slice) -> bytes | list[bytes]:
        if isinstance(row, slice):
            return [self._names[index] for index in self._indices[row].tolist()]
        name: bytes = self._names[self._indices[row]]
        return name
