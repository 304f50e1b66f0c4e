"""Puts events of several partitions into scoring order across batches: by event time, as far as the log allows.

Partitions are consumed at different speeds. An event waits here until no partition that has more to give can still
hold an earlier one; so the scoring order is a function of the log, not of timing. A partition at its end is waited
for at most `order_wait_ms` (default 0): live, silence of one partition delays nobody. One that runs far ahead is
paused. What waits here is not folded and not committed; a rebalance forgets it and it is consumed again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from heapq import nsmallest

import numpy as np

from features.core.batch import Bools, MicroBatch, SourceBatch
from features.offline.order import arrange, reached
from features.offline.reader import concatenated
from stream.codecs.contracts import DeadLetter
from stream.kafka.client.consumer import Fetched, InputConsumer, Place, Reached

_AHEAD = 4
_UNKNOWN = np.iinfo(np.int64).min

_Rank = tuple[bool, str, int]
"""What decides between events of one time (features/offline/order.py): scored, topic, partition."""


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

    def clear(self, places: Iterable[Place]) -> None:
        """Forget what is held; from now on these partitions are consumed."""
        self._held: dict[str, SourceBatch] = {}
        self._letters: list[DeadLetter] = []
        self._newest: dict[Place, int] = dict.fromkeys(places, _UNKNOWN)
        self._scored: dict[str, bool] = {}
        self._settled: dict[Place, int] = {}
        self._reached: dict[Place, Reached] = {}
        self._ends: dict[Place, int] = {}
        self._silent_since: dict[Place, float] = {}
        self._paused: set[Place] = set()

    @property
    def holds(self) -> bool:
        """Whether any event or dead letter waits."""
        return bool(self._held) or bool(self._letters)

    def put(self, parts: Iterable[SourceBatch], letters: Iterable[DeadLetter], fetched: Fetched) -> None:
        """Take what was just decoded."""
        self._letters += letters
        self._ends.update(fetched.ends)
        self._reached.update(fetched.reached)
        for part in parts:
            if not len(part):
                continue
            self._scored[part.source.topic] = part.source.scored
            for number in part.partitions:
                place = (part.source.topic, number)
                newest = int(part.event_time[part.partition == number].max())
                self._newest[place] = max(self._newest.get(place, _UNKNOWN), newest)
            held = self._held.get(part.source.name)
            self._held[part.source.name] = part if held is None else concatenated([held, part])

    def take(self) -> tuple[MicroBatch, list[DeadLetter], dict[Place, Reached]]:
        """Events whose order is settled, the dead letters among them, and how far each partition may be committed."""
        ready, kept = self._split()
        self._held = {part.source.name: part for part in kept}
        first = self._first_held()
        upto = {
            place: end if place not in first else Reached(min(end.offset, first[place]), end.leader_epoch)
            for place, end in self._reached.items()
        }
        letters = [one for one in self._letters if one.offset < upto[one.topic, one.partition].offset]
        if letters:
            self._letters = [
                one for one in self._letters if one.offset >= upto[one.topic, one.partition].offset
            ]
        self._reached = {
            place: end for place, end in self._reached.items() if upto[place].offset < end.offset
        }
        self._throttle()
        batch = arrange(ready, self._settled)
        self._settle(batch)
        return batch, letters, upto

    def _at_most(self) -> int | None:
        """A time that lets about a batch through; events of one time stay together."""
        if sum(map(len, self._held.values())) <= self._batch_size:
            return None
        times = np.concatenate([reached(part, self._settled) for part in self._held.values()])
        return int(np.partition(times, self._batch_size - 1)[self._batch_size - 1]) + 1

    def _settle(self, batch: MicroBatch) -> None:
        """Remember how far each partition has come: a late event of the next batch takes its place after that."""
        for part in batch.source_batches:
            for number in part.partitions:
                place = (part.source.topic, number)
                newest = int(part.event_time[part.partition == number].max())
                self._settled[place] = max(self._settled.get(place, _UNKNOWN), newest)

    def _waited(self) -> list[tuple[int, _Rank]]:
        """The two partitions that come next, of those that are waited for: newest time and rank of each."""
        if len(self._newest) <= 1:
            return []
        lag = self._consumer.lag()
        now = self._clock()
        waited = [
            (newest, self._rank(place))
            for place, newest in self._newest.items()
            if self._waits_for(place, lag, now)
        ]
        return nsmallest(2, waited)

    def _rank(self, place: Place) -> _Rank:
        return self._scored.get(place[0], False), *place

    def _bound(self, place: Place, waited: list[tuple[int, _Rank]]) -> int | None:
        """The time below which no other partition can have an event that comes before one of this partition.

        Inside of a partition the offset decides, so it is never waited for by itself: else more events of one time
        than are held would wait for ever. None when no other is waited for.
        """
        rank = self._rank(place)
        first = next((one for one in waited if one[1] != rank), None)
        return None if first is None else first[0] + (rank < first[1])

    def _waits_for(self, place: Place, lag: Mapping[Place, int], now: float) -> bool:
        at_end = lag.get(place) == 0 or self._ends.get(place, -1) >= self._consumer.cursor(place)
        if not at_end:
            self._silent_since.pop(place, None)
            return True
        return now - self._silent_since.setdefault(place, now) < self._wait

    def _split(self) -> tuple[list[SourceBatch], list[SourceBatch]]:
        most, waited = self._at_most(), self._waited()
        if most is None and not waited:
            return list(self._held.values()), []
        ready, kept = [], []
        for part in self._held.values():
            early = np.flatnonzero(self._early(part, most, waited))
            if len(early) == len(part):
                ready.append(part)
                continue
            late = np.setdiff1d(np.arange(len(part)), early, assume_unique=True)
            kept.append(part.take(late))
            if len(early):
                ready.append(part.take(early))
        return ready, kept

    def _early(self, part: SourceBatch, most: int | None, waited: list[tuple[int, _Rank]]) -> Bools:
        times = reached(part, self._settled)
        early = np.ones(len(part), np.bool_) if most is None else times < most
        for number in part.partitions:
            bound = self._bound((part.source.topic, number), waited)
            if bound is not None:
                early &= (part.partition != number) | (times < bound)
        return early

    def _first_held(self) -> dict[Place, int]:
        first: dict[Place, int] = {}
        for part in self._held.values():
            for number in part.partitions:
                first[part.source.topic, number] = int(part.offset[part.partition == number].min())
        return first

    def _throttle(self) -> None:
        """Pause partitions of which much is held, so that those which are waited for come through."""
        counts: dict[Place, int] = {}
        for part in self._held.values():
            numbers, many = np.unique(part.partition, return_counts=True)
            counts.update(
                {(part.source.topic, n): m for n, m in zip(numbers.tolist(), many.tolist(), strict=True)}
            )
        pause = {place for place, many in counts.items() if many > self._most} - self._paused
        resume = {place for place in self._paused if counts.get(place, 0) < self._most // 2}
        if pause:
            self._consumer.pause(pause)
        if resume:
            self._consumer.resume(resume)
        self._paused = (self._paused | pause) - resume
