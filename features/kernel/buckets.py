"""Accumulators, and the buckets that hold those of events which have left a full ring.

A bucket spans at most 1/128 of the shortest window that can still end within it; a bottom-k sample of tokens by
hash stands in for the distinct tokens of all buckets of a row.
"""

from __future__ import annotations

import numpy as np

from features.core.batch import Floats, Ints
from features.core.compiled import Scalar, inlined, lean
from features.kernel.names import (
    COMPACT_EVERY,
    F_COUNT,
    F_FIRST,
    F_LAST,
    F_MAX,
    F_MIN,
    F_SQUARES,
    F_SQUARES_REST,
    F_SUM,
    F_SUM_REST,
    I_FIRST_ROW,
    I_FIRST_TIME,
    I_FIRST_TOKEN,
    I_LAST_ROW,
    I_LAST_TIME,
    I_LAST_TOKEN,
    LONG_AGO,
    M_BUCKETS,
    M_FREE_BUCKET,
    M_LIVE_BUCKETS,
    NEEDS_ENDS,
    NEEDS_EXTREMES,
    NEEDS_SQUARES,
    NEVER,
    SAMPLE,
)
from features.kernel.sums import square, two_sum
from features.kernel.tables import Buckets, GroupLayout, Words


@inlined
def passes(bits: Words, x: Scalar, where: Scalar) -> Scalar:
    """True when event x holds the condition `where`, or there is none (-1)."""
    return where < 0 or (bits[x] >> np.uint32(where)) & np.uint32(1) != 0


@inlined
def operands(values: Floats, tokens: Ints, x: Scalar, value: Scalar, token: Scalar) -> tuple[Scalar, Scalar]:
    """Value and token of event x in those columns; NaN and 0 for a column -1."""
    return (values[value, x] if value >= 0 else np.nan, tokens[token, x] if token >= 0 else np.int64(0))


@inlined
def is_null(v: Scalar, k: Scalar, value: Scalar, token: Scalar) -> Scalar:
    """True when the column that is aggregated has no value in an event with these operands."""
    return (value >= 0 and v != v) or (token >= 0 and k == 0)


@inlined
def add_number(f: Floats, x: Scalar, needs: Scalar) -> None:
    """Fold a value into sums and, where they are needed, squares and extremes."""
    s, err = two_sum(f[F_SUM], x)
    f[F_SUM], f[F_SUM_REST] = s, f[F_SUM_REST] + err
    if needs & NEEDS_SQUARES:
        p, pe = square(x)
        q, qe = two_sum(f[F_SQUARES], p)
        f[F_SQUARES], f[F_SQUARES_REST] = q, f[F_SQUARES_REST] + (qe + pe)
    if needs & NEEDS_EXTREMES:
        f[F_MIN] = min(f[F_MIN], x)
        f[F_MAX] = max(f[F_MAX], x)


@lean
def add_newest(f: Floats, i: Ints, x: Scalar, t: Scalar, token: Scalar, needs: Scalar) -> None:
    """Fold in an event that came after all others at its time; a NaN value counts without adding to sums."""
    f[F_COUNT] += 1.0
    if needs & NEEDS_ENDS:
        if t < i[I_FIRST_TIME]:
            i[I_FIRST_TIME], i[I_FIRST_TOKEN], f[F_FIRST] = t, token, x
        if t >= i[I_LAST_TIME]:
            i[I_LAST_TIME], i[I_LAST_TOKEN], f[F_LAST] = t, token, x
    if x == x:
        add_number(f, x, needs)


@inlined
def is_first(i: Ints, t: Scalar, r: Scalar) -> Scalar:
    """Whether row `r`, read from new to old after the rows of lower partitions, has the first event at `t`."""
    return t < i[I_FIRST_TIME] or (t == i[I_FIRST_TIME] and i[I_FIRST_ROW] == r)


