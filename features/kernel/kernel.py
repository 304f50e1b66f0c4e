"""The hot path: one pass over a group's events, reading every window and folding each event in.

Numbers only; features.engine.engine prepares them. All functions are compiled by Numba without fast-math, so
that sums are exact double-double sums (Ogita, Rump, Oishi 2005, "Accurate sum and dot product").

`_nrt=False`: nothing here allocates, and without Numba's reference counting (an atomic increment at
every mention of an array) the pass takes a sixth of the time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.core.batch import Bools, Floats, Ints
from features.core.compiled import Scalar, inlined, lean, lean_released
from features.core.prefetch import prefetch

Words = NDArray[np.uint32]
Bytes = NDArray[np.uint8]

NEVER = np.iinfo(np.int64).max
LONG_AGO = np.iinfo(np.int64).min
SQUARES, EXTREMES, ENDS, DISTINCT = 1, 2, 4, 8
CLASSES = 20
SMALLEST = 3  # blocks of 8 events
SAMPLE = 1024
COMPACT_EVERY = 64
# meta
BUMP, NROWS, FREE_ROW, LATE, FORGOTTEN, DUPLICATES, NBUCKETS, FREE_BUCKET, FREE = 0, 1, 2, 3, 4, 5, 6, 7, 8
LIVE_EVENTS, LIVE_ROWS, LIVE_BUCKETS = FREE + CLASSES, FREE + CLASSES + 1, FREE + CLASSES + 2
TOUCHED = FREE + CLASSES + 3
META = FREE + CLASSES + 4
# bucket fields
B_N, B_HI, B_LO, B_QHI, B_QLO, B_MIN, B_MAX, B_FIRST, B_LAST = range(9)


class Entries(NamedTuple):
    """All events of a group, in blocks: times, id hashes, condition bits, values and tokens by column."""

    t: Ints
    hid: Words
    bits: Words
    v: Floats
    k: Ints
    known: Ints
    gone: Ints


class Rows(NamedTuple):
    """One slice each: whose, where its block starts, its first event and how many, stamp, newest time.

    `touched` begins with the numbers of the rows that are dirty, each once, `meta[TOUCHED]` of them.
    """

    slot: Ints
    part: Ints
    start: Ints
    head: Ints
    n: Ints
    cls: Ints
    stamp: Ints
    newest: Ints
    nxt: Ints
    dirty: Ints
    bucket: Ints
    touched: Ints


class Events(NamedTuple):
    """Events of one group in scoring order; the last axis of each array runs over them.

    `key` is the index of the event's key (-1: it has none), `position` the time of the event that a label belongs to,
    `folds` says which events go into the state, `row` where an event's features go.
    """

    key: Ints
    partition: Ints
    offset: Ints
    time: Ints
    position: Ints
    id_hash: Words
    bits: Words
    values: Floats
    tokens: Ints
    folds: Bools
    row: Ints


@inlined
def _two_sum(a: Scalar, b: Scalar) -> tuple[Scalar, Scalar]:
    s = a + b
    bb = s - a
    return s, (a - (s - bb)) + (b - bb)


@inlined
def _square(a: Scalar) -> tuple[Scalar, Scalar]:
    p = a * a
    c = 134217729.0 * a
    h = c - (c - a)
    low = a - h
    return p, ((h * h - p) + 2.0 * h * low) + low * low


@inlined
def _at(rows: Rows, r: Scalar, i: Scalar) -> Scalar:
    return rows.start[r] + ((rows.head[r] + i) & ((1 << rows.cls[r]) - 1))


@lean
def upper(e: Entries, rows: Rows, r: Scalar, t: Scalar) -> Scalar:
    """Number of a row's events at or before `t`."""
    low: Scalar = 0
    high: Scalar = rows.n[r]
    if high > 0 and e.t[_at(rows, r, high - 1)] <= t:  # as for every event that is not late
        return high
    while low < high:
        mid = (low + high) >> 1
        if e.t[_at(rows, r, mid)] <= t:
            low = mid + 1
        else:
            high = mid
    return low


@lean
def _alloc(e: Entries, meta: Ints, cls: Scalar) -> Scalar:
    meta[LIVE_EVENTS] += 1 << cls
    start = meta[FREE + cls]
    if start >= 0:
        meta[FREE + cls] = e.t[start]
        return start
    start = meta[BUMP]
    meta[BUMP] = start + (1 << cls)
    return start


@lean
def _release(e: Entries, meta: Ints, start: Scalar, cls: Scalar) -> None:
    e.t[start] = meta[FREE + cls]
    meta[FREE + cls] = start
    meta[LIVE_EVENTS] -= 1 << cls


@inlined
def _move(e: Entries, src: Scalar, dst: Scalar, label: bool) -> None:
    e.t[dst] = e.t[src]
    e.hid[dst] = e.hid[src]
    e.bits[dst] = e.bits[src]
    for c in range(e.v.shape[0]):
        e.v[c, dst] = e.v[c, src]
    for c in range(e.k.shape[0]):
        e.k[c, dst] = e.k[c, src]
    if label:
        e.known[dst] = e.known[src]
        e.gone[dst] = e.gone[src]


