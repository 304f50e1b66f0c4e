"""The scoring order is a function of the log, whatever is fetched when; and every event gets its turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from features.core.batch import SourceBatch
from features.definitions.spec import Field, LabelOf, Source
from stream.codecs.messages import PartitionId
from stream.kafka.batches.order import Sequencer
from stream.kafka.client.consumer import Fetched, Reached

FIELDS = (Field(name="id", dtype="string"), Field(name="at", dtype="timestamp"))
PAYMENTS = Source(name="pay", topic="pay", event_id="id", event_time="at", fields=FIELDS, key="id")
CHARGEBACKS = Source(
    name="back", topic="back", event_id="id", event_time="at", fields=FIELDS, key="id",
    labels=LabelOf(event_id="id", value="id"),
)  # fmt: skip
SOURCES = {source.topic: source for source in (PAYMENTS, CHARGEBACKS)}
BATCH = 8
Logs = dict[PartitionId, list[int]]


class Consumer:
    """Gives events of logs in memory, some of each partition at a time, unless it is paused."""

    def __init__(self, logs: Logs, some: Callable[[], int]) -> None:
        self.logs, self._some = logs, some
        self.cursors = dict.fromkeys(logs, 0)
        self.paused: set[PartitionId] = set()

    def pause(self, partitions: set[PartitionId]) -> None:
        self.paused |= partitions

    def resume(self, partitions: set[PartitionId]) -> None:
        self.paused -= partitions

    def cursor(self, partition: PartitionId) -> int:
        return self.cursors[partition]

    def lag(self) -> dict[PartitionId, int]:
        return {partition: len(log) - self.cursors[partition] for partition, log in self.logs.items()}

    def fetch(self) -> tuple[list[SourceBatch], Fetched]:
        out, parts = Fetched(), []
        for partition, log in self.logs.items():
            start = self.cursors[partition]
            times = [] if partition in self.paused else log[start : start + self._some()]
            if times:
                parts.append(part(partition, start, times))
                self.cursors[partition] = start + len(times)
                out.reached[partition] = Reached(start + len(times), 0)
            elif start == len(log):
                out.ends[partition] = start
        return parts, out


def part(partition: PartitionId, start: int, times: list[int]) -> SourceBatch:
    offsets = np.arange(start, start + len(times))
    event_time = np.array(times, np.int64)
    return SourceBatch(
        source=SOURCES[partition[0]],
        event_ids=[f"{partition}-{offset}" for offset in offsets],
        event_time=event_time,
        received_time=event_time,
        partition=np.full(len(times), partition[1], np.int32),
        offset=offsets,
        position=np.zeros(len(times), np.int64),
        columns={},
    )


def sequence(logs: Logs, some: Callable[[], int], rounds: int) -> list[tuple[str, int, int]]:
    """In which order all events come out: topic, partition, offset."""
    consumer = Consumer(logs, some)
    sequencer = Sequencer(consumer, wait_ms=0, batch_size=BATCH)  # type: ignore[arg-type]
    sequencer.clear(logs)
    out: list[tuple[str, int, int]] = []
    for _ in range(rounds):
        parts, fetched = consumer.fetch()
        for topic in SOURCES:
            sequencer.put([one for one in parts if one.source.topic == topic], [], fetched)
        if not sequencer.holds:
            continue
        batch, _, _ = sequencer.take()
        found = [
            (position, (one.source.topic, int(partition), int(offset)))
            for one in batch.source_batches
            for position, partition, offset in zip(one.position, one.partition, one.offset, strict=True)
        ]
        out += [event for _, event in sorted(found)]
    return out


def expected(logs: Logs) -> list[tuple[str, int, int]]:
    """All of it at once: by the newest time of the partition so far, labels first, then topic, partition, offset."""
    keys = [
        (time, SOURCES[topic].scored, topic, partition, offset)
        for (topic, partition), log in logs.items()
        for offset, time in enumerate(accumulate(log, max))
    ]
    return [(topic, partition, offset) for _, _, topic, partition, offset in sorted(keys)]


def endless(numbers: list[int]) -> Callable[[], int]:
    turns: Iterator[int] = iter(numbers)

    def some() -> int:
        return next(turns, BATCH)

    return some


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        st.tuples(st.sampled_from(["pay", "back"]), st.integers(0, 2)),
        st.lists(st.integers(0, 12), min_size=1, max_size=60),
        min_size=1,
    ),
    st.lists(st.integers(0, 2 * BATCH), max_size=40),
)
def test_order_and_progress_whatever_is_fetched_when(logs: Logs, sizes: list[int]) -> None:
    assert sequence(logs, endless(sizes), 400) == expected(logs)


def test_more_events_of_one_time_than_are_held_do_not_wait_for_ever() -> None:
    one, other = ("pay", 0), ("pay", 1)
    assert len(sequence({one: [7] * 500, other: [7] * 500}, endless([]), 400)) == 1_000


def test_an_event_far_ahead_in_time_does_not_stop_its_partition() -> None:
    ahead = [10 * number for number in range(500)]
    ahead[20] += 3_000
    logs: Logs = {("pay", 0): ahead, ("pay", 1): [10 * number + 5 for number in range(500)]}
    assert sequence(logs, endless([]), 600) == expected(logs)
