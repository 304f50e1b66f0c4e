"""The hot path: one pass over a group's events, reading every window and folding each event in.

Numbers only; features.engine prepares them. Nothing here allocates, and none of it uses fast-math, so that sums are
exact double-double sums.

What runs once an event is compiled into the loop: a call hands over each array of its structures in seven words, and
four such calls an event made the pass a fifth slower.
"""

from __future__ import annotations

import numpy as np

from features.core.batch import Ints
from features.core.compiled import Scalar, inlined, lean_released
from features.core.prefetch import prefetch
from features.kernel.arena import fetch_entries, is_full
from features.kernel.buckets import operands, passes
from features.kernel.fold import fold, seen
from features.kernel.names import (
    DISTINCT,
    DUPLICATE,
    F_COUNT,
    FIRST,
    I_FIRST_TOKEN,
    I_LAST_TOKEN,
    NEEDS_DISTINCT,
)
from features.kernel.tables import Arena, Entries, Events, GroupLayout, Reads, Results, Rows
from features.kernel.windows import count_distinct, result, scan


@inlined
def _fetch_ahead(e: Entries, rows: Rows, heads: Ints, key: Ints, n: Scalar) -> None:
    """Have the memory of later events' rows fetched while this one is handled: keys come in any order."""
    count = len(key)
    if n + 12 < count and key[n + 12] >= 0:
        prefetch(heads, key[n + 12])
    if n + 8 < count and key[n + 8] >= 0:
        r = heads[key[n + 8]]
        if r >= 0:
            prefetch(rows.key, r)
            prefetch(rows.newest, r)
    if n + 4 < count and key[n + 4] >= 0:
        r = heads[key[n + 4]]
        if r >= 0:
            fetch_entries(e, rows, r)


@lean_released
def run(
    begin: Scalar,
    arena: Arena,
    layout: GroupLayout,
    events: Events,
    reads: Reads,
    results: Results,
    folds: bool,
) -> Scalar:
    """Process events from `begin` on; returns the first event not processed, or their number.

    Processing stops where one more row might not fit into the arena. Without `folds` each event is read as if it were
    next, and nothing changes.
    """
    for n in range(begin, len(events.key)):
        _fetch_ahead(arena.entries, arena.rows, arena.heads, events.key, n)
        folded = events.folds[n]
        if (
            folded
            and folds
            and is_full(arena.entries, arena.rows, arena.buckets, arena.meta, 2 * layout.block)
        ):
            return n
        if events.key[n] < 0:
            continue
        status = seen(arena, layout, events, n) if folded else 0
        if reads.events[n]:
            _scan_all(arena, layout, events, n, folded and status & DUPLICATE == 0 and not layout.label)
            _write_features(arena, events, n, reads, results)
            if results.stamps.shape[1] > 0:
                _write_stamps(arena, events, n, results)
        if folded and folds:
            fold(arena, layout, events, n, status)
        results.status[n] = status
    return len(events.key)


@inlined
def _scan_all(arena: Arena, layout: GroupLayout, events: Events, n: Scalar, counts_itself: bool) -> None:
    """Fill the accumulators of every scan for event n."""
    first_row = arena.heads[events.key[n]]
    t = events.time[n]
    for s in range(len(layout.scan_acc)):
        a = layout.scan_acc[s]
        value, token = layout.acc_value[a], layout.acc_token[a]
        itself = counts_itself and layout.scan_current[s] and layout.scan_delay[s] == 0
        itself = itself and passes(events.bits, n, layout.acc_where[a])
        own = operands(events.values, events.tokens, n, value, token)
        scan(arena.entries, arena.rows, arena.buckets, layout, arena.scratch, s, first_row, t, own, itself)
        if layout.scan_needs[s] & NEEDS_DISTINCT:
            current = own[1] if itself else np.int64(0)
            count_distinct(
                arena.entries, arena.rows, arena.buckets, layout, arena.scratch, s, first_row, t, current
            )


@inlined
def _write_features(arena: Arena, events: Events, n: Scalar, reads: Reads, results: Results) -> None:
    """Write the features of event n from the accumulators, `fill` where there is no value."""
    row, t = events.row[n], events.time[n]
    floats, integers = arena.scratch.floats, arena.scratch.integers
    for c in range(len(reads.kind)):
        kind, cell = reads.kind[c], reads.cell[c]
        if reads.text[c] >= 0:
            results.texts[row, reads.text[c]] = integers[
                cell, I_FIRST_TOKEN if kind == FIRST else I_LAST_TOKEN
            ]
            continue
        of = floats[reads.of[c], F_COUNT] if reads.of[c] >= 0 else 0.0
        value = result(kind, floats[cell], integers[cell], of, t)
        if value != value or (floats[cell, F_COUNT] == 0.0 and kind != DISTINCT):
            value = reads.fill[c]
        results.values[row, reads.column[c]] = value


@inlined
def _write_stamps(arena: Arena, events: Events, n: Scalar, results: Results) -> None:
    """Write which prefix of each partition's slice event n has seen."""
    rows = arena.rows
    r = arena.heads[events.key[n]]
    while r >= 0:
        for j in range(len(results.partitions)):
            if results.partitions[j] == rows.partition[r]:
                results.stamps[events.row[n], j] = rows.stamp[r]
        r = rows.following[r]
