"""The worker on real Kafka and Redis: every event is decided, every alert is read, state is right."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from features.core.batch import MicroBatch
from features.core.errors import RetriableError
from stream.codecs.alerts import Record
from stream.kafka.batches.delivery import ExactlyOnce
from stream.kafka.batches.scored import Decoded, ScoredBatch
from stream.kafka.client import clients
from stream.kafka.client.consumer import InputConsumer
from stream.settings.tables import Kafka
from tests.chaos import job
from tests.chaos.world import World
from tests.servers import chosen


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


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_a_broker_that_is_killed_and_comes_back_loses_nothing(
    delivery: str, redis_url: str, tmp_path: Path
) -> None:
    messages = list(job.events(6_000, seed=5))
    with (
        chosen.kafka() as broker,
        World(broker.bootstrap, redis_url, tmp_path, broker.make_topic, delivery=delivery) as world,
    ):
        worker = world.start_worker(0)
        world.produce(messages[:4_000])
        world.wait_until_done(seconds=60, at_least=1_000)
        broker.kill()
        broker.start()
        world.produce(messages[4_000:])
        world.wait_until_done(seconds=120)
        assert world.stop_worker(worker) == 0
        found = world.compare(job.reference(messages))
    if delivery == "at_least_once":  # what was delivered but not committed is delivered again, the same
        found.duplicated = 0
    assert found.failures == []


def test_a_rival_that_comes_between_two_records_fences(kafka: str, make_topic: Callable[..., str]) -> None:
    """The client says only that it is at its end; that another has its name is said by the commit."""
    topic = make_topic(partitions=1)
    settings = Kafka(bootstrap_servers=kafka, group_id=f"{topic}-group", properties={"log_level": 0})
    delivery = ExactlyOnce(settings, f"{topic}-0")
    delivery.open()

    def records() -> Iterator[Record]:
        own, rival = delivery._producer, clients.producer(settings, "worker", f"{topic}-0")
        assert own is not None
        yield Record(None, b"first", [])
        own.flush(30)
        rival.init_transactions(30)
        end = time.monotonic() + 30
        while time.monotonic() < end:
            yield Record(None, b"again", [])

    group = InputConsumer(settings)
    batch = ScoredBatch(Decoded(MicroBatch(())), [], [(topic, records())], [], group.metadata())  # type: ignore[list-item]
    try:
        with pytest.raises(RetriableError, match=r"FENCED|EPOCH"):
            delivery.deliver(batch)
    finally:
        group.close()
        delivery.close()
