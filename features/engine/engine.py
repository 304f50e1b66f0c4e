"""Turns micro-batches into features, folding each event into the state of its entities.

prepared = engine.prepare(batch)     columns hashed, keys given indices; nothing read or folded yet
matrices = engine.run(prepared)      one kernel pass a group: read every window, then fold
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np

from features.core.batch import Bools, FeatureMatrix, Ints, MicroBatch, SliceStamps
from features.core.errors import FatalError
from features.definitions.plan import Plan
from features.engine.group_state import GroupState
from features.engine.keys import KeyTable, distinct
from features.engine.layouts import NO_OUTPUTS, outputs
from features.engine.matrix import MatrixBuilder, MatrixSchema, features_of, no_results
from features.engine.prepared import DirtyRun, EntityKeys, GroupPass, KeyNames, Prepared
from features.engine.preparing import Preparer
from features.kernel.names import DUPLICATE, LATE
from features.kernel.row_format import split_texts, with_texts
from features.kernel.tables import Results


class FeatureEngine:
    """State and features of one plan. Not thread-safe: one thread calls everything."""

    def __init__(self, plan: Plan, *, shards: int = 16) -> None:
        self.plan = plan
        self.shards = shards
        self._groups = [GroupState(group) for group in plan.groups]
        entities = {entity for reader in plan.readers.values() for entity in reader.entity_keys}
        entities |= {group.entity for group in plan.groups}
        self._keys = {entity: KeyTable(entity, shards) for entity in sorted(entities)}
        self._readers = list(plan.readers)
        self._schemas = {name: MatrixSchema(plan, name) for name in self._readers}
        self._outputs = {
            (group.index, name): outputs(state.layout, features_of(plan, name, group))
            for group, state in zip(plan.groups, self._groups, strict=True)
            for name in self._readers
        }
        self._texts: dict[int, str] = {}
        reads = {
            (group.index, name): name in plan.readers and len(self._outputs[group.index, name]) > 0
            for group in plan.groups
            for name in plan.sources
        }
        self._preparer = Preparer(plan, self._keys, self._texts, reads)
        self._batch_number = 0

    def prepare(self, batch: MicroBatch) -> Prepared:
        """Hash ids, keys and tokens, evaluate conditions, give each key an index; nothing is read or folded."""
        self._batch_number += 1
        prepared = self._preparer.prepare(batch)
        for entity, table in self._keys.items():
            table.used[prepared.keys[entity]] = self._batch_number
            for state in self._groups:
                if state.group.entity == entity:
                    state.reserve_keys(table.count)
        return prepared

    # -- computing -------------------------------------------------------------------------------

    def run(self, prepared: Prepared) -> dict[str, FeatureMatrix]:
        """Read every window as of each event, then fold it in; one matrix a scored source."""
        return self._run(prepared, folds=True)

    def peek(self, prepared: Prepared) -> dict[str, FeatureMatrix]:
        """The same as if each event were next; changes nothing."""
        return self._run(prepared, folds=False)

    def _run(self, prepared: Prepared, *, folds: bool) -> dict[str, FeatureMatrix]:
        out = {
            name: MatrixBuilder(self._schemas[name], source.batch)
            for name, source in prepared.sources.items()
            if name in self._schemas
        }
        for state in self._groups:
            group_pass = prepared.passes[state.group.index]
            if len(group_pass):
                self._run_group(state, group_pass, out, folds)
        return {name: builder.matrix(self._texts) for name, builder in out.items()}

    def _run_group(
        self, state: GroupState, group_pass: GroupPass, out: dict[str, MatrixBuilder], folds: bool
    ) -> None:
        reader = group_pass.reader
        present = [name for index, name in enumerate(self._readers) if (reader == index).any()]
        if len(present) <= 1:
            self._call(state, group_pass, out[present[0]] if present else None, folds)
            return
        # Several readers: their events are processed one stretch after another, in scoring order.
        cuts = np.flatnonzero(np.diff(reader) != 0) + 1
        for begin, end in pairwise([0, *cuts.tolist(), len(reader)]):
            builder = out[self._readers[reader[begin]]] if reader[begin] >= 0 else None
            self._call(state, group_pass.take(slice(begin, end)), builder, folds)

    def _call(
        self, state: GroupState, group_pass: GroupPass, builder: MatrixBuilder | None, folds: bool
    ) -> None:
        group, events = state.group, group_pass.events
        # PROTOCOL 6.2: stamps of every slice but the event's own, which its offset tells.
        if folds and (group.label or not group.partition_local):
            state.partitions.update(distinct(events.partition[events.folds]).tolist())
        reads = group_pass.reader >= 0
        if builder is None:
            state.run(events, NO_OUTPUTS.reads(reads), no_results(len(group_pass)), folds=folds)
            return
        name = builder.batch.source.name
        own = group.partition_local and group.source == name
        partitions = np.array([] if own else sorted(state.partitions), np.int64)
        results = Results(
            values=builder.values,
            texts=builder.tokens,
            status=np.zeros(len(group_pass), np.int64),
            stamps=np.full((len(builder.batch), len(partitions)), -1, np.int64),
            partitions=partitions,
        )
        state.run(events, self._outputs[group.index, name].reads(reads), results, folds=folds)
        if len(partitions):
            stamps = SliceStamps(group.entity, group.source, tuple(partitions.tolist()), results.stamps)
            builder.stamps.append(stamps)
        if group.entity == self.plan.readers[name].primary and group.source == name:
            own_events = reads & events.folds
            builder.duplicate[events.row[own_events]] = results.status[own_events] & DUPLICATE > 0
            builder.late[events.row[own_events]] = results.status[own_events] & LATE > 0

    def fold(self, prepared: Prepared, skip: Mapping[int, Bools] | None = None) -> None:
        """Fold without reading (muted replay); `skip` leaves out events of `group_events`, group by group."""
        for state in self._groups:
            group_pass = prepared.passes[state.group.index]
            chosen = np.flatnonzero(group_pass.events.folds & (group_pass.events.key >= 0))
            if skip is not None and state.group.index in skip:
                chosen = chosen[~skip[state.group.index]]
            if len(chosen):
                unread = group_pass.take(chosen)
                unread.reader.fill(-1)
                self._call(state, unread, None, True)

    # -- state -----------------------------------------------------------------------------------

    def entity_keys(self, prepared: Prepared) -> list[EntityKeys]:
        """Per entity the keys that a batch touches."""
        return [
            EntityKeys(
                entity,
                indices,
                KeyNames(self._keys[entity].names, indices),
                self._keys[entity].shards[indices],
                self._keys[entity].loaded[indices].copy(),
                self._keys[entity].read_at[indices].copy(),
            )
            for entity, indices in prepared.keys.items()
        ]

    def load(
        self,
        entity: str,
        indices: Ints,
        slices: Sequence[tuple[int, str, int, bytes]],
        foreign: set[tuple[str, int]],
        read_at_us: int,
    ) -> None:
        """Take stored slices of keys; those of `foreign` partitions replace what was read before."""
        table = self._keys[entity]
        states = {state.group.source: state for state in self._groups if state.group.entity == entity}
        for source, state in states.items():
            state.reserve_keys(table.count)
            theirs = {number for name, number in foreign if name == source}
            if theirs:
                state.remove(indices, theirs)
            rows = [row for row in slices if row[1] == source]
            if rows and not self._decode(state, rows):
                raise FatalError(f"a stored row of {source} has another format; rebuild the state")
        table.loaded[indices] = True
        table.read_at[indices] = read_at_us

    def _decode(self, state: GroupState, slices: Sequence[tuple[int, str, int, bytes]]) -> bool:
        rows = [row for _, _, _, row in slices]
        if any(state.group.text_tokens):
            for number, row in enumerate(rows):
                rows[number], texts = split_texts(row)
                self._texts.update(texts)
        keys = np.array([key for key, _, _, _ in slices], np.int64)
        partitions = np.array([partition for _, _, partition, _ in slices], np.int64)
        return state.decode(keys, partitions, rows)

    def take_dirty(self, shards: Bools | None = None) -> list[DirtyRun]:
        """Encode every row touched since the last take; of some shards only, where they are marked."""
        due = np.ones(self.shards, np.bool_) if shards is None else shards
        return [run for state in self._groups for run in self._dirty_runs(state, due)]

    def _dirty_runs(self, state: GroupState, due: Bools) -> Iterator[DirtyRun]:
        group, table = state.group, self._keys[state.group.entity]
        which = state.take_dirty(table.shards, due)
        if not len(which):
            return
        which = which[np.lexsort((table.shards[state.rows.key[which]], state.rows.partition[which]))]
        rows = self._encoded(state, which)
        keys = state.rows.key[which]
        table.loaded[keys] = True
        names = list(map(table.names.__getitem__, keys.tolist()))
        runs = np.stack([state.rows.partition[which], table.shards[keys]])
        starts = np.flatnonzero((np.diff(runs, prepend=-1) != 0).any(axis=0)).tolist()
        for start, end in pairwise([*starts, len(rows)]):
            partition, shard = runs[:, start].tolist()
            yield DirtyRun(group.entity, group.source, partition, shard, names[start:end], rows[start:end])

    def _encoded(self, state: GroupState, which: Ints) -> list[bytes]:
        rows = state.encode(which)
        if not any(state.group.text_tokens):
            return rows
        tokens = [state.text_tokens(row) for row in which.tolist()]
        return [with_texts(row, held, self._texts) for row, held in zip(rows, tokens, strict=True)]

    def drop_all(self) -> None:
        """Forget all state."""
        for state in self._groups:
            state.clear()
        for table in self._keys.values():
            table.clear()
        self._texts.clear()

    def memory_bytes(self) -> int:
        """About how much memory the state takes."""
        return sum(state.memory_bytes() for state in self._groups) + sum(t.bytes for t in self._keys.values())

    def evict(self, to_bytes: int, base: Callable[[str, int], Ints]) -> int:
        """Forget keys used longest ago until `to_bytes` are left; a row goes only when its stamp <= base[shard]."""
        evicted = 0
        for share in (0.25, 0.5, 0.75, 1.0):
            if self.memory_bytes() <= to_bytes:
                break
            evicted += sum(self._evict_oldest(entity, share, base) for entity in self._keys)
        return evicted

    def _evict_oldest(self, entity: str, share: float, base: Callable[[str, int], Ints]) -> int:
        """Forget that share of an entity's keys, oldest use first, if stored and in no batch."""
        table = self._keys[entity]
        known = np.flatnonzero(table.hashes[: table.count])
        idle = known[table.used[known] < self._batch_number]
        if not len(idle):
            return 0
        cut = np.quantile(table.used[idle], share)
        victims = idle[table.used[idle] <= cut]
        states = [state for state in self._groups if state.group.entity == entity]
        for state in states:
            victims = victims[state.stored(victims, table.shards, base)]
        for state in states:
            state.remove(victims)
        table.forget(victims)
        return len(victims)
