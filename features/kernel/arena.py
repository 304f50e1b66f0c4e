"""Rows of events in an arena: rings in blocks of powers of two, free lists, one chain of rows a key."""

from __future__ import annotations

from features.core.batch import Bools, Ints
from features.core.compiled import Scalar, inlined, lean, lean_released
from features.core.prefetch import prefetch
from features.kernel.names import (
    LONG_AGO,
    M_BUCKETS,
    M_END,
    M_FREE_BLOCK,
    M_FREE_BUCKET,
    M_FREE_ROW,
    M_LIVE_BUCKETS,
    M_LIVE_EVENTS,
    M_LIVE_ROWS,
    M_ROWS,
    M_TOUCHED,
    NEVER,
    SMALLEST_CLASS,
)
from features.kernel.tables import Arena, Buckets, Entries, Rows

_FETCHED = 32
"""Newest events of a row whose memory is fetched ahead."""


@inlined
def entry_at(rows: Rows, r: Scalar, i: Scalar) -> Scalar:
    """The entry of a row's event i, from the oldest; i may be one less or more than there are events."""
    return rows.start[r] + ((rows.head[r] + i) & ((1 << rows.size_class[r]) - 1))


@lean
def upper(e: Entries, rows: Rows, r: Scalar, t: Scalar) -> Scalar:
    """Number of a row's events at or before `t`."""
    low: Scalar = 0
    high: Scalar = rows.length[r]
    if high > 0 and e.time[entry_at(rows, r, high - 1)] <= t:  # as for every event that is not late
        return high
    while low < high:
        mid = (low + high) >> 1
        if e.time[entry_at(rows, r, mid)] <= t:
            low = mid + 1
        else:
            high = mid
    return low


@lean
def _alloc(e: Entries, meta: Ints, size_class: Scalar) -> Scalar:
    meta[M_LIVE_EVENTS] += 1 << size_class
    start = meta[M_FREE_BLOCK + size_class]
    if start >= 0:
        meta[M_FREE_BLOCK + size_class] = e.time[start]
        return start
    start = meta[M_END]
    meta[M_END] = start + (1 << size_class)
    return start


@lean
def _release(e: Entries, meta: Ints, start: Scalar, size_class: Scalar) -> None:
    e.time[start] = meta[M_FREE_BLOCK + size_class]
    meta[M_FREE_BLOCK + size_class] = start
    meta[M_LIVE_EVENTS] -= 1 << size_class


@inlined
def _move(e: Entries, src: Scalar, dst: Scalar, label: bool) -> None:
    e.time[dst] = e.time[src]
    e.id_hash[dst] = e.id_hash[src]
    e.bits[dst] = e.bits[src]
    for c in range(e.values.shape[0]):
        e.values[c, dst] = e.values[c, src]
    for c in range(e.tokens.shape[0]):
        e.tokens[c, dst] = e.tokens[c, src]
    if label:
        e.known[dst] = e.known[src]
        e.until[dst] = e.until[src]


@lean
def _grow(e: Entries, rows: Rows, meta: Ints, r: Scalar, label: bool) -> None:
    old, size_class, head, n = rows.start[r], rows.size_class[r], rows.head[r], rows.length[r]
    new = _alloc(e, meta, size_class + 1)
    mask = (1 << size_class) - 1
    for i in range(n):
        _move(e, old + ((head + i) & mask), new + i, label)
    _release(e, meta, old, size_class)
    rows.start[r], rows.size_class[r], rows.head[r] = new, size_class + 1, 0


@lean
def open_gap(e: Entries, rows: Rows, meta: Ints, r: Scalar, pos: Scalar, label: bool) -> Scalar:
    """Make room for an event before the row's event `pos`; returns the entry."""
    if rows.length[r] == (1 << rows.size_class[r]):
        _grow(e, rows, meta, r, label)
    n = rows.length[r]
    if pos * 2 >= n:
        for i in range(n, pos, -1):
            _move(e, entry_at(rows, r, i - 1), entry_at(rows, r, i), label)
    else:
        rows.head[r] = (rows.head[r] - 1) & ((1 << rows.size_class[r]) - 1)
        for i in range(pos):
            _move(e, entry_at(rows, r, i + 1), entry_at(rows, r, i), label)
    rows.length[r] = n + 1
    return entry_at(rows, r, pos)


@lean
def find_row(rows: Rows, heads: Ints, key: Scalar, partition: Scalar) -> Scalar:
    """The row of a key and partition, or -1."""
    r = heads[key]
    while r >= 0 and rows.partition[r] < partition:
        r = rows.following[r]
    return r if r >= 0 and rows.partition[r] == partition else -1


