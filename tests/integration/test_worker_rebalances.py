"""Workers join and leave all the time: nothing is lost, doubled or different."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from features.state import SliceState
from tests.chaos import job
from tests.chaos.world import World
from tests.servers.process import wait_until

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
                wait_until(lambda one=workers[ordinal]: one.worker.ready, 60, "a worker to own partitions")
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
    real = SliceState.over_limit
    monkeypatch.setattr(SliceState, "over_limit", property(lambda state: lags.is_set() or real.fget(state)))
    sent = list(job.events(9_000, seed=10))
    with World(kafka, redis_url, tmp_path, make_topic) as world:
        first = world.start_thread(0)
        world.produce(sent[:8_000])
        world.wait_until_done(60)
        waits, goes_on = threading.Event(), threading.Event()
        first.worker.recall = lambda: (waits.set(), goes_on.wait(60))
        lags.set()
        second = world.start_thread(1)
        assert waits.wait(60), "the first to recover what the second left it"
        lags.clear()
        monkeypatch.setattr("stream.kafka.worker._QUIET", 2.0)  # an event comes while it is waited for
        world.produce(sent[8_000:])
        goes_on.set()
        wait_until(lambda: second.worker.ready, 60, "the second to own partitions")
        world.wait_until_done(60)
        world.wait_until_flushed(len(sent), 60)
        found = world.compare(job.reference(sent))
    assert found.failures == []
