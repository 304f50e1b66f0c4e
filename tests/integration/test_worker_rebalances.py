"""Workers join and leave all the time: nothing is lost, doubled or different."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from tests.chaos import job
from tests.chaos.world import World
from tests.servers.process import wait_until

ROUNDS = 16


def test_a_storm_of_rebalances_changes_nothing(
    kafka: str, redis_url: str, tmp_path: Path, make_topic: Callable[..., str]
) -> None:
    rng = random.Random(4)
    sent = list(job.events(16_000, seed=9))
    each = len(sent) // ROUNDS
    with World(kafka, redis_url, tmp_path, make_topic) as world:
        workers = {0: world.start_thread(0)}
        for number in range(ROUNDS):
            world.produce(sent[number * each : (number + 1) * each])
            ordinal = rng.randrange(1, 4)
            if ordinal in workers:
                workers.pop(ordinal).stop()
            else:
                workers[ordinal] = world.start_thread(ordinal)
                wait_until(lambda one=workers[ordinal]: one.worker.ready, 60, "a worker to own partitions")
        world.wait_until_done(60)
        world.wait_until_flushed(len(sent), 60)
        assert world.compare(job.reference(sent)).failures == []
