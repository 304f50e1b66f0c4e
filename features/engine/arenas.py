"""Allocates a group's arena and makes its arrays longer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.definitions.plan import Group
from features.kernel import names as k
from features.kernel.tables import Arena, Buckets, Entries, GroupLayout, Rows, Scratch

_SET = 1 << 16  # hash set that counts distinct tokens


def new_arena(group: Group, layout: GroupLayout) -> Arena:
    """An arena without rows."""
    meta = np.full(k.M_CELLS, -1, np.int64)
    zeros = (k.M_END, k.M_ROWS, k.M_LATE, k.M_FORGOTTEN, k.M_DUPLICATES, k.M_BUCKETS)
    for counter in (*zeros, k.M_LIVE_EVENTS, k.M_LIVE_ROWS, k.M_LIVE_BUCKETS, k.M_TOUCHED):
        meta[counter] = 0
    return Arena(
        entries=_entries(group, 1 << 12),
        rows=_rows(1 << 8),
        heads=np.full(1 << 8, -1, np.int64),
        buckets=_buckets(group, layout, 1),
        meta=meta,
        scratch=_scratch(len(layout.windows)),
    )


def with_keys(arena: Arena, count: int) -> Arena:
    """The arena with a head for each of so many keys."""
    if count <= len(arena.heads):
        return arena
    heads = np.full(max(count, len(arena.heads) * 2), -1, np.int64)
    heads[: len(arena.heads)] = arena.heads
    return arena._replace(heads=heads)


def with_room(arena: Arena, entries: int) -> Arena:
    """The arena with room for so many more entries, another row and another block of buckets."""
    meta = arena.meta
    end = int(meta[k.M_END])
    if end + entries > len(arena.entries.time):
        size = max(len(arena.entries.time) * 3 // 2, end + entries)
        arena = arena._replace(entries=Entries(*(_resized(array, size) for array in arena.entries)))
    if meta[k.M_ROWS] + 2 >= len(arena.rows.key):
        arena = arena._replace(rows=_rows(len(arena.rows.key) * 2, arena.rows))
    if meta[k.M_BUCKETS] + 2 >= len(arena.buckets.length):
        size = len(arena.buckets.length) * 2 + 2
        arena = arena._replace(buckets=Buckets(*(_resized(array, size, axis=0) for array in arena.buckets)))
    return arena


def bytes_in_use(arena: Arena) -> int:
    """Bytes of events, rows and buckets, without what removed rows left free."""
    per_event = sum(a.itemsize * (a.shape[0] if a.ndim == 2 else 1) for a in arena.entries)
    per_row = arena.rows.key.strides[0] + arena.rows.touched.itemsize
    per_bucket = sum(array.nbytes for array in arena.buckets) // len(arena.buckets.length)
    return int(
        arena.meta[k.M_LIVE_EVENTS] * per_event
        + arena.meta[k.M_LIVE_ROWS] * per_row
        + arena.meta[k.M_LIVE_BUCKETS] * per_bucket
    )


def _entries(group: Group, size: int) -> Entries:
    versions = size if group.label else 0
    return Entries(
        time=np.zeros(size, np.int64),
        id_hash=np.zeros(size, np.uint32),
        bits=np.zeros(size, np.uint32),
        values=np.zeros((len(group.value_columns), size)),
        tokens=np.zeros((len(group.token_columns), size), np.int64),
        known=np.zeros(versions, np.int64),
        until=np.zeros(versions, np.int64),
    )


def _rows(size: int, old: Rows | None = None) -> Rows:
    """Columns of one table, row by row: all that is known of a row lies in two cache lines."""
    table = np.zeros((size, 12), np.int64)
    columns: list[Any] = [table[:, column] for column in range(len(Rows._fields) - 1)]
    columns.append(np.zeros(size, np.int64))
    rows = Rows(*columns)
    rows.bucket[:] = -1
    if old is not None:
        for column, before in zip(rows, old, strict=True):
            column[: len(before)] = before
    return rows


def _buckets(group: Group, layout: GroupLayout, size: int) -> Buckets:
    most = 192 * len(np.unique(layout.reach)) + 64
    accs, tokens = len(layout.acc_value), max(1, len(group.token_columns))
    return Buckets(
        length=np.zeros(size, np.int64),
        start=np.zeros((size, most), np.int64),
        end=np.zeros((size, most), np.int64),
        floats=np.zeros((size, most, accs, k.F_CELLS)),
        integers=np.zeros((size, most, accs, k.I_CELLS), np.int64),
        sampled=np.zeros((size, tokens), np.int64),
        sample=np.zeros((size, tokens, k.SAMPLE), np.int64),
        seen=np.zeros((size, tokens, k.SAMPLE), np.int64),
    )


def _scratch(cells: int) -> Scratch:
    return Scratch(
        floats=np.zeros((cells, k.F_CELLS)),
        integers=np.zeros((cells, k.I_SCAN_CELLS), np.int64),
        table=np.zeros(_SET, np.int64),
        newest=np.zeros(_SET, np.int64),
        used=np.zeros(_SET, np.int64),
    )


def _resized(array: NDArray[Any], size: int, axis: int = -1) -> NDArray[Any]:
    if array.shape[axis] == 0:
        return array
    shape = list(array.shape)
    shape[axis] = size
    out = np.zeros(shape, array.dtype)
    if axis == 0:
        out[: array.shape[0]] = array
    else:
        out[..., : array.shape[-1]] = array
    return out
