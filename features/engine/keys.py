"""Keys of one entity: from a 64-bit hash to an index, with name and shard kept for each index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from features.core.batch import Bools, Ints
from features.core.compiled import compiled
from features.engine.hashing import Hashes, shard_of
from features.store.layout import slice_names

Number = TypeVar("Number", bound=np.generic)


class KeyTable:
    """Indices are small numbers given in order of first sight; the index of an evicted key is used again.

    `names` are those of the store (layout.slice_name): built once a key, not each time that its row is stored.
    """

    def __init__(self, entity: str, shards: int) -> None:
        self._entity = entity
        self._shards = shards
        self.clear()

    def clear(self) -> None:
        """Forget all keys."""
        self._table = np.full(1 << 10, -1, np.int64)
        self.hashes = np.zeros(1 << 9, np.uint64)
        self.names: list[bytes] = []
        self.shards: Ints = np.zeros(1 << 9, np.int64)
        self.loaded: Bools = np.zeros(1 << 9, np.bool_)
        self.read_at: Ints = np.zeros(1 << 9, np.int64)
        self.used: Ints = np.zeros(1 << 9, np.int64)
        self.count = 0
        self._free: Ints = np.zeros(0, np.int64)
        self.bytes = 0

    def indices(self, hashes: Hashes, texts: Sequence[str | None]) -> Ints:
        """The index of each key (-1 for null), new ones added."""
        if (self.count + len(hashes)) * 2 > len(self._table):
            self._table = np.full(1 << int(np.ceil(np.log2((self.count + len(hashes)) * 4))), -1, np.int64)
            _rebuild(self._table, self.hashes, self.count)
        if self.count + len(hashes) > len(self.hashes):
            self._grow(self.count + len(hashes))
        out = np.empty(len(hashes), np.int64)
        before = self.count
        self.count, taken, fresh = _lookup(self._table, self.hashes, self.count, hashes, out, self._free)
        if len(fresh):
            self._free = self._free[: len(self._free) - taken]
            self._describe(out[fresh], hashes[fresh], [str(texts[row]) for row in fresh.tolist()], before)
        return out

    def forget(self, indices: Ints) -> None:
        """Give indices free; their keys are unknown again."""
        self.bytes -= sum(len(self.names[index]) for index in indices.tolist()) + 120 * len(indices)
        self.hashes[indices] = 0
        self._free = np.concatenate([self._free, indices])
        self._table.fill(-1)
        _rebuild(self._table, self.hashes, self.count)

    def _describe(self, indices: Ints, hashes: Hashes, texts: list[str], before: int) -> None:
        self.shards[indices] = shard_of(hashes, self._shards)
        self.loaded[indices] = False
        self.read_at[indices] = 0
        self.names.extend([b""] * (self.count - before))
        names = slice_names(self._entity, texts)
        for index, name in zip(indices.tolist(), names, strict=True):
            self.names[index] = name
        self.bytes += sum(map(len, names)) + 120 * len(names)

    def _grow(self, size: int) -> None:
        size = max(size, len(self.hashes) * 2)
        self.hashes = _grown(self.hashes, size)
        self.shards = _grown(self.shards, size)
        self.loaded = _grown(self.loaded, size)
        self.read_at = _grown(self.read_at, size)
        self.used = _grown(self.used, size)


def _grown(array: NDArray[Number], size: int) -> NDArray[Number]:
    grown = np.zeros(size, array.dtype)
    grown[: len(array)] = array
    return grown


def distinct(numbers: Ints) -> Ints:
    """The different numbers, ascending. `np.unique` hashes them, which takes eight times as long as to sort them.

    >>> distinct(np.array([7, 2, 7]))
    array([2, 7])
    """
    ordered = np.sort(numbers)
    first = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return ordered[first]


@compiled
def _rebuild(table: Ints, hashes: Hashes, count: int) -> None:
    mask = np.uint64(len(table) - 1)
    for index in range(count):
        if hashes[index] == 0:
            continue
        probe = hashes[index] & mask
        while table[probe] >= 0:
            probe = (probe + np.uint64(1)) & mask
        table[probe] = index


@compiled
def _lookup(
    table: Ints, hashes: Hashes, count: int, wanted: Hashes, out: Ints, free: Ints
) -> tuple[int, int, Ints]:
    mask = np.uint64(len(table) - 1)
    fresh = np.empty(len(wanted), np.int64)
    new = taken = 0
    for i in range(len(wanted)):
        h = wanted[i]
        if h == 0:
            out[i] = -1
            continue
        probe = h & mask
        while table[probe] >= 0 and hashes[table[probe]] != h:
            probe = (probe + np.uint64(1)) & mask
        if table[probe] < 0:
            if taken < len(free):
                taken += 1
                index = free[len(free) - taken]
            else:
                index = count
                count += 1
            table[probe] = index
            hashes[index] = h
            fresh[new] = i
            new += 1
        out[i] = table[probe]
    return count, taken, fresh[:new]