@inlined
def is_last(i: Ints, t: Scalar, r: Scalar) -> Scalar:
    """Whether row `r` has the last event at `t`; among partitions the higher one is later."""
    return t > i[I_LAST_TIME] or (t == i[I_LAST_TIME] and i[I_LAST_ROW] != r)


@inlined
def _add_sums(f: Floats, g: Floats) -> None:
    f[F_COUNT] += g[F_COUNT]
    s, err = two_sum(f[F_SUM], g[F_SUM])
    f[F_SUM], f[F_SUM_REST] = s, f[F_SUM_REST] + g[F_SUM_REST] + err
    q, qe = two_sum(f[F_SQUARES], g[F_SQUARES])
    f[F_SQUARES], f[F_SQUARES_REST] = q, f[F_SQUARES_REST] + g[F_SQUARES_REST] + qe
    f[F_MIN] = min(f[F_MIN], g[F_MIN])
    f[F_MAX] = max(f[F_MAX], g[F_MAX])


@lean
def add_accumulator(f: Floats, i: Ints, g: Floats, j: Ints) -> None:
    """Fold one accumulator into another; `g` may be older or newer than `f`."""
    if g[F_COUNT] == 0.0:
        return
    _add_sums(f, g)
    if j[I_FIRST_TIME] < i[I_FIRST_TIME]:
        i[I_FIRST_TIME], i[I_FIRST_TOKEN], f[F_FIRST] = j[I_FIRST_TIME], j[I_FIRST_TOKEN], g[F_FIRST]
    if j[I_LAST_TIME] >= i[I_LAST_TIME]:
        i[I_LAST_TIME], i[I_LAST_TOKEN], f[F_LAST] = j[I_LAST_TIME], j[I_LAST_TOKEN], g[F_LAST]


@lean
def add_bucket(f: Floats, i: Ints, g: Floats, j: Ints, r: Scalar) -> None:
    """Fold a bucket of row `r` into a scan's accumulator, after the row's own events, which are newer."""
    if g[F_COUNT] == 0.0:
        return
    _add_sums(f, g)
    if is_first(i, j[I_FIRST_TIME], r):
        i[I_FIRST_TIME], i[I_FIRST_TOKEN], i[I_FIRST_ROW] = j[I_FIRST_TIME], j[I_FIRST_TOKEN], r
        f[F_FIRST] = g[F_FIRST]
    if is_last(i, j[I_LAST_TIME], r):
        i[I_LAST_TIME], i[I_LAST_TOKEN], i[I_LAST_ROW] = j[I_LAST_TIME], j[I_LAST_TOKEN], r
        f[F_LAST] = g[F_LAST]


@lean
def clear(f: Floats, i: Ints) -> None:
    """Make an accumulator empty."""
    f[:] = 0.0
    f[F_MIN], f[F_MAX], f[F_FIRST], f[F_LAST] = np.inf, -np.inf, np.nan, np.nan
    i[I_FIRST_TIME], i[I_LAST_TIME], i[I_FIRST_TOKEN], i[I_LAST_TOKEN] = NEVER, LONG_AGO, 0, 0


@lean
def new_bucket(b: Buckets, meta: Ints) -> Scalar:
    """A block of buckets for a row that has none."""
    meta[M_LIVE_BUCKETS] += 1
    blk = meta[M_FREE_BUCKET]
    if blk >= 0:
        meta[M_FREE_BUCKET] = b.length[blk]
    else:
        blk = meta[M_BUCKETS]
        meta[M_BUCKETS] = blk + 1
    b.length[blk] = 0
    b.sampled[blk] = 0
    return blk


@lean
def _longest_span(layout: GroupLayout, age: Scalar) -> Scalar:
    """How long a bucket may be whose end is so old."""
    for j in range(len(layout.reach)):
        if layout.reach[j] > age:
            return layout.finest[j] // 128
    return np.int64(NEVER)


