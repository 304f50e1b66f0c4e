"""Commits that events do not wait for: what the worker may hold for committed, and when."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pytest
from confluent_kafka import TopicPartition

from features.core.batch import MicroBatch
from features.core.errors import RetriableError, RiskstreamError
from stream.codecs.messages import PartitionId
from stream.kafka.batches.commits import CommitPipeline
from stream.kafka.batches.delivery import GroupCommits
from stream.kafka.batches.scored import Decoded, ScoredBatch
from stream.kafka.client.consumer import InputConsumer
from stream.settings.tables import Kafka

Offsets = list[TopicPartition]


class Slow:
    """A delivery whose commits are answered when the test says so."""

    every_s = 0.0

    def __init__(self) -> None:
        self.soon: list[tuple[Offsets, Future[None]]] = []
        self.waited: list[Offsets] = []

    def open(self) -> None:
        """Nothing to open."""

    def deliver(self, batch: ScoredBatch) -> None:
        """Takes everything."""

    def commit(self, offsets: Offsets) -> None:
        """Done when this returns."""
        self.waited.append(offsets)

    def commit_soon(self, offsets: Offsets) -> Future[None]:
        """Under way until the test answers."""
        answer: Future[None] = Future()
        self.soon.append((offsets, answer))
        return answer

    def reset(self) -> None:
        """Nothing is under way."""

    def close(self) -> None:
        """Nothing is open."""


class Setting:
    """A pipeline over `Slow`, and the offsets that it called committed."""

    def __init__(self) -> None:
        self.delivery = Slow()
        self.committed: list[int] = []
        self.pipeline = CommitPipeline(
            self.delivery, self.delivery, lambda batch, seconds: None, self._committed
        )

    def _committed(self, offsets: Offsets) -> None:
        self.committed += [offset.offset for offset in offsets]

    def deliver(self, offset: int) -> None:
        """One unit of work, joined."""
        batch = ScoredBatch(Decoded(MicroBatch(())), [], [], [TopicPartition("t", 0, offset)])
        self.pipeline.submit(batch)
        self.pipeline.join()


@pytest.fixture
def setting() -> Iterator[Setting]:
    """A pipeline, closed at the end."""
    setting = Setting()
    yield setting
    setting.pipeline.close()


def test_a_commit_counts_once_it_is_answered(setting: Setting) -> None:
    setting.deliver(5)
    setting.pipeline.commit_soon()
    setting.pipeline.collect()
    assert setting.committed == []
    assert setting.pipeline.committing
    setting.delivery.soon[0][1].set_result(None)
    setting.pipeline.collect()
    assert setting.committed == [5]
    assert setting.pipeline.all_committed


def test_one_commit_at_a_time_and_the_next_covers_the_rest(setting: Setting) -> None:
    setting.deliver(5)
    setting.pipeline.commit_soon()
    setting.deliver(6)
    setting.deliver(7)
    setting.pipeline.commit_soon()
    assert len(setting.delivery.soon) == 1
    setting.delivery.soon[0][1].set_result(None)
    setting.pipeline.collect()
    assert not setting.pipeline.all_committed
    setting.pipeline.commit_soon()
    assert [one.offset for one in setting.delivery.soon[1][0]] == [7]


def test_beside_a_commit_under_way_nothing_counts_as_committed(setting: Setting) -> None:
    setting.deliver(5)
    setting.pipeline.commit_soon()
    setting.deliver(6)
    assert setting.pipeline.commit() is False
    assert [one.offset for one in setting.delivery.waited[0]] == [6]
    assert setting.committed == []


def test_without_a_commit_under_way_what_was_delivered_is_committed(setting: Setting) -> None:
    setting.deliver(6)
    assert setting.pipeline.commit() is True
    assert setting.committed == [6]


def test_a_refused_commit_is_raised_and_does_not_count(setting: Setting) -> None:
    setting.deliver(5)
    setting.pipeline.commit_soon()
    setting.delivery.soon[0][1].set_exception(RetriableError("refused"))
    with pytest.raises(RetriableError, match="refused"):
        setting.pipeline.collect()
    assert setting.committed == []


@pytest.fixture
def joined(kafka: str, make_topic: Callable[..., str]) -> Iterator[tuple[InputConsumer, str]]:
    """A consumer that owns the one partition of a topic of its own."""
    topic = make_topic()
    consumer = InputConsumer(Kafka(bootstrap_servers=kafka, group_id=f"{topic}-group"))
    got: list[PartitionId] = []

    consumer.subscribe([topic], got.extend, lambda kind: None)
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
    commits = GroupCommits(consumer)
    given_up = commits.commit_soon([TopicPartition(topic, 0, 1, metadata="origin=0")])
    answer = commits.commit_soon([TopicPartition(topic, 0, 2, metadata="origin=0")])
    _answered(consumer, answer)
    found = consumer.committed([(topic, 0)], 10)[topic, 0]
    assert (found.offset, found.metadata) == (2, "origin=0")
    assert not given_up.done()


def test_a_commit_that_kafka_refuses_is_an_error(joined: tuple[InputConsumer, str]) -> None:
    consumer, topic = joined
    too_long = TopicPartition(topic, 0, 2, metadata="x" * 10_000)
    with pytest.raises(RiskstreamError, match="committing offsets"):
        _answered(consumer, consumer.commit_soon([too_long]))


def test_what_one_transaction_delivers_is_committed() -> None:
    committed: list[int] = []
    delivery = Slow()
    pipeline = CommitPipeline(
        delivery,
        None,
        lambda batch, seconds: None,
        lambda offsets: committed.extend(o.offset for o in offsets),
    )
    pipeline.submit(ScoredBatch(Decoded(MicroBatch(())), [], [], [TopicPartition("t", 0, 5)]))
    pipeline.join()
    assert (committed, pipeline.all_committed, pipeline.commit()) == ([5], True, True)
    assert (delivery.soon, delivery.waited) == ([], [])
    pipeline.close()