@lean
def _grow(e: Entries, rows: Rows, meta: Ints, r: Scalar, label: bool) -> None:
    old, cls, head, n = rows.start[r], rows.cls[r], rows.head[r], rows.n[r]
    new = _alloc(e, meta, cls + 1)
    mask = (1 << cls) - 1
    for i in range(n):
        _move(e, old + ((head + i) & mask), new + i, label)
    _release(e, meta, old, cls)
    rows.start[r], rows.cls[r], rows.head[r] = new, cls + 1, 0


@lean
def open_gap(e: Entries, rows: Rows, meta: Ints, r: Scalar, pos: Scalar, label: bool) -> Scalar:
    """Make room at place `pos` of a row; returns the entry's index."""
    if rows.n[r] == (1 << rows.cls[r]):
        _grow(e, rows, meta, r, label)
    n = rows.n[r]
    if pos * 2 >= n:
        for i in range(n, pos, -1):
            _move(e, _at(rows, r, i - 1), _at(rows, r, i), label)
    else:
        rows.head[r] = (rows.head[r] - 1) & ((1 << rows.cls[r]) - 1)
        for i in range(pos):
            _move(e, _at(rows, r, i + 1), _at(rows, r, i), label)
    rows.n[r] = n + 1
    return _at(rows, r, pos)


@lean
def find_row(rows: Rows, heads: Ints, slot: Scalar, part: Scalar) -> Scalar:
    """The row of a key and partition, or -1."""
    r = heads[slot]
    while r >= 0 and rows.part[r] < part:
        r = rows.nxt[r]
    return r if r >= 0 and rows.part[r] == part else -1


@lean
def new_row(e: Entries, rows: Rows, heads: Ints, meta: Ints, slot: Scalar, part: Scalar) -> Scalar:
    """An empty row, linked to its key in the order of partitions."""
    meta[LIVE_ROWS] += 1
    r = meta[FREE_ROW]
    if r >= 0:
        meta[FREE_ROW] = rows.nxt[r]
    else:
        r = meta[NROWS]
        meta[NROWS] = r + 1
    rows.slot[r], rows.part[r], rows.n[r], rows.head[r] = slot, part, 0, 0
    rows.cls[r] = SMALLEST
    rows.start[r] = _alloc(e, meta, SMALLEST)
    rows.stamp[r], rows.newest[r], rows.dirty[r], rows.bucket[r] = 0, LONG_AGO, 0, -1
    before: Scalar = -1
    at: Scalar = heads[slot]
    while at >= 0 and rows.part[at] < part:
        before, at = at, rows.nxt[at]
    rows.nxt[r] = at
    if before < 0:
        heads[slot] = r
    else:
        rows.nxt[before] = r
    return r


@lean_released
def take_touched(rows: Rows, meta: Ints, shard_of: Ints, due: Bools, out: Ints) -> Scalar:
    """Rows of keys in shards that are `due`, touched since they were last taken, into `out`; returns how many."""
    taken, left = 0, 0
    for place in range(meta[TOUCHED]):
        r = rows.touched[place]
        if due[shard_of[rows.slot[r]]]:
            out[taken] = r
            rows.dirty[r] = 0
            taken += 1
        else:
            rows.touched[left] = r
            left += 1
    meta[TOUCHED] = left
    return taken


class Buckets(NamedTuple):
    """One block for each hot row: `f[block, bucket, accumulator, field]`, times and tokens in `i`."""

    n: Ints
    start: Ints
    end: Ints
    f: Floats
    i: Ints  # first time, last time, first token, last token
    sample_n: Ints
    sample: Ints
    seen: Ints


@lean
def new_bucket(b: Buckets, meta: Ints) -> Scalar:
    """A block of buckets for a row that has none."""
    meta[LIVE_BUCKETS] += 1
    blk = meta[FREE_BUCKET]
    if blk >= 0:
        meta[FREE_BUCKET] = b.n[blk]
    else:
        blk = meta[NBUCKETS]
        meta[NBUCKETS] = blk + 1
    b.n[blk] = 0
    b.sample_n[blk] = 0
    return blk


class Layout(NamedTuple):
    """What never changes for a group."""

    label: bool
    horizon: int
    capacity: int
    reach: Ints  # delay + window, ascending
    finest: Ints  # shortest window among those with at least this reach
    acc_value: Ints
    acc_token: Ints
    acc_where: Ints
    acc_flags: Ints
    s_acc: Ints
    s_delay: Ints
    s_current: Bools
    s_first: Ints
    s_count: Ints
    s_flags: Ints
    windows: Ints


@lean
def is_full(e: Entries, rows: Rows, b: Buckets, meta: Ints, entries: Scalar) -> Scalar:
    """Whether there is not surely room for one more row with so many entries and a block of buckets."""
    return (
        meta[BUMP] + entries > len(e.t) or meta[NROWS] + 1 >= len(rows.slot) or meta[NBUCKETS] + 1 >= len(b.n)
    )


@lean
def _forget_touched(rows: Rows, meta: Ints, r: Scalar) -> None:
    last = meta[TOUCHED] - 1
    for place in range(last):
        if rows.touched[place] == r:
            rows.touched[place] = rows.touched[last]
            break
    meta[TOUCHED] = last


