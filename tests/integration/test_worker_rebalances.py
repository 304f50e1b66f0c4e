"""Workers join and leave all the time: nothing is lost, doubled or different."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition

from features.state.cold_reads import NotOurs
from features.state.owned import StateSettings
from features.state.slices import SliceState
from features.store.base import Flush, Marks, Partition
from features.store.memory import MemoryStore
from stream.kafka.client.consumer import InputConsumer
from stream.kafka.worker.positions import Positions
from stream.settings.tables import Kafka
from tests.chaos import job
from tests.chaos.world import World
from tests.features.offset_engine import SHARDS, OffsetEngine
from tests.servers.process import wait_until

PAY = Partition("pay", 0)
EVENTS_A_ROUND = 1_000


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
@pytest.mark.parametrize(
    "rounds", [16, pytest.param(160, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)
def test_a_storm_of_rebalances_changes_nothing(
    rounds: int, delivery: str, kafka: str, redis_url: str, tmp_path: Path, make_topic: Callable[..., str]
) -> None:
    rng = random.Random(4)
    sent = list(job.events(rounds * EVENTS_A_ROUND, seed=9))
    with World(kafka, redis_url, tmp_path, make_topic, delivery=delivery) as world:
        workers = {0: world.start_thread(0)}
        for number in range(rounds):
            world.produce(sent[number * EVENTS_A_ROUND : (number + 1) * EVENTS_A_ROUND])
            ordinal = rng.randrange(1, 4)
            if ordinal in workers:
                workers.pop(ordinal).stop()
            else:
                workers[ordinal] = world.start_thread(ordinal)
                wait_until(workers[ordinal].is_ready, 60, "a worker to own partitions")
        world.wait_until_done(60)
        world.wait_until_flushed(len(sent), 60)
        found = world.compare(job.reference(sent))
    if delivery == "at_least_once":  # what was delivered but not committed is delivered again, the same
        found.duplicated = 0
    assert found.failures == []


def test_a_rebalance_while_redis_lags_behind_costs_no_event(
    kafka: str,
    redis_url: str,
    tmp_path: Path,
    make_topic: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker that holds back polls on, so that the group keeps it; a rebalance may come of that."""
    lags = threading.Event()
    real: Any = SliceState.over_limit
    monkeypatch.setattr(SliceState, "over_limit", property(lambda state: lags.is_set() or real.fget(state)))
    sent = list(job.events(9_000, seed=10))
    with World(kafka, redis_url, tmp_path, make_topic) as world:
        first = world.start_thread(0)
        world.produce(sent[:8_000])
        world.wait_until_done(60)
        waits, goes_on = threading.Event(), threading.Event()

        def waiting() -> None:
            waits.set()
            goes_on.wait(60)

        first.worker.recall = waiting
        lags.set()
        second = world.start_thread(1)
        assert waits.wait(60), "the first to recover what the second left it"
        lags.clear()
        monkeypatch.setattr("stream.kafka.worker.intake._QUIET", 2.0)  # an event comes while it is waited for
        world.produce(sent[8_000:])
        goes_on.set()
        wait_until(lambda: second.worker.ready, 60, "the second to own partitions")
        world.wait_until_done(60)
        world.wait_until_flushed(len(sent), 60)
        found = world.compare(job.reference(sent))
    assert found.failures == []


class OwnedByAnother(MemoryStore):
    """Whoever owns the partition commits and flushes an event more before each look at the marks."""

    def __init__(self, commit: Callable[[int], None]) -> None:
        super().__init__(SHARDS)
        self._commit = commit
        self._offset = 0

    def marks(self) -> list[Marks]:
        """See Store."""
        self._offset += 1
        self._commit(self._offset)
        self.flush([Flush(PAY, shard, 0, self._offset, 0, 0) for shard in range(SHARDS)])
        return super().marks()


def test_an_owner_at_work_is_not_taken_for_a_rewound_group(
    kafka: str, make_topic: Callable[..., str]
) -> None:
    """Who was paused and does not know yet that the partition is another's must not end of it."""
    topic = make_topic(partitions=1)
    settings = {"bootstrap.servers": kafka, "log_level": 0}
    producer = Producer(settings)
    for _ in range(10):
        producer.produce(topic, b"{}")
    assert producer.flush(30) == 0
    paused = InputConsumer(Kafka(bootstrap_servers=kafka, group_id=f"{topic}-group"))
    store = OwnedByAnother(lambda offset: paused.commit([TopicPartition(topic, 0, offset)]))
    store._commit(0)
    state = SliceState(OffsetEngine(), store, {"pay": 1}, StateSettings(), lambda: 0)
    positions = Positions(paused, state, {topic: "pay"}, "earliest")
    try:
        with pytest.raises(NotOurs):
            positions.recover([(topic, 0)])
    finally:
        paused.close()