@lean
def new_row(e: Entries, rows: Rows, heads: Ints, meta: Ints, key: Scalar, partition: Scalar) -> Scalar:
    """An empty row, linked to its key in the order of partitions."""
    meta[M_LIVE_ROWS] += 1
    r = meta[M_FREE_ROW]
    if r >= 0:
        meta[M_FREE_ROW] = rows.following[r]
    else:
        r = meta[M_ROWS]
        meta[M_ROWS] = r + 1
    rows.key[r], rows.partition[r], rows.length[r], rows.head[r] = key, partition, 0, 0
    rows.size_class[r] = SMALLEST_CLASS
    rows.start[r] = _alloc(e, meta, SMALLEST_CLASS)
    rows.stamp[r], rows.newest[r], rows.dirty[r], rows.bucket[r] = 0, LONG_AGO, 0, -1
    before: Scalar = -1
    after: Scalar = heads[key]
    while after >= 0 and rows.partition[after] < partition:
        before, after = after, rows.following[after]
    rows.following[r] = after
    if before < 0:
        heads[key] = r
    else:
        rows.following[before] = r
    return r


@inlined
def touch(rows: Rows, meta: Ints, r: Scalar) -> None:
    """Mark a row as dirty."""
    if not rows.dirty[r]:
        rows.dirty[r] = 1
        rows.touched[meta[M_TOUCHED]] = r
        meta[M_TOUCHED] += 1


@lean_released
def take_touched(rows: Rows, meta: Ints, shard_of: Ints, due: Bools, out: Ints) -> Scalar:
    """Rows of keys in shards that are `due`, touched since they were last taken, into `out`; returns how many."""
    taken, waiting = 0, 0
    for i in range(meta[M_TOUCHED]):
        r = rows.touched[i]
        if due[shard_of[rows.key[r]]]:
            out[taken] = r
            rows.dirty[r] = 0
            taken += 1
        else:
            rows.touched[waiting] = r
            waiting += 1
    meta[M_TOUCHED] = waiting
    return taken


@lean
def is_full(e: Entries, rows: Rows, b: Buckets, meta: Ints, entries: Scalar) -> Scalar:
    """True when one more row, with so many entries and a block of buckets, might not fit."""
    if meta[M_END] + entries > len(e.time):
        return True
    return meta[M_ROWS] + 1 >= len(rows.key) or meta[M_BUCKETS] + 1 >= len(b.length)


@lean
def _forget_touched(rows: Rows, meta: Ints, r: Scalar) -> None:
    last = meta[M_TOUCHED] - 1
    for i in range(last):
        if rows.touched[i] == r:
            rows.touched[i] = rows.touched[last]
            break
    meta[M_TOUCHED] = last


@lean
def _free_row(arena: Arena, r: Scalar) -> None:
    rows, meta, counts = arena.rows, arena.meta, arena.buckets.length
    _release(arena.entries, meta, rows.start[r], rows.size_class[r])
    meta[M_LIVE_ROWS] -= 1
    if rows.dirty[r]:
        _forget_touched(rows, meta, r)
    blk = rows.bucket[r]
    if blk >= 0:
        meta[M_LIVE_BUCKETS] -= 1
        counts[blk] = meta[M_FREE_BUCKET]
        meta[M_FREE_BUCKET] = blk
    rows.key[r], rows.dirty[r], rows.length[r] = -1, 0, 0
    rows.following[r] = meta[M_FREE_ROW]
    meta[M_FREE_ROW] = r


@lean_released
def remove_rows(arena: Arena, keys: Ints, only: Bools) -> None:
    """Forget the rows of keys, of those partitions only that `only` marks; of all when it is empty."""
    rows, heads = arena.rows, arena.heads
    for j in range(len(keys)):
        before: Scalar = -1
        r: Scalar = heads[keys[j]]
        while r >= 0:
            following = rows.following[r]
            partition = rows.partition[r]
            if len(only) > 0 and (partition >= len(only) or not only[partition]):
                before = r
            else:
                if before < 0:
                    heads[keys[j]] = following
                else:
                    rows.following[before] = following
                _free_row(arena, r)
            r = following


@lean
def fetch_entries(e: Entries, rows: Rows, r: Scalar) -> None:
    """Have the memory of a row's newest events fetched, and of the entry for one more."""
    n = rows.length[r]
    prefetch(e.bits, entry_at(rows, r, n))
    prefetch(e.id_hash, entry_at(rows, r, n))
    far: Scalar = min(n, _FETCHED)
    for i in range(1, far + 1, 8):
        x = entry_at(rows, r, n - i)
        prefetch(e.time, x)
        for c in range(e.values.shape[0]):
            prefetch(e.values[c], x)


@lean
def link_versions(e: Entries, rows: Rows, r: Scalar, id_hash: Scalar, t: Scalar) -> None:
    """Set until when each version of a label holds: the next time at which something became known of it."""
    first, last = upper(e, rows, r, t - 1), upper(e, rows, r, t)
    for i in range(first, last):
        x = entry_at(rows, r, i)
        if e.id_hash[x] != id_hash:
            continue
        until: Scalar = NEVER
        for j in range(first, last):
            y = entry_at(rows, r, j)
            if e.id_hash[y] == id_hash and e.known[y] > e.known[x]:
                until = min(until, e.known[y])
        e.until[x] = until