@lean
def _free_row(e: Entries, rows: Rows, b: Buckets, meta: Ints, r: Scalar) -> None:
    _release(e, meta, rows.start[r], rows.cls[r])
    meta[LIVE_ROWS] -= 1
    if rows.dirty[r]:
        _forget_touched(rows, meta, r)
    blk = rows.bucket[r]
    if blk >= 0:
        meta[LIVE_BUCKETS] -= 1
        b.n[blk] = meta[FREE_BUCKET]
        meta[FREE_BUCKET] = blk
    rows.slot[r], rows.dirty[r], rows.n[r] = -1, 0, 0
    rows.nxt[r] = meta[FREE_ROW]
    meta[FREE_ROW] = r


@lean_released
def remove_rows(
    e: Entries, rows: Rows, heads: Ints, b: Buckets, meta: Ints, slots: Ints, parts: Bools
) -> None:
    """Forget the rows of keys, of those partitions only that `parts` marks; of all when it is empty."""
    for j in range(len(slots)):
        before: Scalar = -1
        r: Scalar = heads[slots[j]]
        while r >= 0:
            following = rows.nxt[r]
            part = rows.part[r]
            if len(parts) > 0 and (part >= len(parts) or not parts[part]):
                before = r
            else:
                if before < 0:
                    heads[slots[j]] = following
                else:
                    rows.nxt[before] = following
                _free_row(e, rows, b, meta, r)
            r = following


@lean
def _limit(lay: Layout, age: Scalar) -> Scalar:
    for k in range(len(lay.reach)):
        if lay.reach[k] > age:
            return lay.finest[k] // 128
    return np.int64(NEVER)


@lean
def _add_value(f: Floats, i: Ints, x: Scalar, t: Scalar, token: Scalar) -> None:
    """Fold one value into an accumulator's fields; NaN counts as present but without value."""
    f[B_N] += 1.0
    if i[0] == NEVER or t < i[0]:
        i[0], i[2], f[B_FIRST] = t, token, x
    if i[1] == LONG_AGO or t >= i[1]:
        i[1], i[3], f[B_LAST] = t, token, x
    if x == x:
        s, err = _two_sum(f[B_HI], x)
        f[B_HI], f[B_LO] = s, f[B_LO] + err
        p, pe = _square(x)
        q, qe = _two_sum(f[B_QHI], p)
        f[B_QHI], f[B_QLO] = q, f[B_QLO] + (qe + pe)
        f[B_MIN] = min(f[B_MIN], x)
        f[B_MAX] = max(f[B_MAX], x)


@lean
def _add_needed(f: Floats, i: Ints, x: Scalar, t: Scalar, token: Scalar, flags: Scalar) -> None:
    """Fold one value into a bucket's accumulator: only the fields that some feature reads."""
    f[B_N] += 1.0
    if flags & ENDS:
        if t < i[0]:
            i[0], i[2], f[B_FIRST] = t, token, x
        if t >= i[1]:
            i[1], i[3], f[B_LAST] = t, token, x
    if x == x:
        s, err = _two_sum(f[B_HI], x)
        f[B_HI], f[B_LO] = s, f[B_LO] + err
        if flags & SQUARES:
            p, pe = _square(x)
            q, qe = _two_sum(f[B_QHI], p)
            f[B_QHI], f[B_QLO] = q, f[B_QLO] + (qe + pe)
        if flags & EXTREMES:
            f[B_MIN] = min(f[B_MIN], x)
            f[B_MAX] = max(f[B_MAX], x)


@lean
def _add_fields(f: Floats, i: Ints, g: Floats, j: Ints) -> None:
    """Fold one accumulator into another; `g` may be older or newer than `f`."""
    if g[B_N] == 0.0:
        return
    _add_sums(f, g)
    if j[0] < i[0]:
        i[0], i[2], f[B_FIRST] = j[0], j[2], g[B_FIRST]
    if j[1] >= i[1]:
        i[1], i[3], f[B_LAST] = j[1], j[3], g[B_LAST]


@lean
def _add_bucket(f: Floats, i: Ints, g: Floats, j: Ints, r: Scalar) -> None:
    """Fold a bucket of row `r` into a bin, after the row's own events, which are newer."""
    if g[B_N] == 0.0:
        return
    _add_sums(f, g)
    if _is_first(i, j[0], r):
        i[0], i[2], i[4], f[B_FIRST] = j[0], j[2], r, g[B_FIRST]
    if _is_last(i, j[1], r):
        i[1], i[3], i[5], f[B_LAST] = j[1], j[3], r, g[B_LAST]


@inlined
def _is_first(i: Ints, t: Scalar, r: Scalar) -> Scalar:
    """Whether row `r`, read from new to old after the rows of lower partitions, has the first event at `t`."""
    return t < i[0] or (t == i[0] and i[4] == r)


@inlined
def _is_last(i: Ints, t: Scalar, r: Scalar) -> Scalar:
    """Whether row `r` has the last event at `t`; among partitions the higher one is later."""
    return t > i[1] or (t == i[1] and i[5] != r)


