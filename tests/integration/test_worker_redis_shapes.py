"""The worker on every shape of Redis: exact, also over a worker that joins and leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from stream.demo.servers import valkey_binary
from tests.chaos import job
from tests.chaos.world import World
from tests.servers.certificates import make_certificates
from tests.servers.process import wait_until
from tests.servers.redis_groups import TlsRedisServer, redis_cluster, redis_sentinel
from tests.servers.redis_server import RedisServer


@contextmanager
def cluster(directory: Path) -> Iterator[str]:
    with redis_cluster() as nodes:
        yield f"cluster = {list(nodes)}"


@contextmanager
def sentinel(directory: Path) -> Iterator[str]:
    with redis_sentinel(directory) as port:
        yield f'sentinel = {{ service = "mymaster", nodes = ["127.0.0.1:{port}"] }}'


@contextmanager
def tls(directory: Path) -> Iterator[str]:
    given = make_certificates(directory)
    with TlsRedisServer(given) as server:
        files = f'tls_ca_file = "{given.ca}"\ntls_cert_file = "{given.cert}"\ntls_key_file = "{given.key}"'
        yield f'url = "{server.url}"\n{files}'


@contextmanager
def valkey(directory: Path) -> Iterator[str]:
    with RedisServer(binary=valkey_binary()) as server:
        yield f'url = "{server.url}"'


@pytest.mark.parametrize("shape", [cluster, sentinel, tls, valkey], ids=lambda shape: shape.__name__)
def test_two_workers_are_exact_on(
    shape: Callable[[Path], AbstractContextManager[str]],
    kafka: str,
    tmp_path: Path,
    make_topic: Callable[..., str],
) -> None:
    sent = list(job.events(6_000, seed=12))
    with shape(tmp_path) as redis, World(kafka, "", tmp_path, make_topic, redis=redis) as world:
        world.start_thread(0)
        world.produce(sent[:2_000])
        world.wait_until_done(60)
        second = world.start_thread(1)
        wait_until(lambda: second.worker.ready, 60, "a worker to own partitions")
        world.produce(sent[2_000:4_000])
        world.wait_until_done(60)
        second.stop()
        world.produce(sent[4_000:])
        world.wait_until_done(60)
        world.wait_until_flushed(len(sent), 60)
        assert world.compare(job.reference(sent)).failures == []
