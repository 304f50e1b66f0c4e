"""Committed rows that the store has not acknowledged yet, coalesced by name.

Not safe for threads by itself: SliceState calls it under its lock.
"""

from __future__ import annotations

from features.store.base import Partition

PartitionShard = tuple[Partition, int]
"""A partition and a shard."""

Rows = dict[bytes, bytes]

_OVERHEAD = 200


class PendingRows:
    """Rows by partition and shard; a newer row of a name replaces the older one.

    Rows that are under way to the store count as pending until they are acknowledged.
    """

    def __init__(self) -> None:
        self._rows: dict[PartitionShard, Rows] = {}
        self._sent: dict[PartitionShard, Rows] = {}
        self._bytes: dict[PartitionShard, int] = {}

    @property
    def size(self) -> int:
        """An upper bound of the memory held, rows under way included."""
        return sum(self._bytes.values())

    def __contains__(self, shard: object) -> bool:
        return shard in self._rows

    def add(self, shard: PartitionShard, rows: Rows, size: int) -> None:
        """Take over rows of one shard; `size` is the number of their bytes."""
        held = self._rows.setdefault(shard, {})
        before = len(held)
        held.update(rows)
        self._bytes[shard] = self._bytes.get(shard, 0) + size + _OVERHEAD * (len(held) - before)

    def take(self, shard: PartitionShard) -> Rows:
        """All rows of a shard, to be sent. `done` or `restore` follows before the next `take`."""
        rows = self._rows.pop(shard, {})
        if rows:
            self._sent[shard] = rows
        return rows

    def done(self, shard: PartitionShard) -> None:
        """What was taken is stored."""
        self._sent.pop(shard, None)
        newer = self._rows.get(shard)
        if newer is None:
            self._bytes.pop(shard, None)
        else:
            self._bytes[shard] = sum(map(len, newer.values())) + _OVERHEAD * len(newer)

    def restore(self, shard: PartitionShard) -> None:
        """What was taken may not be stored: pending again, under any newer row of the same name."""
        rows = self._sent.pop(shard, None)
        if rows:
            rows.update(self._rows.get(shard, {}))
            self._rows[shard] = rows

    def clear(self) -> None:
        """Forget all."""
        self._rows.clear()
        self._sent.clear()
        self._bytes.clear()
