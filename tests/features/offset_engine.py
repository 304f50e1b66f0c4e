"""An engine whose rows are the list of offsets folded, so that a lost, doubled or reordered event shows.

A `RowEngine` without features: the same trick as in the protocol's TLA+ model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from features.core.batch import Bools, Ints, MicroBatch
from features.definitions.compile import compile_plan
from features.definitions.plan import Plan
from features.definitions.spec import Aggregation, Definitions, Entity, FeatureView, Field, Source
from features.engine.prepared import DirtyRun, EntityKeys, GroupEvents, Prepared
from features.store.layout import slice_name

SHARDS = 3


def plan() -> Plan:
    """Cards have one slice, merchants one a partition."""
    fields = (
        Field(name="id", dtype="string"),
        Field(name="at", dtype="timestamp"),
        Field(name="card", dtype="string"),
        Field(name="merchant", dtype="string"),
    )
    count = (Aggregation(function="count"),)
    return compile_plan(
        Definitions(
            sources=(
                Source(name="pay", topic="pay", event_id="id", event_time="at", fields=fields, key="card"),
            ),
            entities=(Entity(name="card", keys=("card",)), Entity(name="merchant", keys=("merchant",))),
            views=(
                FeatureView(name="c", source="pay", entity="card", aggregations=count, windows=("1d",)),
                FeatureView(name="m", source="pay", entity="merchant", aggregations=count, windows=("1d",)),
            ),
        )
    )


@dataclass(frozen=True)
class Event:
    partition: int
    offset: int
    card: str
    merchant: str

    def key(self, entity: str) -> str:
        return self.card if entity == "card" else self.merchant


class PreparedEvents(Prepared):
    """A batch of such events, with the names of their keys for each entity."""

    def __init__(self, events: list[Event], names: dict[str, list[str]]) -> None:
        super().__init__(MicroBatch(()), {}, {}, {})
        self.events = events
        self.names = names

    def group_events(self, group: int) -> GroupEvents:
        entity = ENTITIES[group]
        ranks = {name: rank for rank, name in enumerate(self.names[entity])}
        return GroupEvents(
            partition=np.array([event.partition for event in self.events], np.int64),
            offset=np.array([event.offset for event in self.events], np.int64),
            key=np.array([ranks[event.key(entity)] for event in self.events], np.int64),
        )


ENTITIES = [group.entity for group in plan().groups]


def shard_of(entity: str, key: str) -> int:
    return sum((entity + key).encode()) % SHARDS


def encode(offsets: Iterable[int]) -> bytes:
    return ",".join(map(str, offsets)).encode()


def decode(data: bytes) -> list[int]:
    return [int(text) for text in data.decode().split(",") if text]


@dataclass
class OffsetEngine:
    shards: int = SHARDS
    plan: Plan = field(default_factory=plan)
    rows: dict[tuple[str, str, str, int], list[int]] = field(default_factory=dict)
    dirty: dict[tuple[str, str, str, int], None] = field(default_factory=dict)
    loaded: set[tuple[str, str]] = field(default_factory=set)
    read_at: dict[tuple[str, str], int] = field(default_factory=dict)
    keys: list[tuple[str, str]] = field(default_factory=list)
    foreign: set[tuple[str, str, str, int]] = field(default_factory=set)
    before_fold: Callable[[], None] = lambda: None

    def prepare(self, events: list[Event]) -> PreparedEvents:
        names = {entity: sorted({event.key(entity) for event in events}) for entity in ENTITIES}
        return PreparedEvents(events, names)

    def _index(self, entity: str, key: str) -> int:
        if (entity, key) not in self.keys:
            self.keys.append((entity, key))
        return self.keys.index((entity, key))

    def entity_keys(self, prepared: Prepared) -> list[EntityKeys]:
        assert isinstance(prepared, PreparedEvents)
        return [
            EntityKeys(
                entity=entity,
                indices=np.array([self._index(entity, key) for key in keys], np.int64),
                names=[slice_name(entity, key) for key in keys],
                shards=np.array([shard_of(entity, key) for key in keys], np.int64),
                loaded=np.array([(entity, key) in self.loaded for key in keys], np.bool_),
                foreign_read_at=np.array([self.read_at.get((entity, key), 0) for key in keys], np.int64),
            )
            for entity, keys in prepared.names.items()
        ]

    def load(
        self,
        entity: str,
        indices: Ints,
        slices: Sequence[tuple[int, str, int, bytes]],
        foreign: set[tuple[str, int]],
        read_at_us: int,
    ) -> None:
        keys = {index: self.keys[index][1] for index in indices.tolist()}
        for key in keys.values():
            self.loaded.add((entity, key))
            self.read_at[entity, key] = read_at_us
            for row in [row for row in self.foreign if row[:2] == (entity, key)]:
                self.foreign.discard(row)
                self.rows.pop(row)
        for index, source, partition, data in slices:
            row = (entity, keys[index], source, partition)
            self.rows[row] = decode(data)
            if (source, partition) in foreign:
                self.foreign.add(row)

    def fold(self, prepared: Prepared, skip: Mapping[int, Bools] | None = None) -> None:
        assert isinstance(prepared, PreparedEvents)
        self.before_fold()
        for group, entity in enumerate(ENTITIES):
            for number, event in enumerate(prepared.events):
                if skip is not None and group in skip and skip[group][number]:
                    continue
                key = event.key(entity)
                assert (entity, key) in self.loaded, "folded into a key that was never read"
                row = (entity, key, "pay", event.partition)
                offsets = self.rows.setdefault(row, [])
                if not offsets or event.offset > offsets[-1]:
                    offsets.append(event.offset)
                    self.dirty[row] = None

    def take_dirty(self, shards: Bools | None = None) -> list[DirtyRun]:
        rows = [row for row in self.dirty if shards is None or shards[shard_of(row[0], row[1])]]
        self.dirty = {row: None for row in self.dirty if row not in rows}
        return [
            DirtyRun(
                entity,
                source,
                partition,
                shard_of(entity, key),
                [slice_name(entity, key)],
                [encode(self.rows[row])],
            )
            for row in rows
            for entity, key, source, partition in [row]
        ]

    def drop_all(self) -> None:
        for state in (self.rows, self.dirty, self.loaded, self.read_at, self.foreign):
            state.clear()

    def memory_bytes(self) -> int:
        return len(self.rows)

    def evict(self, to_bytes: int, base: Callable[[str, int], Ints]) -> int:
        evicted = 0
        for entity, key in sorted(self.loaded):
            own = [row for row in self.rows if row[:2] == (entity, key)]
            kept = [row for row in own if row not in self.foreign and not self._stored(row, base)]
            if not kept and self.memory_bytes() > to_bytes:
                for row in own:
                    self.rows.pop(row)
                    self.foreign.discard(row)
                self.loaded.discard((entity, key))
                evicted += 1
        return evicted

    def _stored(self, row: tuple[str, str, str, int], base: Callable[[str, int], Ints]) -> bool:
        stamp = self.rows[row][-1] + 1 if self.rows[row] else 0
        return stamp <= int(base(row[2], row[3])[shard_of(row[0], row[1])])
