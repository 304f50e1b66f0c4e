"""Which partitions are ours, and where each must be consumed from (PROTOCOL 5).

The callbacks run inside `consume`: a revocation first lets the running unit of work end, then everything of
the revoked partitions is dropped. An assignment only notes itself; the worker recovers outside of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from confluent_kafka import TopicPartition

from features.core.errors import FatalError
from features.state.slices import NotOurs, Position, SliceState
from features.store.base import Partition, StoreUnavailable
from stream.kafka.client.consumer import InputConsumer, Place
from stream.telemetry.logs import logger

_TIMEOUT = 10.0
_ORIGIN = "origin="
_log = logger("rebalance")


class Assignment:
    """The group's verdict: `places` are ours; `fresh` until the worker has recovered them.

    `lose` is called with "revoked" or "lost" before partitions go: it ends or aborts the unit of work and drops
    all state.
    """

    def __init__(
        self,
        consumer: InputConsumer,
        topics: Sequence[str],
        lose: Callable[[Literal["revoked", "lost"]], None],
    ) -> None:
        self._consumer = consumer
        self._lose = lose
        self.places: list[Place] = []
        self.fresh = False
        consumer.client.subscribe(
            list(topics), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )

    def _assigned(self, client: Any, partitions: list[TopicPartition]) -> None:
        self._consumer.rebalances += 1
        self.places = [(one.topic, one.partition) for one in partitions]
        self.fresh = True
        client.assign([])
        _log.info("assigned", partitions=[f"{topic}[{number}]" for topic, number in self.places])

    def _revoked(self, client: Any, partitions: list[TopicPartition]) -> None:
        self._forget(client, "revoked", len(partitions))

    def _lost(self, client: Any, partitions: list[TopicPartition]) -> None:
        self._forget(client, "lost", len(partitions))

    def _forget(self, client: Any, kind: Literal["revoked", "lost"], count: int) -> None:
        self._consumer.rebalances += 1
        _log.info(kind, partitions=count)
        try:
            self._lose(kind)
        finally:
            self.places = []
            self.fresh = False
            client.unassign()


class Positions:
    """Asks Kafka for the truth about owned partitions (PROTOCOL 5.3), and state for where to begin (5.4)."""

    def __init__(
        self,
        consumer: InputConsumer,
        state: SliceState,
        sources: Mapping[str, str],
        start: Literal["earliest", "latest"],
    ) -> None:
        self._consumer = consumer
        self._state = state
        self._sources = sources
        self._start = start

    def partition(self, place: Place) -> Partition:
        """The name of a place in state: by source, so that a topic may be renamed in another namespace."""
        return Partition(self._sources[place[0]], place[1])

    def recover(self, places: Sequence[Place]) -> dict[Place, int]:
        """Drop everything, read C and the marks; returns where to consume each partition from.

        NotOurs while another owner is at work: the group will say so. FatalError where the log or the group's offsets
        do not fit what is stored.
        """
        try:
            starts = self._state.recover(self._read(places))
        except NotOurs as error:
            starts = self._once_more(places, error)
        out = {place: starts[self.partition(place)] for place in places}
        for place, start in out.items():
            self._check_log(place, start, self._state.owned[self.partition(place)].committed)
        return out

    def recover_blind(self, places: Sequence[Place]) -> dict[Place, int]:
        """Where to go on while Redis is away and policy says so (PROTOCOL 5.7): at C, without state."""
        found = self._consumer.committed(places, _TIMEOUT)
        known = {self.partition(place): Position(one.offset, _origin(one)) for place, one in found.items()}
        if any(one.committed < 0 for one in known.values()):
            raise StoreUnavailable("redis is needed once, where a group begins")
        starts = self._state.recover_blind(known)
        return {place: starts[self.partition(place)] for place in places}

    def _once_more(self, places: Sequence[Place], before: NotOurs) -> dict[Partition, int]:
        """Another owner may have committed and flushed between our two questions: then C has come up to that mark."""
        positions = self._read(places)
        if positions[before.partition].committed < before.mark:
            raise FatalError(
                f"{before}: its offsets were rewound, or two groups share redis.namespace. "
                "Fix: give the group its own namespace, or `riskstream state drop`; state is rebuilt from the log."
            ) from before
        return self._state.recover(positions)

    def _read(self, places: Sequence[Place]) -> dict[Partition, Position]:
        found = self._consumer.committed(places, _TIMEOUT)
        out: dict[Partition, Position] = {}
        begun: list[TopicPartition] = []
        for place, one in found.items():
            if one.offset >= 0:
                out[self.partition(place)] = Position(one.offset, _origin(one))
            else:
                origin = self._begin(place)
                begun.append(TopicPartition(*place, origin, metadata=f"{_ORIGIN}{origin}"))
                out[self.partition(place)] = Position(origin, origin)
        if begun:
            self._consumer.commit(begun)
        return out

    def _begin(self, place: Place) -> int:
        if self._state.marked(self.partition(place)):
            raise FatalError(
                f"{place[0]}[{place[1]}]: state exists, but the group has no committed offset: it was deleted or "
                "expired. Fix: set the group's offset (kafka-consumer-groups --reset-offsets) to where it was, or "
                "`riskstream state drop` to start anew."
            )
        low, high = self._consumer.log_range(place, _TIMEOUT)
        return low if self._start == "earliest" else high

    def _check_log(self, place: Place, start: int, committed: int) -> None:
        low, high = self._consumer.log_range(place, _TIMEOUT)
        name = f"{place[0]}[{place[1]}]"
        if start < low:
            raise log_too_short(name, start, low)
        if committed > high:
            raise FatalError(
                f"{name}: {committed} was committed, but the log ends at {high}: it was truncated or the topic "
                "recreated. Fix: use a new redis.namespace and kafka.group_id."
            )

    def offsets(self, reached: Mapping[Place, tuple[int, int]]) -> list[TopicPartition]:
        """What a unit of work commits: `reached` holds offset and leader epoch (PROTOCOL 2.3, 5.3)."""
        out = []
        for place, (offset, epoch) in reached.items():
            origin = self._state.owned[self.partition(place)].origin
            out.append(TopicPartition(*place, offset, metadata=f"{_ORIGIN}{origin}", leader_epoch=epoch))
        return out


def log_too_short(name: str, start: int, begins: int) -> FatalError:
    """The log of a partition no longer holds what its state must be rebuilt from (PROTOCOL 5.4)."""
    return FatalError(
        f"{name}: state must be rebuilt from offset {start}, but the log begins at {begins}: retention was too "
        "short. Fix: `riskstream state rebuild --accept-loss` to go on without those events."
    )


def _origin(one: TopicPartition) -> int:
    """Where the group began; an offset set by another tool carries no note of it, so it begins there."""
    text = one.metadata or ""
    if text.startswith(_ORIGIN) and text.removeprefix(_ORIGIN).isdigit():
        return int(text.removeprefix(_ORIGIN))
    return int(one.offset)
