"""The group consumer: batches of raw messages by topic, with everything the protocol asks of it.

PROTOCOL numbers are those of docs/concepts/protocol/rules.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from features.core.errors import FatalError, RetriableError
from stream.codecs.messages import PartitionId, RawBatch
from stream.kafka.client import clients
from stream.kafka.client.errors import PASSING, kafka_error, sort
from stream.kafka.client.messages import append, runs_by_partition
from stream.settings.tables import Kafka
from stream.telemetry.logs import logger
from stream.telemetry.seldom import Seldom

Leaving = Literal["revoked", "lost"]
"""Why partitions go: the group takes them, or has given them to others already."""

_log = logger("consumer")
_rebalance_log = logger("rebalance")


@dataclass(frozen=True, slots=True)
class Reached:
    """The next offset to consume after a message, and the leader epoch of that message."""

    offset: int
    leader_epoch: int


@dataclass(slots=True)
class Fetched:
    """What one or several calls of `consume` returned; `rebalanced`: throw it away (PROTOCOL 2.1)."""

    raw: dict[str, RawBatch] = field(default_factory=dict)
    reached: dict[PartitionId, Reached] = field(default_factory=dict)
    ends: dict[PartitionId, int] = field(default_factory=dict)
    past_limit: set[PartitionId] = field(default_factory=set)
    rebalanced: bool = False
    count: int = 0


class InputConsumer:
    """Consumes from given offsets; never lets librdkafka choose one."""

    def __init__(self, kafka: Kafka) -> None:
        self.client = clients.consumer(kafka, "group", self._answered)
        self._cursors: dict[PartitionId, int] = {}
        self._asked: tuple[set[tuple[str, int, int]], Future[None]] | None = None
        self._rebalances = 0
        self._paused: set[PartitionId] = set()
        self._warnings = Seldom(_log)

    def subscribe(
        self,
        topics: Iterable[str],
        assigned: Callable[[list[PartitionId]], None],
        leaving: Callable[[Leaving], None],
    ) -> None:
        """Join the group. Both callbacks run inside `fetch` and `close`, in the thread that calls them.

        `assigned` is given the partitions that are ours from now on: none is consumed before `start_at`. `leaving` is
        called before all of them go: on "revoked" they are ours until it returns, on "lost" they are others' already.
        """
        self._assigned, self._leaving = assigned, leaving
        self.client.subscribe(
            list(topics),
            on_assign=self._on_assign,
            on_revoke=lambda client, partitions: self._on_leave("revoked", client, len(partitions)),
            on_lost=lambda client, partitions: self._on_leave("lost", client, len(partitions)),
        )

    def _on_assign(self, client: Any, partitions: list[TopicPartition]) -> None:
        self._rebalances += 1
        owned = [(partition.topic, partition.partition) for partition in partitions]
        self._assigned(owned)
        client.assign([])
        _rebalance_log.info("assigned", partitions=[f"{topic}[{number}]" for topic, number in owned])

    def _on_leave(self, kind: Leaving, client: Any, count: int) -> None:
        self._rebalances += 1
        _rebalance_log.info(kind, partitions=count)
        try:
            self._leaving(kind)
        finally:
            client.unassign()

    def start_at(self, offsets: Mapping[PartitionId, int]) -> None:
        """Consume these partitions from these offsets, and nothing else."""
        self._cursors = dict(offsets)
        self._paused = set()
        starts = [TopicPartition(*partition, offset) for partition, offset in offsets.items()]
        try:
            self.client.assign(starts)
            self.client.resume(starts)  # a pause outlives the assignment that it was made in
        except KafkaException as error:
            raise sort(error, "assigning partitions") from error

    def pause(self, partitions: Iterable[PartitionId]) -> None:
        """Stop fetching some partitions until `resume`, or the next `start_at`."""
        self._paused.update(partitions)
        self.client.pause([TopicPartition(*partition) for partition in partitions])

    def resume(self, partitions: Iterable[PartitionId]) -> None:
        """Fetch paused partitions again."""
        self._paused.difference_update(partitions)
        self.client.resume([TopicPartition(*partition) for partition in partitions])

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside, nothing new is fetched, but polling goes on, so that the group keeps us; memory stays as it is."""
        before = self._rebalances
        partitions = [partition for partition in self._cursors if partition not in self._paused]
        self.client.pause([TopicPartition(*partition) for partition in partitions])
        try:
            yield
        finally:
            if self._rebalances == before:  # else they are not assigned any more, and `start_at` follows
                self.client.resume([TopicPartition(*partition) for partition in partitions])

    def cursor(self, partition: PartitionId) -> int:
        """The next offset to consume."""
        return self._cursors.get(partition, 0)

    def fetch(
        self,
        most: int,
        timeout: float,
        into: Fetched | None = None,
        limits: Mapping[PartitionId, int] | None = None,
    ) -> Fetched:
        """Up to `most` messages, added to `into`. Messages at or above a partition's limit are left out."""
        out = Fetched() if into is None else into
        before = self._rebalances
        try:
            messages = self.client.consume(most, timeout)
        except KafkaException as error:
            raise sort(error, "consuming") from error
        if self._rebalances != before:
            out.rebalanced = True
            return out
        good: list[Any] = [message for message in messages if message.error() is None]
        if len(good) != len(messages):
            self._note_events(messages, out)
        if good:
            self._add(good, out, limits)
        return out

    def _note_events(self, messages: list[Any], out: Fetched) -> None:
        for message in messages:
            error = message.error()
            if error is None:
                continue
            if error.code() == KafkaError._PARTITION_EOF:
                out.ends[message.topic(), message.partition()] = message.offset()
            else:
                self._note_error(message, error)

    def _note_error(self, message: Any, error: KafkaError) -> None:
        name = f"{message.topic()}[{message.partition()}]"
        if error.code() in PASSING:
            self._warnings.warning("kafka", error.code(), error=error.str())
        elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise FatalError(
                f"{name}: the log no longer holds what must be consumed next: {error.str()}. "
                "Retention was too short, or the topic was recreated; see docs/concepts/failure-scenarios.md"
            )
        else:
            raise sort(error, f"consuming {name}")

    def _add(self, messages: list[Any], out: Fetched, limits: Mapping[PartitionId, int] | None) -> None:
        for partition, run in runs_by_partition(messages):
            if limits is not None or run[0].offset() < self._cursors.get(partition, 0):
                wanted = [message for message in run if self._wanted(message, out, limits)]
            else:
                wanted = run
            self._cursors[partition] = max(self._cursors.get(partition, 0), run[-1].offset() + 1)
            if wanted:
                append(out.raw.setdefault(partition[0], RawBatch(partition[0])), wanted)
                epoch = wanted[-1].leader_epoch()
                out.reached[partition] = Reached(wanted[-1].offset() + 1, -1 if epoch is None else epoch)
                out.count += len(wanted)

    def _wanted(self, message: Any, out: Fetched, limits: Mapping[PartitionId, int] | None) -> bool:
        partition = (message.topic(), message.partition())
        offset = message.offset()
        if offset < self._cursors.get(partition, 0):
            return False
        if limits is not None and offset >= limits.get(partition, 0):
            out.past_limit.add(partition)
            return False
        return True

    def metadata(self) -> Any:
        """Group metadata, to be kept with the batch just consumed (PROTOCOL 2.1)."""
        return self.client.consumer_group_metadata()

    def lag(self) -> dict[PartitionId, int]:
        """Events not yet consumed, as far as the client knows."""
        out: dict[PartitionId, int] = {}
        for partition, cursor in self._cursors.items():
            _, high = self.client.get_watermark_offsets(TopicPartition(*partition), cached=True)
            if high >= 0:
                out[partition] = max(0, high - cursor)
        return out

    def log_range(self, partition: PartitionId, timeout: float) -> tuple[int, int]:
        """First offset and end of a partition's log."""
        try:
            low, high = self.client.get_watermark_offsets(TopicPartition(*partition), timeout)
        except KafkaException as error:
            raise sort(error, f"asking for the range of {partition[0]}[{partition[1]}]") from error
        return low, high

    def committed(
        self, partitions: Iterable[PartitionId], timeout: float
    ) -> dict[PartitionId, TopicPartition]:
        """Committed offsets; RetriableError while any is not known (PROTOCOL 5.3)."""
        asked = [TopicPartition(*partition) for partition in partitions]
        try:
            answers = self.client.committed(asked, timeout)
        except KafkaException as error:
            raise sort(error, "asking for committed offsets") from error
        for answer in answers:
            if answer.error is not None:
                name = f"{answer.topic}[{answer.partition}]"
                raise RetriableError(f"committed offset of {name}: {answer.error.str()}")
        return {(answer.topic, answer.partition): answer for answer in answers}

    def commit(self, offsets: list[TopicPartition]) -> None:
        """Commit outside of a transaction, and wait for the answer."""
        try:
            answers = self.client.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            raise sort(error, "committing offsets") from error
        for answer in answers or []:
            if answer.error is not None:
                raise sort(kafka_error(answer.error), "committing offsets")

    def commit_soon(self, offsets: list[TopicPartition]) -> Future[None]:
        """Begin to commit outside of a transaction; the answer comes while `fetch` runs. One at a time."""
        answer: Future[None] = Future()
        self._asked = _named(offsets), answer
        try:
            self.client.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            raise sort(error, "committing offsets") from error
        return answer

    def _answered(self, error: KafkaError | None, offsets: list[TopicPartition]) -> None:
        asked = self._asked
        if asked is None or asked[0] != _named(offsets):  # one that was given up
            return
        self._asked = None
        errors = [error, *(answer.error for answer in offsets)]
        failure = next((error for error in errors if error is not None), None)
        if failure is None:
            asked[1].set_result(None)
        else:
            asked[1].set_exception(sort(kafka_error(failure), "committing offsets"))

    def close(self) -> None:
        """Leave the group; rebalance callbacks may run."""
        self.client.close()


def _named(offsets: list[TopicPartition]) -> set[tuple[str, int, int]]:
    return {(offset.topic, offset.partition, offset.offset) for offset in offsets}
