"""The group consumer: batches of raw messages by topic, with everything the protocol asks of it.

PROTOCOL numbers are those of docs/concepts/protocol/rules.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from features.core.errors import FatalError, RetriableError
from stream.codecs.messages import PartitionId, RawBatch
from stream.kafka.client import clients
from stream.kafka.client.errors import PASSING, kafka_error, sort
from stream.kafka.client.messages import append, runs_by_partition
from stream.settings.tables import Kafka
from stream.telemetry.logs import logger

Place = PartitionId

_log = logger("consumer")


@dataclass(frozen=True, slots=True)
class Reached:
    """The next offset to consume after a message, and the leader epoch of that message."""

    offset: int
    leader_epoch: int


@dataclass(slots=True)
class Fetched:
    """What one or several calls of `consume` returned; `rebalanced`: throw it away (PROTOCOL 2.1)."""

    raw: dict[str, RawBatch] = field(default_factory=dict)
    reached: dict[Place, Reached] = field(default_factory=dict)
    ends: dict[Place, int] = field(default_factory=dict)
    past_limit: set[Place] = field(default_factory=set)
    rebalanced: bool = False
    count: int = 0


class InputConsumer:
    """Consumes from given offsets; never lets librdkafka choose one."""

    def __init__(self, kafka: Kafka) -> None:
        self.client = clients.consumer(kafka, "group", self._answered)
        self._cursors: dict[Place, int] = {}
        self._asked: tuple[set[tuple[str, int, int]], Future[None]] | None = None
        self.rebalances = 0

    def start_at(self, offsets: Mapping[Place, int]) -> None:
        """Consume these partitions from these offsets, and nothing else."""
        self._cursors = dict(offsets)
        partitions = [TopicPartition(*place, offset) for place, offset in offsets.items()]
        try:
            self.client.assign(partitions)
            self.client.resume(partitions)  # a pause outlives the assignment that it was made in
        except KafkaException as error:
            raise sort(error, "assigning partitions") from error

    def pause(self, places: Iterable[Place]) -> None:
        """Stop fetching some partitions until the next `start_at`."""
        self.client.pause([TopicPartition(*place) for place in places])

    def resume(self, places: Iterable[Place]) -> None:
        """Fetch paused partitions again."""
        self.client.resume([TopicPartition(*place) for place in places])

    def cursor(self, place: Place) -> int:
        """The next offset to consume."""
        return self._cursors.get(place, 0)

    def fetch(
        self,
        most: int,
        timeout: float,
        into: Fetched | None = None,
        limits: Mapping[Place, int] | None = None,
    ) -> Fetched:
        """Up to `most` messages, added to `into`. Messages at or above a partition's limit are left out."""
        out = Fetched() if into is None else into
        before = self.rebalances
        try:
            messages = self.client.consume(most, timeout)
        except KafkaException as error:
            raise sort(error, "consuming") from error
        if self.rebalances != before:
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
        place = f"{message.topic()}[{message.partition()}]"
        if error.code() in PASSING:
            _log.warning("kafka", error=error.str())
        elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise FatalError(
                f"{place}: the log no longer holds what must be consumed next: {error.str()}. "
                "Retention was too short, or the topic was recreated; see docs/concepts/failure-scenarios.md"
            )
        else:
            raise sort(error, f"consuming {place}")

    def _add(self, messages: list[Any], out: Fetched, limits: Mapping[Place, int] | None) -> None:
        for place, run in runs_by_partition(messages):
            if limits is not None or run[0].offset() < self._cursors.get(place, 0):
                kept = [message for message in run if self._wanted(message, out, limits)]
            else:
                kept = run
            self._cursors[place] = max(self._cursors.get(place, 0), run[-1].offset() + 1)
            if kept:
                append(out.raw.setdefault(place[0], RawBatch(place[0])), kept)
                epoch = kept[-1].leader_epoch()
                out.reached[place] = Reached(kept[-1].offset() + 1, -1 if epoch is None else epoch)
                out.count += len(kept)

    def _wanted(self, message: Any, out: Fetched, limits: Mapping[Place, int] | None) -> bool:
        place = (message.topic(), message.partition())
        offset = message.offset()
        if offset < self._cursors.get(place, 0):
            return False
        if limits is not None and offset >= limits.get(place, 0):
            out.past_limit.add(place)
            return False
        return True

    def metadata(self) -> Any:
        """Group metadata, to be kept with the batch just consumed (PROTOCOL 2.1)."""
        return self.client.consumer_group_metadata()

    def lag(self) -> dict[Place, int]:
        """Events not yet consumed, as far as the client knows."""
        out: dict[Place, int] = {}
        for place, cursor in self._cursors.items():
            _, high = self.client.get_watermark_offsets(TopicPartition(*place), cached=True)
            if high >= 0:
                out[place] = max(0, high - cursor)
        return out

    def log_range(self, place: Place, timeout: float) -> tuple[int, int]:
        """First offset and end of a partition's log."""
        try:
            low, high = self.client.get_watermark_offsets(TopicPartition(*place), timeout)
        except KafkaException as error:
            raise sort(error, f"asking for the range of {place[0]}[{place[1]}]") from error
        return low, high

    def committed(self, places: Iterable[Place], timeout: float) -> dict[Place, TopicPartition]:
        """Committed offsets; RetriableError while any is not known (PROTOCOL 5.3)."""
        asked = [TopicPartition(*place) for place in places]
        try:
            found = self.client.committed(asked, timeout)
        except KafkaException as error:
            raise sort(error, "asking for committed offsets") from error
        for one in found:
            if one.error is not None:
                raise RetriableError(f"committed offset of {one.topic}[{one.partition}]: {one.error.str()}")
        return {(one.topic, one.partition): one for one in found}

    def commit(self, offsets: list[TopicPartition]) -> None:
        """Commit outside of a transaction, and wait for the answer."""
        try:
            answers = self.client.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            raise sort(error, "committing offsets") from error
        for one in answers or []:
            if one.error is not None:
                raise sort(kafka_error(one.error), "committing offsets")

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
        wrong = [error, *(one.error for one in offsets)]
        failure = next((one for one in wrong if one is not None), None)
        if failure is None:
            asked[1].set_result(None)
        else:
            asked[1].set_exception(sort(kafka_error(failure), "committing offsets"))

    def close(self) -> None:
        """Leave the group; rebalance callbacks may run."""
        self.client.close()


def _named(offsets: list[TopicPartition]) -> set[tuple[str, int, int]]:
    return {(one.topic, one.partition, one.offset) for one in offsets}
