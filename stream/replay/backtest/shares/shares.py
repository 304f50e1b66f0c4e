"""Shares of a run by ranges of entity keys: which events a process scores, and which state it keeps.

A scored event belongs to the share of its key of the *splitting entity*; that share reads all of its features, so
nothing is exchanged between processes. State of the splitting entity is kept by its share alone. State of another
entity is folded by every share, but read only for its own events. Features of a key depend on the events of that key
in scoring order and on nothing else, so the numbers are those of one process, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.core.batch import Bools, Ints, MicroBatch, SourceBatch
from features.definitions.plan import Group, Plan
from features.engine.engine import FeatureEngine
from features.engine.hashing import hash_strings, shard_of
from features.engine.key_texts import key_texts
from features.engine.prepared import Prepared, PreparedSource
from stream.replay.backtest.request import SHARDS


@dataclass(frozen=True)
class Split:
    """How a plan's work is divided: the splitting entity of each scored source, and the groups that it divides.

    A scored source without entities is divided by its events' ids.
    """

    entities: dict[str, str | None]
    divided: frozenset[int]

    def said(self, plan: Plan) -> str:
        """One line for people: what is divided by what, and which views every process computes for itself."""
        by = ", ".join(f"{source} by {entity or 'event id'}" for source, entity in self.entities.items())
        whole = [group for group in plan.groups if group.index not in self.divided]
        places = {(group.entity, group.source) for group in whole}
        views = [view.name for view in plan.definitions.views if (view.entity, view.source) in places]
        if not views:
            return f"divided: {by}"
        return f"divided: {by}; state of these views is folded by every process: {', '.join(views)}"


def split_of(plan: Plan) -> Split:
    """Divide by the entity that most state hangs on; among equals the source's primary one."""

    def divided_by(chosen: dict[str, str | None]) -> frozenset[int]:
        return frozenset(group.index for group in plan.groups if _divides(plan, group, chosen))

    best: dict[str, str | None] = {}
    weight = -1
    for entity in [None, *sorted({name for reader in plan.readers.values() for name in reader.entity_keys})]:
        chosen = {
            source: entity if entity in reader.entity_keys else reader.primary
            for source, reader in plan.readers.items()
        }
        if len(divided_by(chosen)) > weight:
            best, weight = chosen, len(divided_by(chosen))
    return Split(best, divided_by(best))


def _divides(plan: Plan, group: Group, chosen: dict[str, str | None]) -> bool:
    """Whether every source that reads a group, or whose duplicates it tells, is split by the group's entity."""
    readers = {
        source
        for source, reader in plan.readers.items()
        if any(feature.group == group.index for feature in reader.features)
        or (source == group.source and reader.primary == group.entity)
    }
    return bool(readers) and all(chosen[source] == group.entity for source in readers)


@dataclass(frozen=True)
class Share:
    """Share `number` of `count`."""

    split: Split
    number: int
    count: int

    def needed(self, plan: Plan, batch: MicroBatch) -> MicroBatch:
        """A batch without the events that this share neither scores nor folds."""
        return MicroBatch(tuple(self._needed(plan, part) for part in batch.source_batches))

    def owned(self, engine: FeatureEngine, prepared: Prepared) -> dict[str, Bools]:
        """Of each scored source in a batch, the events of this share."""
        return {
            name: self._of(engine, prepared, source, self.split.entities[name])
            for name, source in prepared.sources.items()
            if name in self.split.entities
        }

    def restrict(self, engine: FeatureEngine, prepared: Prepared, owned: dict[str, Bools]) -> None:
        """Leave in the passes of a batch what this share reads and folds."""
        names = list(engine.plan.readers)
        for group in engine.plan.groups:
            reader, events = prepared.passes[group.index].reader, prepared.passes[group.index].events
            reads = reader >= 0
            for index, name in enumerate(names):
                of_source = reader == index
                if of_source.any():
                    reads &= ~of_source | owned[name][np.where(of_source, events.row, 0)]
            folds = events.folds.copy()
            if group.index in self.split.divided:
                folds &= self._share(engine, prepared, group.entity, events.key) == self.number
            prepared.restrict(group.index, reads, folds)

    def _needed(self, plan: Plan, part: SourceBatch) -> SourceBatch:
        name = part.source.name
        groups = [group for group in plan.groups if group.source == name]
        keys = {group.key_columns for group in groups}
        if name in self.split.entities:
            entity = self.split.entities[name]
            keys.add(() if entity is None else plan.readers[name].entity_keys[entity])
        if () in keys or any(group.index not in self.split.divided for group in groups):
            return part
        mine = np.zeros(len(part), np.bool_)
        for columns in keys:
            shards = shard_of(hash_strings(key_texts([part.columns[one] for one in columns])), SHARDS)
            mine |= shards * self.count // SHARDS == self.number
        return part if mine.all() else part.take(np.flatnonzero(mine))

    def _of(
        self, engine: FeatureEngine, prepared: Prepared, source: PreparedSource, entity: str | None
    ) -> Bools:
        if entity is None:
            mine: Bools = source.id_hashes.view(np.uint64) % np.uint64(self.count) == self.number
            return mine
        owned: Bools = self._share(engine, prepared, entity, source.key_index[entity]) == self.number
        return owned

    def _share(self, engine: FeatureEngine, prepared: Prepared, entity: str, key_index: Ints) -> Ints:
        """The share of each event's key; the first one takes events without a key."""
        keys = next(one for one in engine.entity_keys(prepared) if one.entity == entity)
        return keys.spread(keys.shards * self.count // SHARDS, key_index)
