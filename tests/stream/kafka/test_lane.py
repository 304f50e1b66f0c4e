"""Commits that events do not wait for: what the worker may hold for committed, and when."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pytest
from confluent_kafka import Consumer, TopicPartition

from features.core.batch import MicroBatch
from features.core.errors import RetriableError, RiskstreamError
from stream.kafka.client.consumer import InputConsumer
from stream.kafka.worker.commits import Lane
from stream.kafka.worker.delivery import AtLeastOnce, Outputs
from stream.kafka.worker.unit import Decoded, Unit
from stream.settings.tables import Kafka

Offsets = list[TopicPartition]


class Slow:
    """A delivery whose commits are answered when the test says so."""

    settle_every = 0.0

    def __init__(self) -> None:
        self.soon: list[tuple[Offsets, Future[None]]] = []
        self.waited: list[Offsets] = []

    def open(self) -> None:
        """Nothing to open."""

    def deliver(self, outputs: Outputs, offsets: Offsets, metadata: object) -> None:
        """Takes everything."""

    def finish(self, offsets: Offsets) -> None:
        """Done when this returns."""
        self.waited.append(offsets)

    def finish_soon(self, offsets: Offsets) -> Future[None]:
        """Under way until the test answers."""
        answer: Future[None] = Future()
        self.soon.append((offsets, answer))
        return answer

    def reset(self) -> None:
        """Nothing is under way."""

    def close(self) -> None:
        """Nothing is open."""


class Setting:
    """A lane over `Slow`, and what it told."""

    def __init__(self) -> None:
        self.delivery = Slow()
        self.told: list[int] = []
        self.lane = Lane(self.delivery, lambda unit, seconds: None, self._committed)

    def _committed(self, offsets: Offsets) -> None:
        self.told += [one.offset for one in offsets]

    def deliver(self, offset: int) -> None:
        """One unit of work, joined."""
        unit = Unit(Decoded(MicroBatch(())), [], [], [TopicPartition("t", 0, offset)])
        self.lane.submit(unit, None)
        self.lane.join()


@pytest.fixture
def setting() -> Iterator[Setting]:
    """A lane, closed at the end."""
    made = Setting()
    yield made
    made.lane.close()


def test_a_commit_counts_once_it_is_answered(setting: Setting) -> None:
    setting.deliver(5)
    setting.lane.settle_soon()
    setting.lane.reap()
    assert setting.told == []
    assert setting.lane.finishing
    setting.delivery.soon[0][1].set_result(None)
    setting.lane.reap()
    assert setting.told == [5]
    assert setting.lane.settled


def test_one_commit_at_a_time_and_the_next_covers_the_rest(setting: Setting) -> None:
    setting.deliver(5)
    setting.lane.settle_soon()
    setting.deliver(6)
    setting.deliver(7)
    setting.lane.settle_soon()
    assert len(setting.delivery.soon) == 1
    setting.delivery.soon[0][1].set_result(None)
    setting.lane.reap()
    assert not setting.lane.settled
    setting.lane.settle_soon()
    assert [one.offset for one in setting.delivery.soon[1][0]] == [7]


def test_beside_a_commit_under_way_nothing_is_told(setting: Setting) -> None:
    setting.deliver(5)
    setting.lane.settle_soon()
    setting.deliver(6)
    assert setting.lane.settle() is False
    assert [one.offset for one in setting.delivery.waited[0]] == [6]
    assert setting.told == []


def test_without_one_under_way_settle_tells(setting: Setting) -> None:
    setting.deliver(6)
    assert setting.lane.settle() is True
    assert setting.told == [6]


def test_a_refused_commit_is_raised_and_told_to_nobody(setting: Setting) -> None:
    setting.deliver(5)
    setting.lane.settle_soon()
    setting.delivery.soon[0][1].set_exception(RetriableError("refused"))
    with pytest.raises(RetriableError, match="refused"):
        setting.lane.reap()
    assert setting.told == []


@pytest.fixture
def joined(kafka: str, make_topic: Callable[..., str]) -> Iterator[tuple[InputConsumer, str]]:
    """A consumer that owns the one partition of a topic of its own."""
    topic = make_topic()
    consumer = InputConsumer(Kafka(bootstrap_servers=kafka, group_id=f"{topic}-group"))
    got: list[TopicPartition] = []

    def assigned(client: Consumer, partitions: Offsets) -> None:
        client.assign([])
        got.extend(partitions)

    consumer.client.subscribe([topic], on_assign=assigned)
    end = time.monotonic() + 60
    while not got and time.monotonic() < end:
        consumer.fetch(1, 0.1)
    assert got
    consumer.start_at({(topic, 0): 0})
    yield consumer, topic
    consumer.close()


def _answered(consumer: InputConsumer, answer: Future[None]) -> None:
    end = time.monotonic() + 30
    while not answer.done() and time.monotonic() < end:
        consumer.fetch(1, 0.05)
    answer.result(0)


def test_kafka_has_what_was_answered(kafka: str, joined: tuple[InputConsumer, str]) -> None:
    consumer, topic = joined
    delivery = AtLeastOnce(Kafka(bootstrap_servers=kafka), consumer)
    given_up = delivery.finish_soon([TopicPartition(topic, 0, 1, metadata="origin=0")])
    answer = delivery.finish_soon([TopicPartition(topic, 0, 2, metadata="origin=0")])
    _answered(consumer, answer)
    found = consumer.committed([(topic, 0)], 10)[topic, 0]
    assert (found.offset, found.metadata) == (2, "origin=0")
    assert not given_up.done()


def test_a_commit_that_kafka_refuses_is_an_error(joined: tuple[InputConsumer, str]) -> None:
    consumer, topic = joined
    too_long = TopicPartition(topic, 0, 2, metadata="x" * 10_000)
    with pytest.raises(RiskstreamError, match="committing offsets"):
        _answered(consumer, consumer.commit_soon([too_long]))