@inlined
def _add_sums(f: Floats, g: Floats) -> None:
    f[B_N] += g[B_N]
    s, err = _two_sum(f[B_HI], g[B_HI])
    f[B_HI], f[B_LO] = s, f[B_LO] + g[B_LO] + err
    q, qe = _two_sum(f[B_QHI], g[B_QHI])
    f[B_QHI], f[B_QLO] = q, f[B_QLO] + g[B_QLO] + qe
    f[B_MIN] = min(f[B_MIN], g[B_MIN])
    f[B_MAX] = max(f[B_MAX], g[B_MAX])


@lean
def clear_fields(f: Floats, i: Ints) -> None:
    """Make an accumulator empty."""
    f[:] = 0.0
    f[B_MIN], f[B_MAX], f[B_FIRST], f[B_LAST] = np.inf, -np.inf, np.nan, np.nan
    i[0], i[1], i[2], i[3] = NEVER, LONG_AGO, 0, 0


@lean
def _copy_bucket(b: Buckets, blk: Scalar, source: Scalar, target: Scalar) -> None:
    for a in range(b.f.shape[2]):
        for w in range(b.f.shape[3]):
            b.f[blk, target, a, w] = b.f[blk, source, a, w]
        for w in range(b.i.shape[3]):
            b.i[blk, target, a, w] = b.i[blk, source, a, w]


@lean
def _compact(b: Buckets, lay: Layout, blk: Scalar, newest: Scalar, oldest_pair: bool) -> None:
    """Merge neighbours as far as their span may go; `oldest_pair` merges those two whatever their span."""
    kept = 0
    for place in range(1, b.n[blk]):
        end = max(b.end[blk, kept], b.end[blk, place])
        if end - b.start[blk, kept] <= _limit(lay, newest - end) or (oldest_pair and place == 1):
            b.end[blk, kept] = end
            for a in range(len(lay.acc_value)):
                _add_fields(b.f[blk, kept, a], b.i[blk, kept, a], b.f[blk, place, a], b.i[blk, place, a])
        else:
            kept += 1
            if kept != place:
                b.start[blk, kept], b.end[blk, kept] = b.start[blk, place], b.end[blk, place]
                _copy_bucket(b, blk, place, kept)
    b.n[blk] = kept + 1


@lean
def _drop_buckets(b: Buckets, blk: Scalar, before: Scalar) -> None:
    gone = 0
    while gone < b.n[blk] and b.end[blk, gone] <= before:
        gone += 1
    if gone:
        n = b.n[blk] - gone
        for place in range(n):
            b.start[blk, place], b.end[blk, place] = b.start[blk, place + gone], b.end[blk, place + gone]
            _copy_bucket(b, blk, place + gone, place)
        b.n[blk] = n


@lean
def _remember(b: Buckets, blk: Scalar, c: Scalar, token: Scalar, t: Scalar) -> None:
    """Bottom-k sample of tokens by hash, each with its newest time."""
    n: Scalar = b.sample_n[blk, c]
    low: Scalar = 0
    high: Scalar = n
    key = np.uint64(token)
    while low < high:
        mid = (low + high) >> 1
        if np.uint64(b.sample[blk, c, mid]) < key:
            low = mid + 1
        else:
            high = mid
    if low < n and b.sample[blk, c, low] == token:
        b.seen[blk, c, low] = max(b.seen[blk, c, low], t)
        return
    if low >= SAMPLE:
        return
    last: Scalar = min(n, SAMPLE - 1)
    for place in range(last, low, -1):
        b.sample[blk, c, place] = b.sample[blk, c, place - 1]
        b.seen[blk, c, place] = b.seen[blk, c, place - 1]
    b.sample[blk, c, low], b.seen[blk, c, low] = token, t
    b.sample_n[blk, c] = min(n + 1, SAMPLE)


@lean
def _merge_oldest(e: Entries, rows: Rows, b: Buckets, lay: Layout, meta: Ints, r: Scalar) -> None:
    """Move the oldest event of a full row into its buckets."""
    if rows.bucket[r] < 0:
        rows.bucket[r] = new_bucket(b, meta)
    blk = rows.bucket[r]
    x = _at(rows, r, 0)
    t = e.t[x]
    newest = rows.newest[r]
    place = b.n[blk] - 1
    while place > 0 and b.start[blk, place] > t:
        place -= 1
    late = place >= 0 and t < b.end[blk, place]
    if place < 0 or (not late and t - b.start[blk, place] > _limit(lay, newest - t)):
        if b.n[blk] % COMPACT_EVERY == 0 and b.n[blk] > 0:
            _compact(b, lay, blk, newest, False)
            if b.n[blk] == b.start.shape[1]:
                _compact(b, lay, blk, newest, True)
        place = b.n[blk]
        b.n[blk] = place + 1
        b.start[blk, place], b.end[blk, place] = t, t
        for a in range(len(lay.acc_value)):
            clear_fields(b.f[blk, place, a], b.i[blk, place, a])
    b.start[blk, place] = min(b.start[blk, place], t)
    b.end[blk, place] = max(b.end[blk, place], t)
    for a in range(len(lay.acc_value)):
        where, value, token = lay.acc_where[a], lay.acc_value[a], lay.acc_token[a]
        if where >= 0 and (e.bits[x] >> np.uint32(where)) & np.uint32(1) == 0:
            continue
        v = e.v[value, x] if value >= 0 else np.nan
        k = e.k[token, x] if token >= 0 else 0
        if (value >= 0 and v != v) or (token >= 0 and k == 0):
            continue
        if lay.label and e.gone[x] != NEVER:
            continue
        _add_needed(b.f[blk, place, a], b.i[blk, place, a], v, t, k, lay.acc_flags[a])
    for c in range(e.k.shape[0]):
        if e.k[c, x] != 0:
            _remember(b, blk, c, e.k[c, x], t)
    rows.head[r] = (rows.head[r] + 1) & ((1 << rows.cls[r]) - 1)
    rows.n[r] -= 1
    if lay.label:  # as a stored row would say: it keeps what was known when, not until when that holds
        _chain(e, rows, r, e.hid[x], t)


