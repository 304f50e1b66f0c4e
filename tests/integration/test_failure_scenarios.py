"""One test for each row of docs/concepts/failure-scenarios.md; the row's title is the test's name.

Wherever work goes on, the outcome is compared with one undisturbed pass: alerts, dead letters, and state bit by bit.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from features.core.errors import ConfigurationError, FatalError, FencedError
from stream.kafka.batches import delivery
from stream.kafka.client import clients
from tests.chaos import job
from tests.chaos.driver import stopped
from tests.chaos.produced import Produced
from tests.chaos.world import World
from tests.servers.process import wait_until
from tests.servers.redis_server import RedisServer

PATIENCE = 60.0


@pytest.fixture
def redis(redis_server: Callable[..., RedisServer]) -> RedisServer:
    """A Redis that the test may break."""
    return redis_server()


@pytest.fixture
def world(kafka: str, redis: RedisServer, tmp_path: Path, make_topic: Callable[..., str]) -> Iterator[World]:
    with World(kafka, redis.url, tmp_path, make_topic) as world:
        yield world


@pytest.fixture
def admin(kafka: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": kafka, "log_level": 0})


def messages(count: int = 1_500) -> list[Produced]:
    return list(job.events(count, seed=11))


def settle(world: World, sent: list[Produced]) -> None:
    """All is committed and in Redis, and nothing differs."""
    world.wait_until_done(PATIENCE)
    world.wait_until_flushed(len(sent), PATIENCE)
    assert world.compare(job.reference(sent)).failures == []


def stop_at_rest(world: World, sent: list[Produced]) -> None:
    """Score all with one worker and stop it."""
    world.produce(sent)
    worker = world.start_thread()
    world.wait_until_done(PATIENCE)
    worker.stop()


def killed_at(world: World, point: str) -> None:
    sent = messages()
    stop_at_rest(world, sent[:700])
    world.produce(sent[700:])
    worker = world.start_worker(0, RISKSTREAM_FAULT=point)
    assert worker.wait(2 * PATIENCE) == -signal.SIGKILL, world.logs()
    world.start_thread()
    settle(world, sent)


# -- workers -----------------------------------------------------------------------------------


def test_worker_killed_before_offsets_are_sent(world: World) -> None:
    killed_at(world, "before_send_offsets")


def test_worker_killed_after_offsets_are_sent(world: World) -> None:
    killed_at(world, "after_send_offsets")


def test_worker_killed_before_its_commit(world: World) -> None:
    killed_at(world, "before_commit")


def test_worker_killed_after_its_commit(world: World) -> None:
    killed_at(world, "after_commit")


def test_worker_killed_before_a_flush(world: World) -> None:
    killed_at(world, "before_flush")


def test_worker_killed_after_a_flush(world: World) -> None:
    killed_at(world, "after_flush")


def paused_at(world: World, point: str) -> None:
    """Stopped past the end of its session; another takes over; it wakes as a zombie."""
    sent = messages()
    stop_at_rest(world, sent[:700])
    world.produce(sent[700:])
    zombie = world.start_worker(0, RISKSTREAM_FAULT=f"{point}:1:STOP")
    wait_until(lambda: stopped(zombie.process.pid), 2 * PATIENCE, "the worker to stop")
    world.start_thread(1)
    world.wait_until_done(PATIENCE)
    zombie.signal(signal.SIGCONT)
    more = list(job.events(3_000, seed=11))[1_500:]
    world.produce(more)
    settle(world, sent + more)
    assert zombie.running


def test_worker_paused_before_its_commit(world: World) -> None:
    paused_at(world, "before_commit")


def test_worker_paused_before_a_flush(world: World) -> None:
    paused_at(world, "before_flush")


def test_worker_ends_of_an_error_after_it_has_scored(world: World) -> None:
    """As it leaves the group it flushes what is committed: a batch that is folded and not committed is not."""
    sent = messages()
    worker = world.start_thread()
    wait_until(lambda: worker.worker.ready, PATIENCE, "the worker to be ready")
    scoring = worker.worker.clients.scoring
    score = scoring.processor.score

    def fails(*batch: Any) -> Any:
        unit = score(*batch)
        if any((one.staged < one.committed).any() for one in scoring.state.owned.values()):
            raise FatalError("this model cannot score that")
        return unit

    scoring.processor.score = fails  # type: ignore[method-assign, assignment]
    for start in range(0, len(sent), 100):
        world.produce(sent[start : start + 100])
    assert "cannot score" in str(worker.ended())
    world.start_thread()
    settle(world, sent)


def test_partitions_leave_and_come_back(world: World) -> None:
    sent = list(job.events(3_000, seed=11))
    first = world.start_thread(0)
    world.produce(sent[:1_000])
    world.wait_until_done(PATIENCE)
    second = world.start_thread(1)
    wait_until(lambda: second.worker.ready, PATIENCE, "the second worker to own partitions")
    world.produce(sent[1_000:2_000])
    world.wait_until_done(PATIENCE)
    second.stop()
    world.produce(sent[2_000:])
    settle(world, sent)
    first.stop()


def test_two_workers_with_one_ordinal(world: World) -> None:
    worker = world.start_thread(0)
    wait_until(lambda: worker.worker.ready, PATIENCE, "the worker to be ready")
    rival = Producer(
        {"bootstrap.servers": world.kafka, "transactional.id": f"{world.name}-0", "log_level": 0}
    )

    def fenced_again() -> bool:
        rival_now = Producer(
            {"bootstrap.servers": world.kafka, "transactional.id": f"{world.name}-0", "log_level": 0}
        )
        rival_now.init_transactions(10)
        world.produce(messages(20))
        wait_until(
            lambda: not worker.running or world.committed() >= sum(world.produced.values()),
            PATIENCE,
            "an end",
        )
        return not worker.running

    rival.init_transactions(10)
    wait_until(fenced_again, PATIENCE, "the worker to give way")
    assert isinstance(worker.ended(), FencedError)


# -- redis -------------------------------------------------------------------------------------


def test_redis_emptied_while_workers_live(world: World, redis: RedisServer) -> None:
    sent = list(job.events(3_000, seed=11))
    world.start_thread()
    world.produce(sent[:1_500])
    world.wait_until_flushed(1_500, PATIENCE)
    with redis.client() as client:
        client.flushall()
    world.produce(sent[1_500:])
    settle(world, sent)


def test_redis_emptied_while_no_worker_lives(world: World, redis: RedisServer) -> None:
    sent = list(job.events(3_000, seed=11))
    stop_at_rest(world, sent[:1_500])
    with redis.client() as client:
        client.flushall()
    world.produce(sent[1_500:])
    world.start_thread()
    settle(world, sent)


def test_redis_falls_back_to_an_older_snapshot(world: World, redis: RedisServer) -> None:
    sent = list(job.events(3_000, seed=11))
    world.start_thread()
    world.produce(sent[:1_000])
    world.wait_until_flushed(1_000, PATIENCE)
    snapshot = redis.snapshot()
    world.produce(sent[1_000:2_000])
    world.wait_until_flushed(2_000, PATIENCE)
    redis.restore(snapshot)
    world.produce(sent[2_000:])
    settle(world, sent)


def test_redis_loses_writes_while_all_is_idle(world: World, redis: RedisServer) -> None:
    sent = messages()
    world.start_thread()
    world.produce(sent)
    world.wait_until_flushed(len(sent), PATIENCE)
    with redis.client() as client:
        client.flushall()
    settle(world, sent)


def test_redis_drops_connections(world: World, redis: RedisServer) -> None:
    sent = messages()
    world.start_thread()
    world.produce(sent[:700])
    world.wait_until_done(PATIENCE)
    with redis.client() as client:
        client.execute_command("CLIENT KILL TYPE normal SKIPME yes")
    world.produce(sent[700:])
    settle(world, sent)


def test_redis_is_full(world: World, redis: RedisServer) -> None:
    sent = messages()
    worker = world.start_thread()
    world.produce(sent[:700])
    world.wait_until_flushed(700, PATIENCE)
    with redis.client() as client:
        client.config_set("maxmemory", "1")
        world.produce(sent[700:])
        wait_until(lambda: not worker.worker.ready, PATIENCE, "a flush to fail")
        client.config_set("maxmemory", "0")
    settle(world, sent)


def test_redis_is_away_and_policy_is_wait(world: World, redis: RedisServer) -> None:
    sent = messages()
    worker = world.start_thread()
    world.produce(sent[:700])
    world.wait_until_flushed(700, PATIENCE)
    redis.kill()
    wait_until(lambda: not worker.worker.ready, PATIENCE, "the worker to notice")
    world.produce(sent[700:])
    redis.start()
    settle(world, sent)


def test_redis_is_away_and_policy_is_degrade(
    world: World, redis: RedisServer, make_topic: Callable[..., str]
) -> None:
    sent = messages()
    make_topic(f"{world.name}-decisions", partitions=2)
    worker = world.start_thread(on_redis_loss="degrade", decisions=f"{world.name}-decisions")
    world.produce(sent[:700])
    world.wait_until_flushed(700, PATIENCE)
    redis.kill()
    wait_until(lambda: not worker.worker.ready, PATIENCE, "the worker to notice")
    world.produce(sent[700:])
    world.wait_until_done(PATIENCE)
    flags = {flag for message in world.decoded("decisions") for flag in message["flags"]}
    assert "state_missing:card" in flags
    redis.start()
    world.wait_until_flushed(len(sent), PATIENCE)
    findings = world.compare(job.reference(sent))
    assert (findings.state_different, findings.duplicated) == (0, 0)


def test_redis_evicts_keys(world: World, redis: RedisServer) -> None:
    with redis.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    error = world.start_thread().ended()
    assert isinstance(error, ConfigurationError)
    assert "maxmemory-policy" in str(error)


# -- kafka -------------------------------------------------------------------------------------


def test_group_offsets_were_rewound(world: World, admin: AdminClient) -> None:
    stop_at_rest(world, messages())
    place = TopicPartition(f"{world.name}-tx", 0, 1)
    group = ConsumerGroupTopicPartitions(world.name, [place])
    next(iter(admin.alter_consumer_group_offsets([group]).values())).result(10)
    error = world.start_thread().ended()
    assert isinstance(error, FatalError)
    assert "offsets were rewound" in str(error)


def test_group_offsets_were_deleted(world: World, admin: AdminClient) -> None:
    stop_at_rest(world, messages())
    admin.delete_consumer_groups([world.name])[world.name].result(10)
    error = world.start_thread().ended()
    assert isinstance(error, FatalError)
    assert "no committed offset" in str(error)


def test_log_no_longer_holds_what_state_needs(world: World, redis: RedisServer, admin: AdminClient) -> None:
    sent = messages()
    stop_at_rest(world, sent)
    with redis.client() as client:
        client.flushall()
    place = TopicPartition(f"{world.name}-tx", 0, 100)
    admin.delete_records([place])[place].result(10)
    error = world.start_thread().ended()
    assert isinstance(error, FatalError)
    assert "the log begins at 100" in str(error)
    assert "--accept-loss" in str(error)


def test_partitions_were_added(world: World, admin: AdminClient) -> None:
    stop_at_rest(world, messages())
    topic = f"{world.name}-tx"
    admin.create_partitions([NewPartitions(topic, job.PARTITIONS + 1)])[topic].result(10)

    def visible() -> bool:
        return len(admin.list_topics(topic, timeout=10).topics[topic].partitions) == job.PARTITIONS + 1

    wait_until(visible, PATIENCE, "the partition to be known")
    error = world.start_thread().ended()
    assert isinstance(error, ConfigurationError)
    assert "made differently" in str(error)


def test_topic_was_recreated(world: World, admin: AdminClient, make_topic: Callable[..., str]) -> None:
    stop_at_rest(world, messages())
    topic = f"{world.name}-tx"
    admin.delete_topics([topic])[topic].result(10)
    wait_until(lambda: topic not in admin.list_topics(timeout=10).topics, PATIENCE, "the topic to be gone")
    make_topic(topic, partitions=job.PARTITIONS)
    error = world.start_thread().ended()
    assert isinstance(error, ConfigurationError)
    assert "made differently" in str(error)


def test_log_ends_in_markers_only(world: World, redis: RedisServer) -> None:
    sent = messages()
    world.produce(sent)
    upstream = Producer(
        {"bootstrap.servers": world.kafka, "transactional.id": f"{world.name}-up", "log_level": 0}
    )
    upstream.init_transactions(10)
    upstream.begin_transaction()
    for partition in range(job.PARTITIONS):
        upstream.produce(f"{world.name}-tx", b"{}", b"k", partition)
    upstream.flush(10)
    upstream.abort_transaction(10)
    worker = world.start_thread()
    world.wait_until_done(PATIENCE)
    worker.stop()
    with redis.client() as client:
        client.flushall()
    world.start_thread()
    settle(world, sent)


def test_a_step_of_a_transaction_never_returns(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    release, returned = threading.Event(), threading.Event()

    class Stuck(Producer):
        """Sends offsets when it is too late, once."""

        def send_offsets_to_transaction(self, *arguments: Any) -> None:
            if stuck:
                return super().send_offsets_to_transaction(*arguments)
            stuck.append(arguments)
            release.wait()
            try:
                super().send_offsets_to_transaction(*arguments)
            finally:
                returned.set()

    stuck: list[tuple[Any, ...]] = []
    monkeypatch.setattr(clients, "Producer", Stuck)
    monkeypatch.setattr(delivery, "_NO_RETURN_AFTER", 1.0)
    sent = messages()
    world.produce(sent[:700])
    world.start_thread()
    world.wait_until_done(PATIENCE)
    assert stuck
    release.set()
    assert returned.wait(PATIENCE), "the call that was given up ends"
    world.produce(sent[700:])
    settle(world, sent)


def test_input_topic_is_missing(world: World, admin: AdminClient) -> None:
    topic = f"{world.name}-labels"
    admin.delete_topics([topic])[topic].result(10)
    wait_until(lambda: topic not in admin.list_topics(timeout=10).topics, PATIENCE, "the topic to be gone")
    error = world.start_thread().ended()
    assert isinstance(error, ConfigurationError)
    assert f"sources.labels.topic: topic '{topic}' does not exist" in str(error)


def test_no_broker_answers(world: World) -> None:
    error = world.start_thread(kafka="127.0.0.1:1").ended()
    assert isinstance(error, ConfigurationError)
    assert str(error).startswith("kafka.bootstrap_servers: no broker answers at 127.0.0.1:1")


def test_no_redis_answers_at_the_start(world: World) -> None:
    error = world.start_thread(redis='url = "redis://127.0.0.1:1/0"').ended()
    assert isinstance(error, ConfigurationError)
    assert str(error).startswith("redis.url: ")
