"""The worker on real Kafka and Redis, undisturbed: every event is decided, every alert is read, state is right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos import job
from tests.chaos.world import World


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_alerts_and_state_are_those_of_one_pass(
    delivery: str, kafka: str, redis_url: str, tmp_path: Path, make_topic: Callable[..., str]
) -> None:
    messages = list(job.events(5_000, seed=3))
    with World(kafka, redis_url, tmp_path, make_topic, delivery=delivery) as world:
        worker = world.start_worker(0)
        world.produce(messages)
        world.wait_until_done(seconds=60)
        assert world.stop_worker(worker) == 0
        assert world.compare(job.reference(messages)).failures == []
