"""While a server is away the worker asks ever more rarely, says so once a minute, and takes in nothing meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from features.core.errors import RiskstreamError
from features.store.base import StoreUnavailable
from features.store.redis_store import RedisStore
from stream.kafka.client.consumer import InputConsumer
from stream.kafka.worker import recovery
from stream.telemetry.seldom import EVERY_S, Seldom
from tests.chaos import job
from tests.chaos.world import World
from tests.servers.process import wait_until


class Log:
    """Collects what is written."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def warning(self, event: str, **fields: object) -> None:
        self.lines.append((event, fields))


def test_a_warning_comes_once_a_minute_for_each_kind() -> None:
    now = 0.0
    log = Log()
    warnings = Seldom(log, lambda: now)  # type: ignore[arg-type]
    for _ in range(1_000):
        warnings.warning("waiting", 1, reason="a")
        warnings.warning("waiting", 2, reason="b")
    now = EVERY_S
    warnings.warning("waiting", 1, reason="a")
    assert log.lines == [
        ("waiting", {"reason": "a"}),
        ("waiting", {"reason": "b"}),
        ("waiting", {"reason": "a", "left_out": 999}),
    ]


def test_reads_are_tried_again_ever_more_rarely_and_nothing_is_fetched_meanwhile(
    kafka: str,
    redis_url: str,
    tmp_path: Path,
    make_topic: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Events that wait in the client used to end every pause at once: thousands of attempts a second."""
    away, attempts, log = threading.Event(), [0], Log()
    read, fetch, fetched = RedisStore.read, InputConsumer.fetch, [0]

    def reads(store: RedisStore, *arguments: Any) -> Any:
        if away.is_set():
            attempts[0] += 1
            raise StoreUnavailable("away")
        return read(store, *arguments)

    def fetches(consumer: InputConsumer, *arguments: Any) -> Any:
        out = fetch(consumer, *arguments)
        if attempts[0]:
            fetched[0] = max(fetched[0], out.count)
        return out

    monkeypatch.setattr(RedisStore, "read", reads)
    monkeypatch.setattr(InputConsumer, "fetch", fetches)
    monkeypatch.setattr(recovery, "_warnings", Seldom(log))  # type: ignore[arg-type]
    sent = list(job.events(6_000, seed=12))
    with World(kafka, redis_url, tmp_path, make_topic) as world:
        world.start_thread(0)
        world.produce(sent[:1_000])
        world.wait_until_done(60)
        away.set()
        world.produce(sent[1_000:])
        wait_until(lambda: attempts[0] >= 5, 60, "some attempts")
        assert attempts[0] < 10  # five take 1.5 seconds of pauses
        assert fetched[0] <= 500  # one batch
        assert [event for event, _ in log.lines] == ["waiting for redis"]
        away.clear()
        world.wait_until_done(60)
        world.wait_until_flushed(len(sent), 60)
        found = world.compare(job.reference(sent))
    assert found.failures == []


def test_held_partitions_go_on_where_they_were(
    kafka: str, redis_url: str, tmp_path: Path, make_topic: Callable[..., str]
) -> None:
    """Pausing throws away what the client has fetched ahead; none of it is lost and none comes twice."""
    sent = list(job.events(3_000, seed=13))
    with World(kafka, redis_url, tmp_path, make_topic) as world:
        worker = world.start_thread(0)
        wait_until(lambda: worker.worker.ready, 60, "the worker to own partitions")
        intake = worker.worker._intake
        following, fetched = intake.next, [0]

        def with_pauses(*arguments: Any, **more: Any) -> Any:
            if fetched[0]:  # a pause at every turn would leave the client no time to fetch again
                with intake.held():
                    if not intake.wait(0.01):
                        raise RiskstreamError("a rebalance that nobody asked for")
            batch = following(*arguments, **more)
            fetched[0] = batch.count
            return batch

        intake.next = with_pauses  # type: ignore[method-assign]
        world.produce(sent)
        world.wait_until_done(60)
        world.wait_until_flushed(len(sent), 60)
        found = world.compare(job.reference(sent))
    assert found.failures == []
