"""Committed rows that the store has not acknowledged yet, coalesced by name.

Not safe for threads by itself: SliceState calls it under its lock.
"""

from __future__ import annotations

from collections.abc import Iterator

from features.store.base import Partition

Place = tuple[Partition, int]
"""A partition and a shard."""

Rows = dict[bytes, bytes]

_OVERHEAD = 200


class PendingRows:
    """Rows by partition and shard; a newer row of a name replaces the older one.

    Rows that are under way to the store count as pending until they are acknowledged.
    """

    def __init__(self) -> None:
        self._rows: dict[Place, Rows] = {}
        self._sent: dict[Place, Rows] = {}
        self._bytes: dict[Place, int] = {}

    @property
    def size(self) -> int:
        """An upper bound of the memory held, rows under way included."""
        return sum(self._bytes.values())

    def __contains__(self, place: object) -> bool:
        return place in self._rows

    def add(self, place: Place, rows: Rows, size: int) -> None:
        """Take over rows of one place; `size` is the number of their bytes."""
        held = self._rows.setdefault(place, {})
        before = len(held)
        held.update(rows)
        self._bytes[place] = self._bytes.get(place, 0) + size + _OVERHEAD * (len(held) - before)

    def take(self, place: Place) -> Rows:
        """All rows of a place, to be sent. `done` or `restore` follows before the next `take`."""
        rows = self._rows.pop(place, {})
        if rows:
            self._sent[place] = rows
        return rows

    def done(self, place: Place) -> None:
        """What was taken is stored."""
        self._sent.pop(place, None)
        left = self._rows.get(place)
        if left is None:
            self._bytes.pop(place, None)
        else:
            self._bytes[place] = sum(map(len, left.values())) + _OVERHEAD * len(left)

    def restore(self, place: Place) -> None:
        """What was taken may not be stored: pending again, under any newer row of the same name."""
        rows = self._sent.pop(place, None)
        if rows:
            rows.update(self._rows.get(place, {}))
            self._rows[place] = rows

    def clear(self) -> None:
        """Forget all."""
        self._rows.clear()
        self._sent.clear()
        self._bytes.clear()

    def places(self) -> Iterator[Place]:
        """Where there are rows to send."""
        return iter(self._rows)
