"""Two ways in which a plain loop keeps its windows in Redis.

SortedSets is the usual one: a sorted set an entity, scored by time, all three in one pipeline; Redis
holds readable state that several processes may share. PackedStrings is what one writes after
profiling: one string an entity, read with MGET, changed in the client and written back with MSET.
"""

from __future__ import annotations

from typing import Protocol, cast

import redis

from benchmarks.job.spec import HORIZON_MS
from benchmarks.job.windows import Ring


class State(Protocol):
    """Gives the rings of three entities without the current event, and stores the event."""

    def rings(self, keys: list[str], event_id: str, time: int, amount: int) -> list[Ring]:
        """One ring a key, as they were before this event."""
        ...

    def store(self, keys: list[str], rings: list[Ring]) -> None:
        """Write the rings back, where `rings` did not store the event already."""
        ...


class SortedSets:
    """ZRANGE, ZADD and ZREMRANGEBYSCORE for each entity: nine commands in one round trip."""

    def __init__(self, url: str) -> None:
        self.redis = redis.Redis.from_url(url)

    def rings(self, keys: list[str], event_id: str, time: int, amount: int) -> list[Ring]:
        pipeline = self.redis.pipeline(transaction=False)
        member = f"{time}:{amount}:{event_id}"
        for key in keys:
            pipeline.zremrangebyscore(key, "-inf", time - HORIZON_MS)
            pipeline.zrange(key, 0, -1)
            pipeline.zadd(key, {member: time})
        return [self._ring(members) for members in pipeline.execute()[1::3]]

    @staticmethod
    def _ring(members: list[bytes]) -> Ring:
        ring = Ring()
        for member in members:
            time, amount, _ = member.split(b":")
            ring.times.append(int(time))
            ring.amounts.append(int(amount))
        return ring

    def store(self, keys: list[str], rings: list[Ring]) -> None:
        """The event is stored already."""


class PackedStrings:
    """One MGET and one MSET."""

    def __init__(self, url: str) -> None:
        self.redis = redis.Redis.from_url(url)

    def rings(self, keys: list[str], event_id: str, time: int, amount: int) -> list[Ring]:  # noqa: ARG002
        return [Ring(cast(bytes | None, data)) for data in self.redis.mget(keys)]

    def store(self, keys: list[str], rings: list[Ring]) -> None:
        self.redis.mset({key: ring.to_bytes() for key, ring in zip(keys, rings, strict=True)})
