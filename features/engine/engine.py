"""Turns micro-batches into features, folding each event into the state of its entities.

prepared = engine.prepare(batch)     columns hashed, keys given slots; nothing read or folded yet
matrices = engine.run(prepared)      one kernel pass a group: read every window, then fold
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np

from features.core.batch import Bools, FeatureMatrix, Ints, MicroBatch, SliceStamps, SourceBatch
from features.core.errors import FatalError
from features.definitions.expressions import Conditions
from features.definitions.plan import Group, Plan
from features.engine.group_state import GroupState, Outputs
from features.engine.hashing import hash_column, hash_strings
from features.engine.key_texts import key_texts
from features.engine.keys import KeyTable, distinct
from features.engine.matrix import NO_OUTPUTS, Heading, Sheet, features_of
from features.engine.prepared import DirtyRun, EntityKeys, Names, Part, Pass, Prepared, cut, reorder
from features.engine.row_texts import split_texts, with_texts
from features.kernel import kernel as k


class FeatureEngine:
    """State and features of one plan. Not thread-safe: one thread calls everything."""

    def __init__(self, plan: Plan, *, shards: int = 16) -> None:
        self.plan = plan
        self.shards = shards
        self._groups = [GroupState(group) for group in plan.groups]
        entities = {entity for reader in plan.readers.values() for entity in reader.entity_keys}
        entities |= {group.entity for group in plan.groups}
        self._keys = {entity: KeyTable(entity, shards) for entity in sorted(entities)}
        self._conditions = {
            group.index: Conditions(plan.sources[group.source], group.conditions) for group in plan.groups
        }
        self._readers = list(plan.readers)
        self._headings = {name: Heading(plan, name) for name in self._readers}
        self._outputs = {
            (group.index, name): Outputs(state.layout, features_of(plan, name, group))
            for group, state in zip(plan.groups, self._groups, strict=True)
            for name in self._readers
        }
        self._texts: dict[int, str] = {}
        self._batch_number = 0

    # -- preparing -------------------------------------------------------------------------------

    def prepare(self, batch: MicroBatch) -> Prepared:
        """Hash ids, keys and tokens, evaluate conditions, give each key a slot."""
        self._batch_number += 1
        parts = {part.source.name: self._part(part) for part in batch.parts if len(part)}
        keys = {}
        for entity, table in self._keys.items():
            found = [part.slots[entity] for part in parts.values() if entity in part.slots]
            slots = distinct(np.concatenate(found)) if found else np.zeros(0, np.int64)
            keys[entity] = slots[slots >= 0]
            table.used[keys[entity]] = self._batch_number
            for state in self._groups:
                if state.group.entity == entity:
                    state.reserve_keys(table.count)
        passes = {state.group.index: self._pass(state.group, parts) for state in self._groups}
        return Prepared(batch, parts, keys, passes)

    def _part(self, batch: SourceBatch) -> Part:
        made = Part(batch, hash_strings(batch.event_ids).astype(np.int64))
        name = batch.source.name
        columns: dict[str, tuple[str, ...]] = {}
        if name in self.plan.readers:
            columns.update(self.plan.readers[name].entity_keys)
        columns.update(
            {group.entity: group.key_columns for group in self.plan.groups if group.source == name}
        )
        for entity, names in columns.items():
            if entity in self._keys:
                texts = key_texts([batch.columns[one] for one in names])
                hashes = hash_strings(texts)
                made.slots[entity] = self._keys[entity].slots(hashes, texts)
        return made

    def _pass(self, group: Group, parts: Mapping[str, Part]) -> Pass:
        taken = []
        for name, part in parts.items():
            reads = name in self._readers and len(self._outputs[group.index, name].kind) > 0
            if group.entity in part.slots and (reads or name == group.source):
                taken.append((name, part, reads))
        n = sum(len(part.batch) for _, part, _ in taken)
        zeros = [np.zeros(n, np.int64) for _ in range(5)]
        made = Pass(
            group.entity,
            zeros[0],
            zeros[1],
            zeros[2],
            zeros[3],
            zeros[4],
            np.zeros(n, np.uint32),
            np.zeros(n, np.uint32),
            np.full((len(group.value_columns), n), np.nan),
            np.zeros((len(group.token_columns), n), np.int64),
            np.zeros(n, np.bool_),
            np.full(n, -1, np.int64),
            np.zeros(n, np.int64),
        )
        order = np.zeros(n, np.int64)
        at = 0
        for name, part, reads in taken:
            rows = slice(at, at + len(part.batch))
            self._fill(made, rows, group, name, part)
            made.reader[rows] = self._readers.index(name) if reads else -1
            order[rows] = part.batch.position
            at = rows.stop
        if len(taken) > 1 or (n > 1 and (np.diff(order) < 0).any()):
            reorder(made, np.argsort(order, kind="stable"))
        return made

    def _fill(self, made: Pass, rows: slice, group: Group, name: str, part: Part) -> None:
        batch = part.batch
        made.slot[rows] = part.slots[group.entity]
        made.part[rows], made.offset[rows], made.t[rows] = batch.partition, batch.offset, batch.event_time
        made.row[rows] = np.arange(len(batch))
        made.position[rows] = k.NEVER
        if name != group.source:
            return
        made.folds[rows] = True
        made.hid[rows] = (part.ids & 0xFFFFFF).astype(np.uint32)
        if group.label:
            spec = batch.source.labels
            assert spec is not None
            column = batch.columns[spec.event_id]
            texts = column if isinstance(column, list) else key_texts([column])
            made.hid[rows] = (hash_strings(texts) & np.uint64(0xFFFFFF)).astype(np.uint32)
            if spec.event_time is not None:
                position = np.asarray(batch.columns[spec.event_time], np.float64)
                known = np.isfinite(position)
                made.position[rows] = np.where(known, np.where(known, position, 0).astype(np.int64), k.NEVER)
        if group.conditions:
            made.bits[rows] = self._conditions[group.index].bits(batch)
        for place, column_name in enumerate(group.value_columns):
            made.v[place, rows] = batch.columns[column_name]
        for place, column_name in enumerate(group.token_columns):
            column = batch.columns[column_name]
            hashes = hash_column(column).view(np.int64)
            made.k[place, rows] = hashes
            if group.text_tokens[place] and isinstance(column, list):
                self._texts.update(zip(hashes.tolist(), column, strict=True))  # type: ignore[arg-type]

    # -- computing -------------------------------------------------------------------------------

    def run(self, prepared: Prepared) -> dict[str, FeatureMatrix]:
        """Read every window as of each event, then fold it in; one matrix a scored source."""
        return self._run(prepared, folds=True)

    def peek(self, prepared: Prepared) -> dict[str, FeatureMatrix]:
        """The same as if each event were next; changes nothing."""
        return self._run(prepared, folds=False)

    def _run(self, prepared: Prepared, *, folds: bool) -> dict[str, FeatureMatrix]:
        out = {
            name: Sheet(self._headings[name], part.batch)
            for name, part in prepared.parts.items()
            if name in self._headings
        }
        for state in self._groups:
            made = prepared.passes[state.group.index]
            if len(made.slot):
                self._run_group(state, made, out, folds)
        return {name: sheet.matrix(self._texts) for name, sheet in out.items()}

    def _run_group(self, state: GroupState, made: Pass, out: dict[str, Sheet], folds: bool) -> None:
        present = [name for place, name in enumerate(self._readers) if (made.reader == place).any()]
        if len(present) <= 1:
            self._call(state, made, out, present[0] if present else None, folds)
            return
        # Several readers: their events are processed one stretch after another, in scoring order.
        cuts = np.flatnonzero(np.diff(made.reader) != 0) + 1
        for begin, end in zip([0, *cuts.tolist()], [*cuts.tolist(), len(made.slot)], strict=True):
            name = self._readers[made.reader[begin]] if made.reader[begin] >= 0 else None
            self._call(state, cut(made, slice(begin, end)), out, name, folds)

    def _call(
        self, state: GroupState, made: Pass, out: dict[str, Sheet], name: str | None, folds: bool
    ) -> None:
        group = state.group
        sheet = out[name] if name is not None else None
        outputs = self._outputs[group.index, name] if name is not None else NO_OUTPUTS
        values = sheet.values if sheet else np.zeros((0, 0))
        texts = sheet.tokens if sheet else np.zeros((0, 0), np.int64)
        reads = made.reader >= 0
        parts = np.zeros(0, np.int64)
        # PROTOCOL 6.2: stamps of every slice but the event's own, which its offset tells.
        if folds and (group.label or not group.partition_local):
            state.parts.update(distinct(made.part[made.folds]).tolist())
        if sheet is not None and not (group.partition_local and group.source == name):
            parts = np.array(sorted(state.parts), np.int64)
        stamps = np.full((len(sheet.batch) if sheet else 0, len(parts)), -1, np.int64)
        status = np.zeros(len(made.slot), np.int64)
        begin = 0
        while True:
            begin = k.run(
                begin,
                state.entries,
                state.rows,
                state.heads,
                state.buckets,
                state.layout,
                state.meta,
                state._scratch,
                made.slot,
                made.part,
                made.offset,
                made.t,
                made.position,
                made.hid,
                made.bits,
                made.v,
                made.k,
                made.folds,
                reads,
                made.row,
                outputs.kind,
                outputs.cell,
                outputs.of,
                outputs.fill,
                outputs.column,
                outputs.text,
                values,
                texts,
                status,
                folds,
                stamps,
                parts,
            )
            if begin >= len(made.slot):
                break
            state.grow()
        if sheet is None:
            return
        if len(parts):
            sheet.stamps.append(SliceStamps(group.entity, group.source, tuple(parts.tolist()), stamps))
        reader = self.plan.readers[sheet.batch.source.name]
        if group.entity == reader.primary and group.source == sheet.batch.source.name:
            mine = reads & made.folds
            sheet.duplicate[made.row[mine]] = (status[mine] & 1) > 0
            sheet.late[made.row[mine]] = (status[mine] & 2) > 0

    def fold(self, prepared: Prepared, skip: Mapping[int, Bools] | None = None) -> None:
        """Fold without reading (muted replay); `skip` leaves out events of `group_events`, group by group."""
        for state in self._groups:
            made = prepared.passes[state.group.index]
            chosen = np.flatnonzero(made.folds & (made.slot >= 0))
            if skip is not None and state.group.index in skip:
                chosen = chosen[~skip[state.group.index]]
            if len(chosen):
                part = cut(made, chosen)
                part.reader = np.full(len(chosen), -1, np.int64)
                self._call(state, part, {}, None, True)

    # -- state -----------------------------------------------------------------------------------

    def entity_keys(self, prepared: Prepared) -> list[EntityKeys]:
        """Per entity the keys that a batch touches."""
        return [
            EntityKeys(
                entity,
                slots,
                Names(self._keys[entity].names, slots),
                self._keys[entity].shards[slots],
                self._keys[entity].loaded[slots].copy(),
                self._keys[entity].read_at[slots].copy(),
            )
            for entity, slots in prepared.keys.items()
        ]

    def load(
        self,
        entity: str,
        slots: Ints,
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
                state.remove(slots, theirs)
            mine = [one for one in slices if one[1] == source]
            if mine and not self._decode(state, mine):
                raise FatalError(f"a stored row of {source} has another format; rebuild the state")
        table.loaded[slots] = True
        table.read_at[slots] = read_at_us

    def _decode(self, state: GroupState, slices: Sequence[tuple[int, str, int, bytes]]) -> bool:
        rows = [row for _, _, _, row in slices]
        if any(state.group.text_tokens):
            for place, row in enumerate(rows):
                rows[place], texts = split_texts(row)
                self._texts.update(texts)
        where = np.array([(slot, partition) for slot, _, partition, _ in slices], np.int64)
        return state.decode(np.ascontiguousarray(where[:, 0]), np.ascontiguousarray(where[:, 1]), rows)

    def take_dirty(self, shards: Bools | None = None) -> list[DirtyRun]:
        """Encode every row touched since the last take; of some shards only, where they are marked."""
        due = np.ones(self.shards, np.bool_) if shards is None else shards
        return [run for state in self._groups for run in self._dirty_runs(state, due)]

    def _dirty_runs(self, state: GroupState, due: Bools) -> Iterator[DirtyRun]:
        group, table = state.group, self._keys[state.group.entity]
        which = state.take_dirty(table.shards, due)
        if not len(which):
            return
        which = which[np.lexsort((table.shards[state.rows.slot[which]], state.rows.part[which]))]
        rows = self._encoded(state, which)
        slots = state.rows.slot[which]
        table.loaded[slots] = True
        names = list(map(table.names.__getitem__, slots.tolist()))
        places = np.stack([state.rows.part[which], table.shards[slots]])
        starts = np.flatnonzero((np.diff(places, prepend=-1) != 0).any(axis=0)).tolist()
        for start, end in pairwise([*starts, len(rows)]):
            partition, shard = places[:, start].tolist()
            yield DirtyRun(group.entity, group.source, partition, shard, names[start:end], rows[start:end])

    def _encoded(self, state: GroupState, which: Ints) -> list[bytes]:
        out, ends = state.encode(which)
        whole = out[: ends[-1]].tobytes()
        cuts = ends.tolist()
        rows = [whole[a:b] for a, b in zip([0, *cuts[:-1]], cuts, strict=True)]
        if not any(state.group.text_tokens):
            return rows
        tokens = [state.text_tokens(row) for row in which.tolist()]
        return [with_texts(row, mine, self._texts) for row, mine in zip(rows, tokens, strict=True)]

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
        gone = 0
        for share in (0.25, 0.5, 0.75, 1.0):
            if self.memory_bytes() <= to_bytes:
                break
            gone += sum(self._evict_oldest(entity, share, base) for entity in self._keys)
        return gone

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
