"""Which shards are staged for the store now: one after another, each once an interval."""

from __future__ import annotations

import numpy as np

from features.core.batch import Bools


class FlushSchedule:
    """Spreads the work of an interval over it, so that no caller does all of it at once.

    A first call says all shards; an interval of 0 always does.
    """

    def __init__(self, shards: int, interval_ms: int) -> None:
        self.all: Bools = np.ones(shards, np.bool_)
        self._interval = interval_ms
        self._last: int | None = None
        self._next = 0

    def due(self, now_ms: int) -> Bools:
        """A mark for each shard whose turn has come since the last call."""
        shards = len(self.all)
        if self._last is None or now_ms - self._last >= self._interval:
            self._last = now_ms
            return self.all
        count = (now_ms - self._last) * shards // self._interval
        self._last += count * self._interval // shards
        due: Bools = np.zeros(shards, np.bool_)
        due[(self._next + np.arange(count)) % shards] = True
        self._next = (self._next + count) % shards
        return due