@lean
def _chain(e: Entries, rows: Rows, r: Scalar, hid: Scalar, t: Scalar) -> None:
    """Set until when each version of a label holds: the next time something became known of it."""
    last = upper(e, rows, r, t)
    first = upper(e, rows, r, t - 1)
    for i in range(first, last):
        x = _at(rows, r, i)
        if e.hid[x] != hid:
            continue
        gone: Scalar = NEVER
        for j in range(first, last):
            y = _at(rows, r, j)
            if e.hid[y] == hid and e.known[y] > e.known[x]:
                gone = min(gone, e.known[y])
        e.gone[x] = gone


@lean
def fold(
    e: Entries,
    rows: Rows,
    heads: Ints,
    b: Buckets,
    lay: Layout,
    meta: Ints,
    slot: Scalar,
    part: Scalar,
    offset: Scalar,
    t: Scalar,
    position: Scalar,
    hid: Scalar,
    bits: Scalar,
    v: Floats,
    k: Ints,
    i: Scalar,
) -> Scalar:
    """Fold event i into its row. Returns bit 0: duplicate, bit 1: late."""
    r = find_row(rows, heads, slot, part)
    if r < 0:
        r = new_row(e, rows, heads, meta, slot, part)
    if offset < rows.stamp[r]:
        return 0
    rows.stamp[r] = offset + 1
    if not rows.dirty[r]:
        rows.dirty[r] = 1
        rows.touched[meta[TOUCHED]] = r
        meta[TOUCHED] += 1
    late = 2 if t < rows.newest[r] else 0
    edge = max(rows.newest[r], t) - lay.horizon
    if rows.newest[r] == LONG_AGO:
        edge = t - lay.horizon
    where = position if (lay.label and position != NEVER) else t
    if lay.label:
        same = False
        low, high = 0, rows.n[r]
        if position != NEVER:
            low, high = upper(e, rows, r, where - 1), upper(e, rows, r, where)
        for place in range(low, high):
            x = _at(rows, r, place)
            if e.hid[x] == hid:
                same = same or e.known[x] == t
                where = e.t[x]
        if same:
            meta[DUPLICATES] += 1
            return 1 | late
    else:
        place = upper(e, rows, r, t) - 1
        while place >= 0:
            x = _at(rows, r, place)
            if e.t[x] != t:
                break
            if e.hid[x] == hid:
                meta[DUPLICATES] += 1
                return 1 | late
            place -= 1
    if late:
        meta[LATE] += 1
    rows.newest[r] = max(rows.newest[r], t)
    while rows.n[r] > 0 and e.t[_at(rows, r, 0)] <= edge:
        rows.head[r] = (rows.head[r] + 1) & ((1 << rows.cls[r]) - 1)
        rows.n[r] -= 1
    if rows.bucket[r] >= 0:
        _drop_buckets(b, rows.bucket[r], edge)
    if where <= edge:
        meta[FORGOTTEN] += 1
        return late
    if rows.n[r] >= lay.capacity:
        _merge_oldest(e, rows, b, lay, meta, r)
    x = open_gap(e, rows, meta, r, upper(e, rows, r, where), lay.label)
    e.t[x], e.hid[x], e.bits[x] = where, hid, bits
    for c in range(v.shape[0]):
        e.v[c, x] = v[c, i]
    for c in range(k.shape[0]):
        e.k[c, x] = k[c, i]
    if lay.label:
        e.known[x], e.gone[x] = t, NEVER
        _chain(e, rows, r, hid, where)
    return late


class Scratch(NamedTuple):
    """Bins of every slot and window for one event, and the set that counts distinct tokens.

    `i` holds for each bin the first and last time and token, and the rows that they came from.
    """

    f: Floats
    i: Ints
    table: Ints
    newest: Ints
    used: Ints


@lean
def _put(scratch: Scratch, count: Scalar, token: Scalar, t: Scalar) -> Scalar:
    """Note a token with the newest time at which it was seen; returns the count of different tokens."""
    mask = len(scratch.table) - 1
    h = np.int64((np.uint64(token) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)) & mask
    while scratch.table[h] != 0:
        if scratch.table[h] == token:
            scratch.newest[h] = max(scratch.newest[h], t)
            return count
        h = (h + 1) & mask
    if count * 4 > 3 * mask:
        return count
    scratch.table[h], scratch.newest[h] = token, t
    scratch.used[count] = h
    return count + 1


