"""State of one group: arenas that grow, and the compiled passes over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.core.batch import Bools, Ints
from features.definitions.plan import Feature, Group
from features.kernel import kernel as k
from features.kernel.row_codec import decode_rows, encode_rows, rows_bound, word

_KINDS = {
    "count": 0,
    "sum": 1,
    "mean": 2,
    "std": 3,
    "min": 4,
    "max": 5,
    "first": 6,
    "last": 7,
    "distinct": 8,
    "elapsed": 9,
    "share": 10,
    "rate": 2,
}


class GroupState:
    """Rows of one (entity, source) pair."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.nv, self.nk = len(group.value_columns), len(group.token_columns)
        self.layout = _layout(group)
        self.accs = len(self.layout.acc_value)
        reaches = len(np.unique(self.layout.reach))
        self._most_buckets = 192 * reaches + 64
        self._block = 16
        while self._block < group.capacity * 4:
            self._block *= 2
        cells = len(self.layout.windows)
        self._scratch = k.Scratch(
            np.zeros((cells, 9)),
            np.zeros((cells, 6), np.int64),
            np.zeros(1 << 16, np.int64),
            np.zeros(1 << 16, np.int64),
            np.zeros(1 << 16, np.int64),
        )
        self._word = word()
        self.clear()

    def clear(self) -> None:
        """Forget all rows."""
        self.meta = np.full(k.META, -1, np.int64)
        zeros = (k.BUMP, k.NROWS, k.LATE, k.FORGOTTEN, k.DUPLICATES, k.NBUCKETS)
        for at in (*zeros, k.LIVE_EVENTS, k.LIVE_ROWS, k.LIVE_BUCKETS, k.TOUCHED):
            self.meta[at] = 0
        self.entries = self._entries(1 << 12)
        self.rows = _rows(1 << 8)
        self.partitions: set[int] = set()
        self.buckets = self._buckets(1)
        self.heads = np.full(1 << 8, -1, np.int64)

    def reserve_keys(self, count: int) -> None:
        """Room for the heads of so many key slots."""
        if count > len(self.heads):
            grown = np.full(max(count, len(self.heads) * 2), -1, np.int64)
            grown[: len(self.heads)] = self.heads
            self.heads = grown

    def grow(self, entries: int = 0) -> None:
        """Make room for another row, bucket block, and ring."""
        if self.meta[k.BUMP] + self._block * 2 + entries > len(self.entries.t):
            size = max(len(self.entries.t) * 3 // 2, int(self.meta[k.BUMP]) + self._block * 2 + entries)
            self.entries = k.Entries(*(_resized(array, size) for array in self.entries))
        if self.meta[k.NROWS] + 2 >= len(self.rows.slot):
            self.rows = _rows(len(self.rows.slot) * 2, self.rows)
        if self.meta[k.NBUCKETS] + 2 >= len(self.buckets.n):
            size = len(self.buckets.n) * 2 + 2
            self.buckets = k.Buckets(*(_resized(array, size, axis=0) for array in self.buckets))

    def memory_bytes(self) -> int:
        """Bytes in use: blocks of events, rows, buckets; without what removed rows left free."""
        per_event = sum(a.itemsize * (a.shape[0] if a.ndim == 2 else 1) for a in self.entries)
        per_row = self.rows.slot.strides[0] + self.rows.touched.itemsize
        per_bucket = sum(array.nbytes for array in self.buckets) // len(self.buckets.n)
        return int(
            self.meta[k.LIVE_EVENTS] * per_event
            + self.meta[k.LIVE_ROWS] * per_row
            + self.meta[k.LIVE_BUCKETS] * per_bucket
        )

    def take_dirty(self, shard_of: Ints, due: Bools) -> Ints:
        """Rows of keys in shards that are `due`, touched since they were last taken, ascending.

        Costs as much as rows were touched, however many there are. `shard_of` gives the shard of each key slot.
        """
        out = np.empty(int(self.meta[k.TOUCHED]), np.int64)
        which = out[: k.take_touched(self.rows, self.meta, shard_of, due, out)]
        which.sort()
        return which

    def encode(self, which: Ints) -> tuple[NDArray[np.uint8], Ints]:
        """(buffer, ends) of rows."""
        bound = rows_bound(self.rows, self.buckets, which, self.nv, self.nk, self.accs)
        out = np.empty(bound + 64, np.uint8)
        ends = np.zeros(len(which), np.int64)
        longest = int(self.rows.n[which].max()) + 1 if len(which) else 1
        encode_rows(
            self.entries,
            self.rows,
            self.buckets,
            which,
            out,
            ends,
            np.zeros(longest),
            np.zeros(longest, np.int64),
            self.accs,
            len(self.group.conditions),
            self.group.label,
            self._word,
        )
        return out, ends

    def decode(self, slots: Ints, parts: Ints, data: Sequence[bytes]) -> bool:
        """New rows from bytes; False when one is of another version."""
        self.partitions.update(parts.tolist())
        whole = np.frombuffer(b"".join(data), np.uint8)
        starts = np.cumsum([0, *map(len, data)])
        made = 0
        while made < len(data):
            self.grow(self._block)
            made = decode_rows(
                self.entries,
                self.rows,
                self.heads,
                self.buckets,
                self.meta,
                made,
                slots,
                parts,
                whole,
                starts,
                self._block,
                self.accs,
                len(self.group.conditions),
                self.group.label,
                self._word,
            )
            if made < 0:
                return False
        return True

    def remove(self, slots: Ints, only: set[int] | None = None) -> None:
        """Forget the rows of keys; of some partitions only, where given."""
        parts = np.zeros(0 if only is None else max(only) + 1, np.bool_)
        parts[list(only or ())] = True
        k.remove_rows(self.entries, self.rows, self.heads, self.buckets, self.meta, slots, parts)

    def text_tokens(self, row: int) -> set[int]:
        """Tokens of a row whose texts must be kept with it, those of its buckets too."""
        start, size = int(self.rows.start[row]), 1 << int(self.rows.cls[row])
        places = start + (int(self.rows.head[row]) + np.arange(int(self.rows.n[row]))) % size
        found: set[int] = set()
        for column, kept in enumerate(self.group.text_tokens):
            if kept:
                found.update(self.entries.k[column, places].tolist())
        block = int(self.rows.bucket[row])
        if block >= 0:
            ends = self.buckets.i[block, : int(self.buckets.n[block]), :, 2:]
            texts = [
                acc
                for acc, column in enumerate(self.layout.acc_token)
                if column >= 0 and self.group.text_tokens[column]
            ]
            found.update(ends[:, texts].ravel().tolist())
        return found - {0}

    def stored(self, slots: Ints, shards: Ints, base: Callable[[str, int], Ints]) -> Bools:
        """For each key, whether all of its rows are in the store: clean, with a stamp of at most the base."""
        count = int(self.meta[k.NROWS])
        live = np.flatnonzero(self.rows.slot[:count] >= 0)
        pending = np.zeros(len(self.heads), np.bool_)
        for part in np.unique(self.rows.part[live]).tolist():
            mine = live[self.rows.part[live] == part]
            keys = self.rows.slot[mine]
            late = self.rows.stamp[mine] > base(self.group.source, part)[shards[keys]]
            pending[keys[late | (self.rows.dirty[mine] > 0)]] = True
        return ~pending[slots]

    def _entries(self, size: int) -> k.Entries:
        label = size if self.group.label else 0
        return k.Entries(
            np.zeros(size, np.int64),
            np.zeros(size, np.uint32),
            np.zeros(size, np.uint32),
            np.zeros((self.nv, size)),
            np.zeros((self.nk, size), np.int64),
            np.zeros(label, np.int64),
            np.zeros(label, np.int64),
        )

    def _buckets(self, size: int) -> k.Buckets:
        many = self._most_buckets
        return k.Buckets(
            np.zeros(size, np.int64),
            np.zeros((size, many), np.int64),
            np.zeros((size, many), np.int64),
            np.zeros((size, many, self.accs, 9)),
            np.zeros((size, many, self.accs, 4), np.int64),
            np.zeros((size, max(1, self.nk)), np.int64),
            np.zeros((size, max(1, self.nk), k.SAMPLE), np.int64),
            np.zeros((size, max(1, self.nk), k.SAMPLE), np.int64),
        )


class Outputs:
    """Which cells of a group's scan make which columns of one reader's matrix."""

    def __init__(self, layout: k.Layout, features: list[tuple[Feature, int]]) -> None:
        first = layout.s_first
        self.kind = np.array([_KINDS[f.function] for f, _ in features], np.int64)
        self.cell = np.array([first[f.scan] + f.window for f, _ in features], np.int64)
        self.of = np.array(
            [first[f.of_scan] + f.window if f.of_scan >= 0 else -1 for f, _ in features], np.int64
        )
        self.fill = np.array([f.fill for f, _ in features], np.float64)
        self.column = np.array([-1 if f.text else place for f, place in features], np.int64)
        self.text = np.array([place if f.text else -1 for f, place in features], np.int64)


def _layout(group: Group) -> k.Layout:
    accs: dict[tuple[int, int, int], int] = {}
    s_acc: list[int] = []
    first: list[int] = []
    windows: list[int] = []
    for scan in group.scans:
        s_acc.append(accs.setdefault((scan.value, scan.token, scan.where), len(accs)))
        first.append(len(windows))
        windows.extend(scan.windows)
    spans = sorted({(scan.delay + w, w) for scan in group.scans for w in scan.windows})
    reach = np.array([one for one, _ in spans], np.int64)
    finest = np.array([min(w for far, w in spans if far >= one) for one, _ in spans], np.int64)
    flags = [
        s.needs_squares * k.SQUARES
        + s.needs_extremes * k.EXTREMES
        + s.needs_ends * k.ENDS
        + s.needs_distinct * k.DISTINCT
        for s in group.scans
    ]
    return k.Layout(
        group.label,
        group.horizon + group.lateness,
        group.capacity,
        reach,
        finest,
        np.array([a[0] for a in accs], np.int64),
        np.array([a[1] for a in accs], np.int64),
        np.array([a[2] for a in accs], np.int64),
        np.array([_joined(flags, s_acc, number) for number in range(len(accs))], np.int64),
        np.array(s_acc, np.int64),
        np.array([s.delay for s in group.scans], np.int64),
        np.array([s.include_current for s in group.scans]),
        np.array(first, np.int64),
        np.array([len(s.windows) for s in group.scans], np.int64),
        np.array(flags, np.int64),
        np.array(windows, np.int64),
    )


def _joined(flags: list[int], s_acc: list[int], acc: int) -> int:
    """What any slot of an accumulator needs."""
    needed = 0
    for flag, number in zip(flags, s_acc, strict=True):
        needed |= flag if number == acc else 0
    return needed


def _rows(size: int, old: k.Rows | None = None) -> k.Rows:
    """Columns of one table, row by row: all that is known of a row lies in two cache lines."""
    table = np.zeros((size, 12), np.int64)
    columns: list[Any] = [table[:, place] for place in range(len(k.Rows._fields) - 1)]
    columns.append(np.zeros(size, np.int64))
    rows = k.Rows(*columns)
    rows.bucket[:] = -1
    if old is not None:
        for column, name in zip(columns, k.Rows._fields, strict=True):
            before = getattr(old, name)
            column[: len(before)] = before
    return rows


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
