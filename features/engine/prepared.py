"""A batch as the engine takes it: keys with slots, events by group in scoring order, and what comes back encoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np

from features.core.batch import Bools, Floats, Ints, MicroBatch, SourceBatch
from features.kernel import kernel as k
from features.store.layout import key_of


@dataclass(slots=True)
class EntityKeys:
    """The different keys of one entity in a batch, named as the store does; all arrays in the same order."""

    entity: str
    slots: Ints
    names: Sequence[bytes]
    shards: Ints
    loaded: Bools
    foreign_read_at: Ints

    @property
    def keys(self) -> list[str]:
        """The texts of all keys."""
        return list(map(key_of, self.names))


@dataclass(slots=True)
class GroupEvents:
    """Events that fold into a group, in scoring order; `key` is their place in the entity's `EntityKeys`."""

    offset: Ints
    partition: Ints
    key: Ints


@dataclass(slots=True)
class Part:
    """One source's events with the hashes of their ids and the slot of each entity's key."""

    batch: SourceBatch
    ids: Ints
    slots: dict[str, Ints] = field(default_factory=dict)


@dataclass(slots=True)
class Prepared:
    """A batch whose keys have slots; valid until the engine drops or evicts."""

    batch: MicroBatch
    parts: dict[str, Part]
    keys: dict[str, Ints]
    passes: dict[int, Pass]

    def group_events(self, group: int) -> GroupEvents:
        """The events that fold into a group; needed where a replay looks at single events."""
        made = self.passes[group]
        chosen = made.folds & (made.slot >= 0)
        place = np.searchsorted(self.keys[made.entity], made.slot[chosen])
        return GroupEvents(made.offset[chosen], made.part[chosen], place)


@dataclass(slots=True)
class Pass:
    """Events of one group in scoring order, as the kernel takes them."""

    entity: str
    slot: Ints
    part: Ints
    offset: Ints
    t: Ints
    position: Ints
    hid: k.Words
    bits: k.Words
    v: Floats
    k: Ints
    folds: Bools
    reader: Ints
    row: Ints


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


class Names(Sequence[bytes]):
    """Names of some slots, looked up when asked for: most batches need few of them."""

    def __init__(self, names: list[bytes], slots: Ints) -> None:
        self._names = names
        self._slots = slots

    def __len__(self) -> int:
        return len(self._slots)

    @overload
    def __getitem__(self, place: int) -> bytes: ...
    @overload
    def __getitem__(self, place: slice) -> list[bytes]: ...

    def __getitem__(self, place: int | slice) -> bytes | list[bytes]:
        if isinstance(place, slice):
            return [self._names[slot] for slot in self._slots[place].tolist()]
        name: bytes = self._names[self._slots[place]]
        return name


def reorder(made: Pass, order: Ints) -> None:
    """Put the events of a pass into another order."""
    for name in ("slot", "part", "offset", "t", "position", "hid", "bits", "folds", "reader", "row"):
        setattr(made, name, getattr(made, name)[order])
    made.v, made.k = np.ascontiguousarray(made.v[:, order]), np.ascontiguousarray(made.k[:, order])


def cut(made: Pass, at: slice | Ints) -> Pass:
    """Some events of a pass."""
    one = {
        name: np.ascontiguousarray(getattr(made, name)[at])
        for name in ("slot", "part", "offset", "t", "position", "hid", "bits", "folds", "reader", "row")
    }
    return Pass(
        entity=made.entity,
        **one,
        v=np.ascontiguousarray(made.v[:, at]),
        k=np.ascontiguousarray(made.k[:, at]),
    )
