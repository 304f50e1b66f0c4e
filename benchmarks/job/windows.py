"""One entity's recent events as a Python peer keeps them: two packed arrays, read by binary search.

Standard library only. The arrays turn into bytes and back at memory speed, which suits peers that
store state as bytes (Redis, RocksDB, a changelog topic); sums over slices run in C.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from math import sqrt

from benchmarks.job.spec import HORIZON_MS, WINDOWS_MS


class Ring:
    """Times (ms) and amounts (cents) of one entity's events of the last 30 days, in time order."""

    __slots__ = ("amounts", "times")

    def __init__(self, data: bytes | None = None) -> None:
        self.times = array("q")
        self.amounts = array("q")
        if data:
            half = len(data) // 2
            self.times.frombytes(data[:half])
            self.amounts.frombytes(data[half:])

    def to_bytes(self) -> bytes:
        """The state; `Ring(data)` gives it back."""
        return self.times.tobytes() + self.amounts.tobytes()

    def add(self, time: int, amount: int) -> list[int]:
        """Append the current event, forget what no window can reach; gives where each window starts."""
        self.times.append(time)
        self.amounts.append(amount)
        gone = bisect_right(self.times, time - HORIZON_MS)
        if gone:
            del self.times[:gone]
            del self.amounts[:gone]
        return [bisect_right(self.times, time - length) for length in WINDOWS_MS]


def card_features(ring: Ring, time: int, amount: int) -> list[float]:
    """count, mean and max for each window."""
    starts = ring.add(time, amount)
    parts = [ring.amounts[start:] for start in starts]
    return [
        *map(len, parts),
        *(sum(part) / len(part) for part in parts),
        *map(max, parts),
    ]


def customer_features(ring: Ring, time: int, amount: int) -> list[float]:
    """count and sample standard deviation (0 for one event) for each window."""
    starts = ring.add(time, amount)
    parts = [ring.amounts[start:] for start in starts]
    return [*map(len, parts), *map(_std, parts)]


def merchant_features(ring: Ring, time: int, amount: int) -> list[float]:
    """mean for each window."""
    starts = ring.add(time, amount)
    parts = [ring.amounts[start:] for start in starts]
    return [sum(part) / len(part) for part in parts]


def _std(part: array[int]) -> float:
    count = len(part)
    if count < 2:
        return 0.0
    total = sum(part)
    squares = sum([amount * amount for amount in part])
    return sqrt((squares - total * total / count) / (count - 1))
