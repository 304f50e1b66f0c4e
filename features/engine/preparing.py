"""Turns a micro-batch into what the kernel takes: hashes of ids, indices of keys, tokens, condition bits, one order."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

import numpy as np

from features.core.batch import MicroBatch, SourceBatch
from features.definitions.expressions import Conditions
from features.definitions.plan import Group, Plan
from features.engine.hashing import hash_column, hash_strings
from features.engine.key_texts import key_texts
from features.engine.keys import KeyTable, distinct
from features.engine.prepared import GroupPass, Prepared, PreparedSource
from features.kernel.names import NEVER
from features.kernel.tables import Events

_ID_BITS = np.uint64(0xFFFFFF)


class Preparer:
    """Prepares batches of one plan; `tables` gives keys their indices, `texts` receives the texts of tokens."""

    def __init__(
        self,
        plan: Plan,
        tables: Mapping[str, KeyTable],
        texts: MutableMapping[int, str],
        reads: Mapping[tuple[int, str], bool],
    ) -> None:
        self._plan = plan
        self._tables = tables
        self._texts = texts
        self._reads = reads
        self._readers = list(plan.readers)
        self._conditions = {
            group.index: Conditions(plan.sources[group.source], group.conditions) for group in plan.groups
        }
        self._key_columns = {name: self._columns_of(name) for name in plan.sources}

    def _columns_of(self, source: str) -> dict[str, tuple[str, ...]]:
        """The columns of a source that make each entity's key."""
        columns: dict[str, tuple[str, ...]] = {}
        if source in self._plan.readers:
            columns.update(self._plan.readers[source].entity_keys)
        groups = [group for group in self._plan.groups if group.source == source]
        columns.update({group.entity: group.key_columns for group in groups})
        return {entity: names for entity, names in columns.items() if entity in self._tables}

    def prepare(self, batch: MicroBatch) -> Prepared:
        """Hash ids, keys and tokens, evaluate conditions, give each key an index."""
        sources = {one.source.name: self._source(one) for one in batch.source_batches if len(one)}
        keys = {}
        for entity in self._tables:
            indices = [one.key_index[entity] for one in sources.values() if entity in one.key_index]
            known = distinct(np.concatenate(indices)) if indices else np.zeros(0, np.int64)
            keys[entity] = known[known >= 0]
        passes = {group.index: self._pass(group, sources) for group in self._plan.groups}
        return Prepared(batch, sources, keys, passes)

    def _source(self, batch: SourceBatch) -> PreparedSource:
        prepared = PreparedSource(batch, hash_strings(batch.event_ids).astype(np.int64))
        for entity, names in self._key_columns.get(batch.source.name, {}).items():
            texts = key_texts([batch.columns[name] for name in names])
            prepared.key_index[entity] = self._tables[entity].indices(hash_strings(texts), texts)
        return prepared

    def _pass(self, group: Group, sources: Mapping[str, PreparedSource]) -> GroupPass:
        """The events of all sources that a group folds or that read it, in scoring order."""
        chosen = [
            source
            for name, source in sources.items()
            if group.entity in source.key_index and (name == group.source or self._reads[group.index, name])
        ]
        n = sum(len(source.batch) for source in chosen)
        group_pass = GroupPass(group.entity, _no_events(group, n), np.full(n, -1, np.int64))
        order = np.zeros(n, np.int64)
        begin = 0
        for source in chosen:
            name = source.batch.source.name
            rows = slice(begin, begin + len(source.batch))
            self._fill(group_pass.events, rows, group, source)
            if self._reads[group.index, name]:
                group_pass.reader[rows] = self._readers.index(name)
            order[rows] = source.batch.position
            begin = rows.stop
        if len(chosen) > 1 or (n > 1 and (np.diff(order) < 0).any()):
            return group_pass.take(np.argsort(order, kind="stable"))
        return group_pass

    def _fill(self, events: Events, rows: slice, group: Group, source: PreparedSource) -> None:
        batch = source.batch
        events.key[rows] = source.key_index[group.entity]
        events.partition[rows], events.offset[rows] = batch.partition, batch.offset
        events.time[rows] = batch.event_time
        events.row[rows] = np.arange(len(batch))
        if batch.source.name != group.source:
            return
        events.folds[rows] = True
        events.id_hash[rows] = (source.id_hashes & 0xFFFFFF).astype(np.uint32)
        if group.label:
            _fill_label(events, rows, batch)
        if group.conditions:
            events.bits[rows] = self._conditions[group.index].bits(batch)
        for index, name in enumerate(group.value_columns):
            events.values[index, rows] = batch.columns[name]
        for index, name in enumerate(group.token_columns):
            column = batch.columns[name]
            hashes = hash_column(column).view(np.int64)
            events.tokens[index, rows] = hashes
            if group.text_tokens[index] and isinstance(column, list):
                self._texts.update(zip(hashes.tolist(), column, strict=True))  # type: ignore[arg-type]


def _no_events(group: Group, n: int) -> Events:
    return Events(
        key=np.zeros(n, np.int64),
        partition=np.zeros(n, np.int64),
        offset=np.zeros(n, np.int64),
        time=np.zeros(n, np.int64),
        position=np.full(n, NEVER, np.int64),
        id_hash=np.zeros(n, np.uint32),
        bits=np.zeros(n, np.uint32),
        values=np.full((len(group.value_columns), n), np.nan),
        tokens=np.zeros((len(group.token_columns), n), np.int64),
        folds=np.zeros(n, np.bool_),
        row=np.zeros(n, np.int64),
    )


def _fill_label(events: Events, rows: slice, batch: SourceBatch) -> None:
    """A label is known by the event that it judges: that event's id, and its time where the label says it."""
    spec = batch.source.labels
    assert spec is not None
    column = batch.columns[spec.event_id]
    texts = column if isinstance(column, list) else key_texts([column])
    events.id_hash[rows] = (hash_strings(texts) & _ID_BITS).astype(np.uint32)
    if spec.event_time is not None:
        position = np.asarray(batch.columns[spec.event_time], np.float64)
        known = np.isfinite(position)
        events.position[rows] = np.where(known, np.where(known, position, 0).astype(np.int64), NEVER)
