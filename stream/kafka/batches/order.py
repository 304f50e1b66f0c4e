"""Puts events of several partitions into scoring order across batches: by event time, as far as the log allows.

Partitions are consumed at different speeds. An event waits here until no partition that has more to give can still
hold an earlier one; so the scoring order is a function of the log, not of timing. A partition at its end is waited
for at most `order_wait_ms` (default 0): live, silence of one partition delays nobody. One that runs far ahead is
paused. What waits here is not folded and not committed; a rebalance forgets it and it is consumed again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from heapq import nsmallest

import numpy as np

from features.core.batch import Bools, MicroBatch, SourceBatch
from features.offline.order import arrange, reached
from features.offline.reader import concatenated
from stream.codecs.contracts import DeadLetter
from stream.codecs.messages import PartitionId
from stream.kafka.client.consumer import Fetched, InputConsumer, Reached

_AHEAD = 4
_UNKNOWN = np.iinfo(np.int64).min

_Rank = tuple[bool, str, int]
"""What decides between events of one time (features/offline/order.py): scored, topic, partition."""


@dataclass(slots=True)
class _Partition:
    """How far one partition has come; times are event times.

    newest        of all events put here
    settled       of all events handed on; a late event takes its place in the order after that
    reached       the next offset to consume; None while all that was consumed has been handed on
    end           where the log ended when the consumer last met its end
    silent_since  when it was first seen at its end with nothing more to give
    paused        not fetched, because much of it waits here
    """

    newest: int = _UNKNOWN
    settled: int = _UNKNOWN
    reached: Reached | None = None
    end: int = -1
    silent_since: float | None = None
    paused: bool = False


class Sequencer:
    """Holds decoded events back; called by the thread that consumes."""

    def __init__(
        self,
        consumer: InputConsumer,
        *,
        wait_ms: int,
        batch_size: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._consumer = consumer
        self._wait = wait_ms / 1000
        self._batch_size = batch_size
        self._most = _AHEAD * batch_size
        self._clock = clock
        self.clear(())

    def clear(self, partitions: Iterable[PartitionId]) -> None:
        """Forget what is held; from now on these partitions are consumed."""
        self._held: dict[str, SourceBatch] = {}
        self._letters: list[DeadLetter] = []
        self._scored: dict[str, bool] = {}
        self._partitions = {partition: _Partition() for partition in partitions}

    @property
    def holds(self) -> bool:
        """Whether any event or dead letter waits."""
        return bool(self._held) or bool(self._letters)

    def put(self, batches: Iterable[SourceBatch], letters: Iterable[DeadLetter], fetched: Fetched) -> None:
        """Take what was just decoded."""
        self._letters += letters
        for partition, end in fetched.ends.items():
            self._known(partition).end = end
        for partition, after in fetched.reached.items():
            self._known(partition).reached = after
        for batch in batches:
            if not len(batch):
                continue
            self._scored[batch.source.topic] = batch.source.scored
            for partition, newest in _newest(batch):
                known = self._known(partition)
                known.newest = max(known.newest, newest)
            held = self._held.get(batch.source.name)
            self._held[batch.source.name] = batch if held is None else concatenated([held, batch])

    def _known(self, partition: PartitionId) -> _Partition:
        return self._partitions.setdefault(partition, _Partition())

    def take(self) -> tuple[MicroBatch, list[DeadLetter], dict[PartitionId, Reached]]:
        """Events whose order is settled, the dead letters among them, and how far each partition may be committed."""
        ready, waiting = self._split()
        self._held = {batch.source.name: batch for batch in waiting}
        upto = self._handed_on()
        letters = [letter for letter in self._letters if letter.offset < upto[_of(letter)].offset]
        if letters:
            self._letters = [letter for letter in self._letters if letter.offset >= upto[_of(letter)].offset]
        self._throttle()
        batch = arrange(ready, self._settled())
        for of_source in batch.source_batches:
            for partition, newest in _newest(of_source):
                known = self._known(partition)
                known.settled = max(known.settled, newest)
        return batch, letters, upto

    def _handed_on(self) -> dict[PartitionId, Reached]:
        """Where each partition may be committed: at its first event that still waits, or where it was consumed to."""
        first = self._first_held()
        upto: dict[PartitionId, Reached] = {}
        for partition, known in self._partitions.items():
            if known.reached is None:
                continue
            offset = min(known.reached.offset, first.get(partition, known.reached.offset))
            upto[partition] = Reached(offset, known.reached.leader_epoch)
            if offset == known.reached.offset:
                known.reached = None
        return upto

    def _settled(self) -> dict[PartitionId, int]:
        return {
            partition: known.settled
            for partition, known in self._partitions.items()
            if known.settled != _UNKNOWN
        }

    def _at_most(self, settled: Mapping[PartitionId, int]) -> int | None:
        """A time that lets about a batch through; events of one time stay together."""
        if sum(map(len, self._held.values())) <= self._batch_size:
            return None
        times = np.concatenate([reached(batch, settled) for batch in self._held.values()])
        return int(np.partition(times, self._batch_size - 1)[self._batch_size - 1]) + 1

    def _waited(self) -> list[tuple[int, _Rank]]:
        """The two partitions that come next, of those that are waited for: newest time and rank of each."""
        if len(self._partitions) <= 1:
            return []
        lag = self._consumer.lag()
        now = self._clock()
        waited = [
            (known.newest, self._rank(partition))
            for partition, known in self._partitions.items()
            if self._waits_for(partition, known, lag, now)
        ]
        return nsmallest(2, waited)

    def _rank(self, partition: PartitionId) -> _Rank:
        return self._scored.get(partition[0], False), *partition

    def _bound(self, partition: PartitionId, waited: list[tuple[int, _Rank]]) -> int | None:
        """The time below which no other partition can have an event that comes before one of this partition.

        Inside of a partition the offset decides, so it is never waited for by itself: else more events of one time
        than are held would wait for ever. None when no other is waited for.
        """
        rank = self._rank(partition)
        first = next(((newest, other) for newest, other in waited if other != rank), None)
        return None if first is None else first[0] + (rank < first[1])

    def _waits_for(
        self, partition: PartitionId, known: _Partition, lag: Mapping[PartitionId, int], now: float
    ) -> bool:
        at_end = lag.get(partition) == 0 or known.end >= self._consumer.cursor(partition)
        if not at_end:
            known.silent_since = None
            return True
        if known.silent_since is None:
            known.silent_since = now
        return now - known.silent_since < self._wait

    def _split(self) -> tuple[list[SourceBatch], list[SourceBatch]]:
        settled = self._settled()
        most, waited = self._at_most(settled), self._waited()
        if most is None and not waited:
            return list(self._held.values()), []
        ready, waiting = [], []
        for batch in self._held.values():
            early = np.flatnonzero(self._early(batch, settled, most, waited))
            if len(early) == len(batch):
                ready.append(batch)
                continue
            late = np.setdiff1d(np.arange(len(batch)), early, assume_unique=True)
            waiting.append(batch.take(late))
            if len(early):
                ready.append(batch.take(early))
        return ready, waiting

    def _early(
        self,
        batch: SourceBatch,
        settled: Mapping[PartitionId, int],
        most: int | None,
        waited: list[tuple[int, _Rank]],
    ) -> Bools:
        times = reached(batch, settled)
        early = np.ones(len(batch), np.bool_) if most is None else times < most
        for number in batch.partitions:
            bound = self._bound((batch.source.topic, number), waited)
            if bound is not None:
                early &= (batch.partition != number) | (times < bound)
        return early

    def _first_held(self) -> dict[PartitionId, int]:
        first: dict[PartitionId, int] = {}
        for batch in self._held.values():
            for number in batch.partitions:
                first[batch.source.topic, number] = int(batch.offset[batch.partition == number].min())
        return first

    def _throttle(self) -> None:
        """Pause partitions of which much is held, so that those which are waited for come through."""
        counts: dict[PartitionId, int] = {}
        for batch in self._held.values():
            numbers, rows = np.unique(batch.partition, return_counts=True)
            topic = batch.source.topic
            counts.update({(topic, n): m for n, m in zip(numbers.tolist(), rows.tolist(), strict=True)})
        paused = {partition for partition, known in self._partitions.items() if known.paused}
        pause = {partition for partition, rows in counts.items() if rows > self._most} - paused
        resume = {partition for partition in paused if counts.get(partition, 0) < self._most // 2}
        if pause:
            self._consumer.pause(pause)
        if resume:
            self._consumer.resume(resume)
        for partition in pause | resume:
            self._known(partition).paused = partition in pause


def _of(letter: DeadLetter) -> PartitionId:
    return letter.topic, letter.partition


def _newest(batch: SourceBatch) -> list[tuple[PartitionId, int]]:
    """The newest event time of each partition in a batch."""
    return [
        ((batch.source.topic, number), int(batch.event_time[batch.partition == number].max()))
        for number in batch.partitions
    ]
