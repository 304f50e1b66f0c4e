"""Where each assigned partition is consumed from: Kafka's committed offsets against the marks of state (PROTOCOL 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from confluent_kafka import TopicPartition

from features.core.errors import FatalError
from features.state.cold_reads import NotOurs
from features.state.owned import Position
from features.state.slices import SliceState
from features.store.base import Partition, StoreUnavailable
from stream.codecs.messages import PartitionId
from stream.kafka.client.consumer import InputConsumer, Reached

_TIMEOUT = 10.0
_ORIGIN = "origin="


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

    def in_state(self, partition: PartitionId) -> Partition:
        """The name of a partition in state: by source, so that a topic may be renamed in another namespace."""
        return Partition(self._sources[partition[0]], partition[1])

    def recover(self, partitions: Sequence[PartitionId]) -> dict[PartitionId, int]:
        """Drop everything, read C and the marks; returns where to consume each partition from.

        NotOurs while another owner is at work: the group will say so. FatalError where the log or the group's offsets
        do not fit what is stored.
        """
        try:
            starts = self._state.recover(self._read(partitions))
        except NotOurs as error:
            starts = self._once_more(partitions, error)
        out = {partition: starts[self.in_state(partition)] for partition in partitions}
        for partition, start in out.items():
            self._check_log(partition, start, self._state.owned[self.in_state(partition)].committed)
        return out

    def recover_blind(self, partitions: Sequence[PartitionId]) -> dict[PartitionId, int]:
        """Where to go on while Redis is away and policy says so (PROTOCOL 5.7): at C, without state."""
        answers = self._consumer.committed(partitions, _TIMEOUT)
        known = {
            self.in_state(partition): Position(answer.offset, _origin(answer))
            for partition, answer in answers.items()
        }
        if any(position.committed < 0 for position in known.values()):
            raise StoreUnavailable("redis is needed once, where a group begins")
        starts = self._state.recover_blind(known)
        return {partition: starts[self.in_state(partition)] for partition in partitions}

    def _once_more(self, partitions: Sequence[PartitionId], before: NotOurs) -> dict[Partition, int]:
        """Another owner may have committed and flushed between our two questions: then C has come up to that mark."""
        positions = self._read(partitions)
        if positions[before.partition].committed < before.mark:
            raise FatalError(
                f"{before}: its offsets were rewound, or two groups share redis.namespace. "
                "Fix: give the group its own namespace, or `riskstream state drop`; state is rebuilt from the log."
            ) from before
        return self._state.recover(positions)

    def _read(self, partitions: Sequence[PartitionId]) -> dict[Partition, Position]:
        out: dict[Partition, Position] = {}
        begun: list[TopicPartition] = []
        for partition, answer in self._consumer.committed(partitions, _TIMEOUT).items():
            if answer.offset >= 0:
                out[self.in_state(partition)] = Position(answer.offset, _origin(answer))
            else:
                origin = self._begin(partition)
                begun.append(TopicPartition(*partition, origin, metadata=f"{_ORIGIN}{origin}"))
                out[self.in_state(partition)] = Position(origin, origin)
        if begun:
            self._consumer.commit(begun)
        return out

    def _begin(self, partition: PartitionId) -> int:
        if self._state.marked(self.in_state(partition)):
            raise FatalError(
                f"{partition[0]}[{partition[1]}]: state exists, but the group has no committed offset: it was deleted "
                "or expired. Fix: set the group's offset (kafka-consumer-groups --reset-offsets) to where it was, or "
                "`riskstream state drop` to start anew."
            )
        low, high = self._consumer.log_range(partition, _TIMEOUT)
        return low if self._start == "earliest" else high

    def _check_log(self, partition: PartitionId, start: int, committed: int) -> None:
        low, high = self._consumer.log_range(partition, _TIMEOUT)
        name = f"{partition[0]}[{partition[1]}]"
        if start < low:
            raise log_too_short(name, start, low)
        if committed > high:
            raise FatalError(
                f"{name}: {committed} was committed, but the log ends at {high}: it was truncated or the topic "
                "recreated. Fix: use a new redis.namespace and kafka.group_id."
            )

    def offsets(self, reached: Mapping[PartitionId, Reached]) -> list[TopicPartition]:
        """What a unit of work commits (PROTOCOL 2.3, 5.3)."""
        offsets = []
        for partition, after in reached.items():
            note = f"{_ORIGIN}{self._state.owned[self.in_state(partition)].origin}"
            offsets.append(
                TopicPartition(*partition, after.offset, metadata=note, leader_epoch=after.leader_epoch)
            )
        return offsets


def log_too_short(name: str, start: int, begins: int) -> FatalError:
    """The log of a partition no longer holds what its state must be rebuilt from (PROTOCOL 5.4)."""
    return FatalError(
        f"{name}: state must be rebuilt from offset {start}, but the log begins at {begins}: retention was too "
        "short. Fix: `riskstream state rebuild --accept-loss` to go on without those events."
    )


def _origin(committed: TopicPartition) -> int:
    """Where the group began; an offset set by another tool carries no note of it, so it begins there."""
    text = committed.metadata or ""
    if text.startswith(_ORIGIN) and text.removeprefix(_ORIGIN).isdigit():
        return int(text.removeprefix(_ORIGIN))
    return int(committed.offset)
