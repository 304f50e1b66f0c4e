"""Fixtures over real servers: Apache Kafka and Redis, local or in containers.

A server that cannot be had skips the test on a developer's machine and fails it in CI.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.servers import chosen
from tests.servers.chosen import Kafka, RedisLike
from tests.servers.kafka_jars import ServerMissing

SERVERS = {"kafka_server", "redis_server", "_session_redis"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts a server through a fixture, however far away: `make unit` leaves it out."""
    for item in items:
        if SERVERS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.server)


def _missing(error: ServerMissing) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"in CI a missing server is a failure: {error}", pytrace=False)
    pytest.skip(str(error))


@pytest.fixture(scope="session")
def kafka_server() -> Iterator[Kafka]:
    """The session's broker. A test that stops or kills a broker starts its own `KafkaServer`."""
    try:
        server = chosen.kafka()
    except ServerMissing as error:
        _missing(error)
    with server:
        yield server


@pytest.fixture(scope="session")
def kafka(kafka_server: Kafka) -> str:
    """Bootstrap address of the session's broker."""
    return kafka_server.bootstrap


@pytest.fixture
def make_topic(kafka_server: Kafka) -> Callable[..., str]:
    """`make_topic(name=None, *, partitions=1, config=None)`: a new topic's name."""
    return kafka_server.make_topic


@pytest.fixture
def redis_server() -> Iterator[Callable[..., RedisLike]]:
    """`redis_server(*options, persist=..., password=...)`: a server of the test's own."""
    with ExitStack() as stack:

        def start(*options: str, **settings: Any) -> RedisLike:
            try:
                server = chosen.redis(*options, **settings)
                stack.enter_context(server)
                return server
            except ServerMissing as error:
                _missing(error)
                raise

        yield start


@pytest.fixture(scope="session")
def _session_redis() -> Iterator[RedisLike]:
    try:
        server = chosen.redis()
    except ServerMissing as error:
        _missing(error)
    with server:
        yield server


@pytest.fixture
def redis_url(_session_redis: RedisLike) -> str:
    """URL of the session's Redis, emptied before each test."""
    with _session_redis.client() as client:
        client.flushall()
    return _session_redis.url
