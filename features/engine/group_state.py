"""State of one group: an arena that grows, and the compiled passes over it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from features.core.batch import Bools, Ints
from features.definitions.plan import Group
from features.engine.arenas import bytes_in_use, new_arena, with_keys, with_room
from features.engine.layouts import group_layout
from features.kernel.arena import remove_rows, take_touched
from features.kernel.names import I_FIRST_TOKEN, I_LAST_TOKEN, M_ROWS, M_TOUCHED
from features.kernel.passes import run
from features.kernel.row_codec import EncodedRows, decode_rows, encode_rows, rows_bound, workspace
from features.kernel.tables import Arena, Events, Reads, Results, Rows


class GroupState:
    """Rows of one (entity, source) pair. `partitions` are those of which there may be rows."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.layout = group_layout(group)
        self._work = workspace(1)
        self.clear()

    def clear(self) -> None:
        """Forget all rows."""
        self._arena: Arena = new_arena(self.group, self.layout)
        self.partitions: set[int] = set()

    @property
    def rows(self) -> Rows:
        """The table of rows; the arrays are replaced when it grows."""
        return self._arena.rows

    def touched(self) -> Ints:
        """Numbers of the rows that are dirty, in the order in which they became so."""
        return self.rows.touched[: int(self._arena.meta[M_TOUCHED])]

    def reserve_keys(self, count: int) -> None:
        """Make room for so many keys."""
        self._arena = with_keys(self._arena, count)

    def memory_bytes(self) -> int:
        """Bytes in use: events, rows, buckets; without what removed rows left free."""
        return bytes_in_use(self._arena)

    def run(self, events: Events, reads: Reads, results: Results, *, folds: bool) -> None:
        """Read every window as of each event, then fold it in unless it is only a question."""
        done = 0
        while (done := run(done, self._arena, self.layout, events, reads, results, folds)) < len(events.key):
            self._arena = with_room(self._arena, 2 * self.layout.block)

    def take_dirty(self, shard_of: Ints, due: Bools) -> Ints:
        """Rows of keys in shards that are `due`, touched since they were last taken, ascending.

        Costs as much as rows were touched, however many there are. `shard_of` gives the shard of each key.
        """
        out = np.empty(len(self.touched()), np.int64)
        which = out[: take_touched(self.rows, self._arena.meta, shard_of, due, out)]
        which.sort()
        return which

    def encode(self, which: Ints) -> list[bytes]:
        """The bytes of rows."""
        out = np.empty(rows_bound(self._arena, self.layout, which) + 64, np.uint8)
        ends = np.zeros(len(which), np.int64)
        longest = int(self.rows.length[which].max()) + 1 if len(which) else 1
        encode_rows(self._arena, self.layout, which, out, ends, workspace(longest))
        cuts = ends.tolist()
        whole = out[: cuts[-1]].tobytes() if cuts else b""
        return [whole[begin:end] for begin, end in zip([0, *cuts[:-1]], cuts, strict=True)]

    def decode(self, keys: Ints, partitions: Ints, data: Sequence[bytes]) -> bool:
        """New rows from bytes; False when one is of another version."""
        self.partitions.update(partitions.tolist())
        whole = np.frombuffer(b"".join(data), np.uint8)
        encoded = EncodedRows(keys, partitions, whole, np.cumsum([0, *map(len, data)]))
        done = 0
        while 0 <= done < len(data):
            self._arena = with_room(self._arena, 3 * self.layout.block)
            done = decode_rows(done, self._arena, self.layout, encoded, self._work)
        return done >= 0

    def remove(self, keys: Ints, partitions: set[int] | None = None) -> None:
        """Forget the rows of keys; of some partitions only, where given."""
        only = np.zeros(0 if partitions is None else max(partitions) + 1, np.bool_)
        only[list(partitions or ())] = True
        remove_rows(self._arena, keys, only)

    def text_tokens(self, row: int) -> set[int]:
        """Tokens of a row whose texts must be kept with it, those of its buckets too."""
        rows, buckets = self.rows, self._arena.buckets
        start, size = int(rows.start[row]), 1 << int(rows.size_class[row])
        entries = start + (int(rows.head[row]) + np.arange(int(rows.length[row]))) % size
        tokens: set[int] = set()
        for column, needed in enumerate(self.group.text_tokens):
            if needed:
                tokens.update(self._arena.entries.tokens[column, entries].tolist())
        block = int(rows.bucket[row])
        if block >= 0:
            ends = buckets.integers[block, : int(buckets.length[block]), :, I_FIRST_TOKEN : I_LAST_TOKEN + 1]
            columns = self.layout.acc_token.tolist()
            texts = [
                acc for acc, column in enumerate(columns) if column >= 0 and self.group.text_tokens[column]
            ]
            tokens.update(ends[:, texts].ravel().tolist())
        return tokens - {0}

    def stored(self, keys: Ints, shards: Ints, base: Callable[[str, int], Ints]) -> Bools:
        """For each key, whether all of its rows are in the store: clean, with a stamp of at most the base."""
        rows = self.rows
        live = np.flatnonzero(rows.key[: int(self._arena.meta[M_ROWS])] >= 0)
        pending = np.zeros(len(self._arena.heads), np.bool_)
        for partition in np.unique(rows.partition[live]).tolist():
            own = live[rows.partition[live] == partition]
            key = rows.key[own]
            newer = rows.stamp[own] > base(self.group.source, partition)[shards[key]]
            pending[key[newer | (rows.dirty[own] > 0)]] = True
        return ~pending[keys]