@lean
def _distinct(
    e: Entries,
    rows: Rows,
    b: Buckets,
    lay: Layout,
    scratch: Scratch,
    s: Scalar,
    r0: Scalar,
    t: Scalar,
    upto: Scalar,
    current: Scalar,
) -> None:
    first, nw = lay.s_first[s], lay.s_count[s]
    a = lay.s_acc[s]
    token, where = lay.acc_token[a], lay.acc_where[a]
    oldest = upto - lay.windows[first + nw - 1]
    count = 0
    if current != 0:
        count = _put(scratch, count, current, t)
    bound = np.uint64(0xFFFFFFFFFFFFFFFF)
    r = r0
    while r >= 0:
        for place in range(upper(e, rows, r, upto) - 1, -1, -1):
            x = _at(rows, r, place)
            if e.t[x] <= oldest:
                break
            if e.k[token, x] == 0 or (where >= 0 and (e.bits[x] >> np.uint32(where)) & np.uint32(1) == 0):
                continue
            if lay.label and not (e.known[x] <= t < e.gone[x]):
                continue
            count = _put(scratch, count, e.k[token, x], e.t[x])
        r = rows.nxt[r]
    exact = count  # tokens of the rings are known one by one; those only in samples stand for `scale` each
    r = r0
    while r >= 0:
        blk = rows.bucket[r]
        if blk >= 0:
            for place in range(b.sample_n[blk, token]):
                if oldest < b.seen[blk, token, place] <= upto:
                    count = _put(scratch, count, b.sample[blk, token, place], b.seen[blk, token, place])
            if b.sample_n[blk, token] == SAMPLE:
                bound = min(bound, np.uint64(b.sample[blk, token, SAMPLE - 1]))
        r = rows.nxt[r]
    scale = 18446744073709551616.0 / (float(bound) + 1.0)
    for j in range(nw):
        edge = upto - lay.windows[first + j]
        n = 0.0
        for u in range(count):
            h = scratch.used[u]
            if scratch.newest[h] > edge:
                if u < exact:
                    n += 1.0
                elif np.uint64(scratch.table[h]) <= bound:
                    n += scale
        scratch.f[first + j, B_QHI] = np.rint(n)
    for u in range(count):
        scratch.table[scratch.used[u]] = 0


@lean
def _scan_values(
    e: Entries,
    rows: Rows,
    lay: Layout,
    scratch: Scratch,
    s: Scalar,
    r: Scalar,
    top: Scalar,
    upto: Scalar,
) -> None:
    """The usual case of `_scan`: every value counts and no times are asked for. Sums stay in registers."""
    value, first, flags = lay.acc_value[lay.s_acc[s]], lay.s_first[s], lay.s_flags[s]
    start, head, mask = rows.start[r], rows.head[r], (1 << rows.cls[r]) - 1
    place = top - 1
    for j in range(first, first + lay.s_count[s]):
        edge = upto - lay.windows[j]
        f = scratch.f[j]
        n, hi, lo, qhi, qlo = f[B_N], f[B_HI], f[B_LO], f[B_QHI], f[B_QLO]
        least, most = f[B_MIN], f[B_MAX]
        while place >= 0:
            x = start + ((head + place) & mask)
            if e.t[x] <= edge:
                break
            place -= 1
            v = e.v[value, x]
            if v != v:
                continue
            n += 1.0
            hi, err = _two_sum(hi, v)
            lo += err
            if flags & SQUARES:
                p, pe = _square(v)
                qhi, qe = _two_sum(qhi, p)
                qlo += qe + pe
            if flags & EXTREMES:
                least, most = min(least, v), max(most, v)
        f[B_N], f[B_HI], f[B_LO], f[B_QHI], f[B_QLO] = n, hi, lo, qhi, qlo
        f[B_MIN], f[B_MAX] = least, most
        if place < 0:
            break


