"""The broker and Redis of a benchmark: started for it, or given on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from benchmarks.harness.measure import Servers
from tests.servers.kafka_server import KafkaServer
from tests.servers.redis_server import RedisServer

BROKER = {"transaction.max.timeout.ms": "900000"}


@contextmanager
def servers(kafka: str | None = None, redis_url: str | None = None) -> Iterator[Servers]:
    """Use those given, start the others: one Kafka node (1 GiB heap) and one Redis without persistence."""
    with ExitStack() as stack:
        if kafka is None:
            kafka = stack.enter_context(KafkaServer(BROKER, heap="1g")).bootstrap
        if redis_url is None:
            redis_url = stack.enter_context(RedisServer()).url
        yield Servers(kafka, redis_url)