@lean
def _copy_bucket(b: Buckets, blk: Scalar, source: Scalar, target: Scalar) -> None:
    b.start[blk, target], b.end[blk, target] = b.start[blk, source], b.end[blk, source]
    for a in range(b.floats.shape[2]):
        for cell in range(b.floats.shape[3]):
            b.floats[blk, target, a, cell] = b.floats[blk, source, a, cell]
        for cell in range(b.integers.shape[3]):
            b.integers[blk, target, a, cell] = b.integers[blk, source, a, cell]


@lean
def _compact(b: Buckets, layout: GroupLayout, blk: Scalar, newest: Scalar, oldest_pair: bool) -> None:
    """Merge neighbours as far as their span may go; `oldest_pair` merges those two whatever their span."""
    last = 0
    f, i = b.floats[blk], b.integers[blk]
    for q in range(1, b.length[blk]):
        end = max(b.end[blk, last], b.end[blk, q])
        if end - b.start[blk, last] <= _longest_span(layout, newest - end) or (oldest_pair and q == 1):
            b.end[blk, last] = end
            for a in range(len(layout.acc_value)):
                add_accumulator(f[last, a], i[last, a], f[q, a], i[q, a])
        else:
            last += 1
            if last != q:
                _copy_bucket(b, blk, q, last)
    b.length[blk] = last + 1


@lean
def drop_buckets(b: Buckets, blk: Scalar, before: Scalar) -> None:
    """Forget the buckets whose last event is not newer than `before`."""
    dropped = 0
    while dropped < b.length[blk] and b.end[blk, dropped] <= before:
        dropped += 1
    if dropped:
        n = b.length[blk] - dropped
        for q in range(n):
            _copy_bucket(b, blk, q + dropped, q)
        b.length[blk] = n


@lean
def bucket_for(b: Buckets, layout: GroupLayout, blk: Scalar, t: Scalar, newest: Scalar) -> Scalar:
    """The bucket that an event at `t` goes into, made longer or appended; buckets are merged for room."""
    q = b.length[blk] - 1
    while q > 0 and b.start[blk, q] > t:
        q -= 1
    late = q >= 0 and t < b.end[blk, q]
    if q < 0 or (not late and t - b.start[blk, q] > _longest_span(layout, newest - t)):
        if b.length[blk] % COMPACT_EVERY == 0 and b.length[blk] > 0:
            _compact(b, layout, blk, newest, False)
            if b.length[blk] == b.start.shape[1]:
                _compact(b, layout, blk, newest, True)
        q = b.length[blk]
        b.length[blk] = q + 1
        b.start[blk, q], b.end[blk, q] = t, t
        for a in range(len(layout.acc_value)):
            clear(b.floats[blk, q, a], b.integers[blk, q, a])
    b.start[blk, q] = min(b.start[blk, q], t)
    b.end[blk, q] = max(b.end[blk, q], t)
    return q


@lean
def remember_token(b: Buckets, blk: Scalar, c: Scalar, token: Scalar, t: Scalar) -> None:
    """Keep a token in the bottom-k sample by hash, with its newest time."""
    n: Scalar = b.sampled[blk, c]
    low: Scalar = 0
    high: Scalar = n
    hashed = np.uint64(token)
    while low < high:
        mid = (low + high) >> 1
        if np.uint64(b.sample[blk, c, mid]) < hashed:
            low = mid + 1
        else:
            high = mid
    if low < n and b.sample[blk, c, low] == token:
        b.seen[blk, c, low] = max(b.seen[blk, c, low], t)
        return
    if low >= SAMPLE:
        return
    last: Scalar = min(n, SAMPLE - 1)
    for j in range(last, low, -1):
        b.sample[blk, c, j] = b.sample[blk, c, j - 1]
        b.seen[blk, c, j] = b.seen[blk, c, j - 1]
    b.sample[blk, c, low], b.seen[blk, c, low] = token, t
    b.sampled[blk, c] = min(n + 1, SAMPLE)
