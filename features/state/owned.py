"""What a worker knows of a partition that it owns, and the limits that state is kept within."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from features.core.batch import Bools, Ints


@dataclass(frozen=True, kw_only=True)
class StateSettings:
    """Limits. Times in milliseconds.

    `stage_ms` is how long touched rows may stay in the cache before they are encoded, once for all batches that
    touched them meanwhile, a few shards at a time so that no batch waits long. `idle_probe_ms` is how often an idle
    shard is asked whether it lost writes (PROTOCOL 3.1); `foreign_refresh_ms` how often other owners' slices are
    read again.
    """

    memory_limit: int = 1 << 30
    pending_limit: int = 64 << 20
    stage_ms: int = 0
    empty_flush_ms: int = 1_500
    idle_probe_ms: int = 30_000
    foreign_refresh_ms: int = 1_000
    foreign_max_age_ms: int = 5_000


@dataclass(frozen=True, slots=True)
class Position:
    """What Kafka says of an owned partition: its committed offset, and where the group began (PROTOCOL 5.3)."""

    committed: int
    origin: int


@dataclass(slots=True)
class Owned:
    """A partition that this worker owns. `cursor` is the next event to fold; below C it replays.

    Every row of a shard as of `staged` is pending or in Redis: so far its mark may be raised (PROTOCOL 3.1). Rows
    with a stamp up to `acknowledged` are not pending, while `base` may have been raised by another worker's flush.
    """

    committed: int
    origin: int
    cursor: int
    staged: Ints
    base: Ints
    acknowledged: Ints = field(init=False)
    flushed_at: Ints = field(init=False)

    def __post_init__(self) -> None:
        self.acknowledged = self.base.copy()
        self.flushed_at = np.zeros_like(self.base)

    @property
    def replays(self) -> bool:
        """Whether events below C are still to be folded again."""
        return self.cursor < self.committed

    def came_to(self, shard: int, mark: int) -> None:
        """The store holds every row of a shard up to here (PROTOCOL 4.3); a base never falls."""
        self.base[shard] = max(int(self.base[shard]), mark)

    def stage(self, shards: Bools) -> None:
        """Rows of these shards are encoded as of now."""
        self.staged[shards] = np.maximum(self.staged[shards], min(self.cursor, self.committed))

    def due(self, now_ms: int, empty_ms: int, idle_ms: int) -> tuple[list[int], list[int]]:
        """Shards to flush now whatever they hold, and those that are behind and due only where rows are pending.

        A shard behind C is flushed even without rows after `empty_ms`, and asked for losses after `idle_ms` at rest.
        """
        behind = self.base < self.staged
        age = now_ms - self.flushed_at
        empty = behind & (age >= empty_ms)
        idle = (self.base == self.staged) & (age >= idle_ms)
        return np.flatnonzero(empty | idle).tolist(), np.flatnonzero(behind & ~empty).tolist()
