"""Folds one event into its row: duplicates, what is too old, the ring and its buckets."""

from __future__ import annotations

from features.core.batch import Ints
from features.core.compiled import Scalar, inlined, lean
from features.kernel.arena import entry_at, find_row, link_versions, new_row, open_gap, touch, upper
from features.kernel.buckets import (
    add_newest,
    bucket_for,
    drop_buckets,
    is_null,
    new_bucket,
    operands,
    passes,
    remember_token,
)
from features.kernel.names import (
    DUPLICATE,
    LATE,
    M_DUPLICATES,
    M_FORGOTTEN,
    M_LATE,
    NEVER,
)
from features.kernel.tables import Arena, Entries, Events, GroupLayout, Rows


@inlined
def seen(arena: Arena, layout: GroupLayout, events: Events, n: Scalar) -> Scalar:
    """Status bits of event n as its row stands before it is folded. A label's duplicate is known by `fold` alone."""
    rows = arena.rows
    r = find_row(rows, arena.heads, events.key[n], events.partition[n])
    if r < 0:
        return 0
    t = events.time[n]
    late = LATE if t < rows.newest[r] else 0
    if not layout.label and _holds(arena.entries, rows, r, t, events.id_hash[n]):
        return DUPLICATE | late
    return late


@inlined
def _holds(e: Entries, rows: Rows, r: Scalar, t: Scalar, id_hash: Scalar) -> Scalar:
    """True when a row's ring holds an event of that time and id."""
    i = upper(e, rows, r, t) - 1
    while i >= 0:
        x = entry_at(rows, r, i)
        if e.time[x] != t:
            break
        if e.id_hash[x] == id_hash:
            return True
        i -= 1
    return False


@inlined
def fold(arena: Arena, layout: GroupLayout, events: Events, n: Scalar, status: Scalar) -> None:
    """Fold event n, whose status bits are known, into its row."""
    e, rows, meta = arena.entries, arena.rows, arena.meta
    r = find_row(rows, arena.heads, events.key[n], events.partition[n])
    if r < 0:
        r = new_row(e, rows, arena.heads, meta, events.key[n], events.partition[n])
    if events.offset[n] < rows.stamp[r]:
        return
    rows.stamp[r] = events.offset[n] + 1
    touch(rows, meta, r)
    t = events.time[n]
    where = t
    duplicate = status & DUPLICATE != 0
    if layout.label:
        where, duplicate = _label_time(e, rows, r, events, n)
    if duplicate:
        meta[M_DUPLICATES] += 1
        return
    if status & LATE:
        meta[M_LATE] += 1
    newest = rows.newest[r]
    rows.newest[r] = max(newest, t)
    edge = rows.newest[r] - layout.horizon
    while rows.length[r] > 0 and e.time[entry_at(rows, r, 0)] <= edge:
        _drop_oldest(rows, r)
    if rows.bucket[r] >= 0:
        drop_buckets(arena.buckets, rows.bucket[r], edge)
    if where <= edge:
        meta[M_FORGOTTEN] += 1
        return
    if rows.length[r] >= layout.capacity:
        _merge_oldest(arena, layout, r)
    _store(e, rows, meta, layout.label, events, n, r, where)


@inlined
def _drop_oldest(rows: Rows, r: Scalar) -> None:
    rows.head[r] = (rows.head[r] + 1) & ((1 << rows.size_class[r]) - 1)
    rows.length[r] -= 1


@inlined
def _label_time(e: Entries, rows: Rows, r: Scalar, events: Events, n: Scalar) -> tuple[Scalar, Scalar]:
    """The time of the event that a label judges, and whether this version of the label is already known.

    A label that does not say the time takes that of an earlier version, or its own.
    """
    position, known = events.position[n], events.time[n]
    where = position if position != NEVER else known
    duplicate = False
    low, high = 0, rows.length[r]
    if position != NEVER:
        low, high = upper(e, rows, r, where - 1), upper(e, rows, r, where)
    for i in range(low, high):
        x = entry_at(rows, r, i)
        if e.id_hash[x] == events.id_hash[n]:
            duplicate = duplicate or e.known[x] == known
            where = e.time[x]
    return where, duplicate


@lean
def _merge_oldest(arena: Arena, layout: GroupLayout, r: Scalar) -> None:
    """Move the oldest event of a full ring into the row's buckets."""
    e, rows, b = arena.entries, arena.rows, arena.buckets
    if rows.bucket[r] < 0:
        rows.bucket[r] = new_bucket(b, arena.meta)
    blk = rows.bucket[r]
    x = entry_at(rows, r, 0)
    t = e.time[x]
    q = bucket_for(b, layout, blk, t, rows.newest[r])
    for a in range(len(layout.acc_value)):
        value, token = layout.acc_value[a], layout.acc_token[a]
        if not passes(e.bits, x, layout.acc_where[a]):
            continue
        v, k = operands(e.values, e.tokens, x, value, token)
        if is_null(v, k, value, token) or (layout.label and e.until[x] != NEVER):
            continue
        add_newest(b.floats[blk, q, a], b.integers[blk, q, a], v, t, k, layout.acc_needs[a])
    for c in range(e.tokens.shape[0]):
        if e.tokens[c, x] != 0:
            remember_token(b, blk, c, e.tokens[c, x], t)
    _drop_oldest(rows, r)
    if layout.label:  # as a stored row would say: it keeps what was known when, not until when that holds
        link_versions(e, rows, r, e.id_hash[x], t)


@inlined
def _store(
    e: Entries, rows: Rows, meta: Ints, label: bool, events: Events, n: Scalar, r: Scalar, where: Scalar
) -> None:
    """Put event n into the ring of row `r`, after all others at the time `where`."""
    x = open_gap(e, rows, meta, r, upper(e, rows, r, where), label)
    e.time[x], e.id_hash[x], e.bits[x] = where, events.id_hash[n], events.bits[n]
    for c in range(e.values.shape[0]):
        e.values[c, x] = events.values[c, n]
    for c in range(e.tokens.shape[0]):
        e.tokens[c, x] = events.tokens[c, n]
    if label:
        e.known[x], e.until[x] = events.time[n], NEVER
        link_versions(e, rows, r, events.id_hash[n], where)