@lean
def _scan(
    e: Entries,
    rows: Rows,
    b: Buckets,
    lay: Layout,
    scratch: Scratch,
    s: Scalar,
    r0: Scalar,
    t: Scalar,
    x0: tuple[Scalar, Scalar],
    cur: bool,
) -> None:
    """Fill the bins of one slot for an event at `t`; `cur` says whether the event x0 itself counts."""
    a = lay.s_acc[s]
    value, token, where = lay.acc_value[a], lay.acc_token[a], lay.acc_where[a]
    first, nw, flags = lay.s_first[s], lay.s_count[s], lay.s_flags[s]
    upto = t - lay.s_delay[s]
    for j in range(nw):
        clear_fields(scratch.f[first + j], scratch.i[first + j])
        scratch.i[first + j, 4] = -1
        scratch.i[first + j, 5] = -1
    r = r0
    plain = value < 0 and token < 0 and where < 0 and not lay.label and flags == 0
    while r >= 0:
        top = upper(e, rows, r, upto)
        blk = rows.bucket[r]
        if plain:
            below = top
            for j in range(nw):
                at = upper(e, rows, r, upto - lay.windows[first + j])
                scratch.f[first + j, B_N] += below - at
                below = at
        elif value >= 0 and where < 0 and not lay.label and flags & ENDS == 0:
            _scan_values(e, rows, lay, scratch, s, r, top, upto)
        else:
            j = 0
            edge = upto - lay.windows[first]
            f, i = scratch.f[first], scratch.i[first]
            for place in range(top - 1, -1, -1):
                x = _at(rows, r, place)
                tt = e.t[x]
                while tt <= edge:
                    j += 1
                    if j == nw:
                        break
                    edge = upto - lay.windows[first + j]
                    f, i = scratch.f[first + j], scratch.i[first + j]
                if j == nw:
                    break
                if where >= 0 and (e.bits[x] >> np.uint32(where)) & np.uint32(1) == 0:
                    continue
                if lay.label and not (e.known[x] <= t < e.gone[x]):
                    continue
                if token >= 0:
                    if e.k[token, x] == 0:
                        continue
                    f[B_N] += 1.0
                    if flags & ENDS:
                        if _is_first(i, tt, r):
                            i[0], i[2], i[4] = tt, e.k[token, x], r
                        if _is_last(i, tt, r):
                            i[1], i[3], i[5] = tt, e.k[token, x], r
                    continue
                if value < 0:
                    f[B_N] += 1.0
                    if flags & ENDS:
                        i[0] = min(i[0], tt)
                        i[1] = max(i[1], tt)
                    continue
                v = e.v[value, x]
                if v != v:
                    continue
                f[B_N] += 1.0
                sm, err = _two_sum(f[B_HI], v)
                f[B_HI] = sm
                f[B_LO] += err
                if flags & SQUARES:
                    p, pe = _square(v)
                    q, qe = _two_sum(f[B_QHI], p)
                    f[B_QHI] = q
                    f[B_QLO] += qe + pe
                if flags & EXTREMES:
                    f[B_MIN] = min(f[B_MIN], v)
                    f[B_MAX] = max(f[B_MAX], v)
                if flags & ENDS:
                    if _is_first(i, tt, r):
                        i[0], i[4], f[B_FIRST] = tt, r, v
                    if _is_last(i, tt, r):
                        i[1], i[5], f[B_LAST] = tt, r, v
        if blk >= 0:
            for place in range(b.n[blk]):
                end = b.end[blk, place]
                if end > upto:
                    break
                for j in range(nw):
                    if end > upto - lay.windows[first + j]:
                        f, i = scratch.f[first + j], scratch.i[first + j]
                        _add_bucket(f, i, b.f[blk, place, a], b.i[blk, place, a], r)
                        break
        r = rows.nxt[r]
    if cur:
        _add_current(scratch.f[first], scratch.i[first], value, token, t, x0)
    for j in range(1, nw):
        _add_fields(
            scratch.f[first + j], scratch.i[first + j], scratch.f[first + j - 1], scratch.i[first + j - 1]
        )


@inlined
def _add_current(
    f: Floats, i: Ints, value: Scalar, token: Scalar, t: Scalar, x0: tuple[Scalar, Scalar]
) -> None:
    v, k = x0
    if value >= 0 and v != v:
        return
    if token >= 0 and k == 0:
        return
    _add_value(f, i, v, t, k)


@inlined
def _result(kind: Scalar, f: Floats, i: Ints, g: Scalar, t: Scalar) -> Scalar:
    n = f[B_N]
    if kind == 0:
        return n
    if kind == 8:
        return f[B_QHI]
    if kind == 1:
        return f[B_HI] + f[B_LO] if n > 0 else np.nan
    if n == 0.0:
        return np.nan
    if kind == 2:
        return (f[B_HI] + f[B_LO]) / n
    if kind == 3:
        if n < 2.0:
            return np.nan
        p, pe = _square(f[B_HI])
        pe += 2.0 * f[B_HI] * f[B_LO]
        m = p / n
        # remainder of p / n, so that the subtraction below loses nothing
        c = 134217729.0 * m
        mh = c - (c - m)
        ml = m - mh
        c = 134217729.0 * n
        nh = c - (c - n)
        nl = n - nh
        back = m * n
        rest = ((mh * nh - back) + mh * nl + ml * nh) + ml * nl
        me = ((p - back) - rest + pe) / n
        d, de = _two_sum(f[B_QHI], -m)
        var = (d + (de + f[B_QLO] - me)) / (n - 1.0)
        return np.sqrt(var) if var > 0.0 else 0.0
    if kind == 4:
        return f[B_MIN]
    if kind == 5:
        return f[B_MAX]
    if kind == 6:
        return f[B_FIRST]
    if kind == 7:
        return f[B_LAST]
    if kind == 9:
        return (t - i[1]) / 1e6
    return g / n


_FETCHED = 32


@lean
def fetch_entries(e: Entries, rows: Rows, r: Scalar) -> None:
    """Have the newest events of a row fetched, and the place for one more."""
    n = rows.n[r]
    prefetch(e.bits, _at(rows, r, n))
    prefetch(e.hid, _at(rows, r, n))
    far: Scalar = min(n, _FETCHED)
    for i in range(1, far + 1, 8):
        x = _at(rows, r, n - i)
        prefetch(e.t, x)
        for c in range(e.v.shape[0]):
            prefetch(e.v[c], x)


@lean
def _fetch_ahead(e: Entries, rows: Rows, heads: Ints, slot: Ints, n: Scalar) -> None:
    """Have the memory of later events' rows fetched while this one is handled: keys come in any order."""
    count = len(slot)
    if n + 12 < count and slot[n + 12] >= 0:
        prefetch(heads, slot[n + 12])
    if n + 8 < count and slot[n + 8] >= 0:
        r = heads[slot[n + 8]]
        if r >= 0:
            prefetch(rows.slot, r)
            prefetch(rows.newest, r)
    if n + 4 < count and slot[n + 4] >= 0:
        r = heads[slot[n + 4]]
        if r >= 0:
            fetch_entries(e, rows, r)


@lean_released
def run(
    begin: Scalar,
    e: Entries,
    rows: Rows,
    heads: Ints,
    b: Buckets,
    lay: Layout,
    meta: Ints,
    scratch: Scratch,
    slot: Ints,
    part: Ints,
    offset: Ints,
    t: Ints,
    position: Ints,
    hid: Words,
    bits: Words,
    v: Floats,
    k: Ints,
    does_fold: Bools,
    does_read: Bools,
    out_row: Ints,
    f_kind: Ints,
    f_cell: Ints,
    f_of: Ints,
    f_fill: Floats,
    f_slot: Ints,
    f_text: Ints,
    out: Floats,
    texts: Ints,
    status: Ints,
    folds_in: bool,
    stamps: Ints,
    stamp_parts: Ints,
) -> Scalar:
    """Process events from `begin` on; returns the first event not processed (arenas were full) or n."""
    ring: Scalar = 16
    while ring < lay.capacity * 4:
        ring *= 2
    for n in range(begin, len(slot)):
        _fetch_ahead(e, rows, heads, slot, n)
        if does_fold[n] and folds_in and is_full(e, rows, b, meta, 2 * ring):
            return n
        sl = slot[n]
        if sl < 0:
            continue
        flag = 0
        if does_fold[n]:
            flag = _seen(e, rows, heads, lay, sl, part[n], t[n], hid[n])
        if does_read[n]:
            own = does_fold[n] and (flag & 1) == 0 and not lay.label
            r0 = heads[sl]
            for s in range(len(lay.s_acc)):
                a = lay.s_acc[s]
                where = lay.acc_where[a]
                cur = own and lay.s_current[s] and lay.s_delay[s] == 0
                if cur and where >= 0 and (bits[n] >> np.uint32(where)) & np.uint32(1) == 0:
                    cur = False
                value, token = lay.acc_value[a], lay.acc_token[a]
                x0 = (v[value, n] if value >= 0 else np.nan, k[token, n] if token >= 0 else np.int64(0))
                _scan(e, rows, b, lay, scratch, s, r0, t[n], x0, cur)
                if lay.s_flags[s] & DISTINCT:
                    mine = x0[1] if cur else np.int64(0)
                    _distinct(e, rows, b, lay, scratch, s, r0, t[n], t[n] - lay.s_delay[s], mine)
            o = out_row[n]
            for c in range(len(f_kind)):
                cell = f_cell[c]
                if f_text[c] >= 0:
                    texts[o, f_text[c]] = scratch.i[cell, 2 if f_kind[c] == 6 else 3]
                    continue
                g = scratch.f[f_of[c], B_N] if f_of[c] >= 0 else 0.0
                got = _result(f_kind[c], scratch.f[cell], scratch.i[cell], g, t[n])
                if got != got or (scratch.f[cell, B_N] == 0.0 and f_kind[c] != 8):
                    got = f_fill[c]
                out[o, f_slot[c]] = got
            if stamps.shape[1] > 0:
                r = r0
                while r >= 0:
                    for q in range(len(stamp_parts)):
                        if stamp_parts[q] == rows.part[r]:
                            stamps[o, q] = rows.stamp[r]
                    r = rows.nxt[r]
        if does_fold[n] and folds_in:
            fold(
                e,
                rows,
                heads,
                b,
                lay,
                meta,
                sl,
                part[n],
                offset[n],
                t[n],
                position[n],
                hid[n],
                bits[n],
                v,
                k,
                n,
            )
        status[n] = flag
    return len(slot)


@lean
def _seen(
    e: Entries, rows: Rows, heads: Ints, lay: Layout, slot: Scalar, part: Scalar, t: Scalar, hid: Scalar
) -> Scalar:
    """Whether the event is a duplicate (bit 0) or late (bit 1) in its own row, before the fold."""
    r = find_row(rows, heads, slot, part)
    if r < 0:
        return 0
    late = 2 if t < rows.newest[r] else 0
    if lay.label:
        return late
    place = upper(e, rows, r, t) - 1
    while place >= 0:
        x = _at(rows, r, place)
        if e.t[x] != t:
            break
        if e.hid[x] == hid:
            return 1 | late
        place -= 1
    return late
