"""Real Redis in other shapes than one plain server: a cluster, a primary watched by a sentinel, TLS.

with redis_cluster() as nodes: ...        # ("127.0.0.1:port", ...)
with redis_sentinel() as port: ...        # the sentinel's port; it watches "mymaster"
with redis_tls(directory) as server: ...  # server.ca_file, server.url (rediss://)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from tests.servers.certificates import Certificates
from tests.servers.process import free_port, wait_until
from tests.servers.redis_server import RedisServer


@contextmanager
def redis_cluster(size: int = 3) -> Iterator[tuple[str, ...]]:
    """Primaries that share the slots."""
    with ExitStack() as stack:
        servers = [
            stack.enter_context(RedisServer("--cluster-enabled", "yes", "--cluster-port", str(free_port())))
            for _ in range(size)
        ]
        _join(servers)
        yield tuple(f"127.0.0.1:{server.port}" for server in servers)


def _join(servers: list[RedisServer]) -> None:
    bounds = [16_384 * number // len(servers) for number in range(len(servers) + 1)]
    with servers[0].client() as client:
        bus = int(client.config_get("cluster-port")["cluster-port"])
    for number, server in enumerate(servers):
        with server.client() as client:
            client.execute_command("CLUSTER ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            client.execute_command("CLUSTER MEET", "127.0.0.1", servers[0].port, bus)
    for server in servers:
        wait_until(partial(_formed, server, len(servers)), 60, "the cluster to form")


def _formed(server: RedisServer, size: int) -> bool:
    with server.client() as client:
        info = client.execute_command("CLUSTER INFO")
    return bool(info["cluster_state"] == "ok" and info["cluster_known_nodes"] == str(size))


@contextmanager
def redis_sentinel(directory: Path) -> Iterator[int]:
    """A primary and one sentinel that watches it."""
    with RedisServer() as primary:
        path = directory / "sentinel.conf"
        path.write_text(f"sentinel monitor mymaster 127.0.0.1 {primary.port} 1\n")
        with _Sentinel(path) as watcher:
            yield watcher.port


class _Sentinel(RedisServer):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def command(self) -> list[str]:
        return ["redis-server", str(self._path), "--sentinel", "--port", str(self.port)]

    def answers(self) -> bool:
        with Redis(port=self.port) as client:
            try:
                return client.sentinel_get_master_addr_by_name("mymaster") is not None
            except (RedisError, TypeError):
                return False


class TlsRedisServer(RedisServer):
    """A server that speaks nothing but TLS and asks its clients for a certificate."""

    def __init__(self, certificates: Certificates) -> None:
        super().__init__()
        self.certificates = certificates

    @property
    def url(self) -> str:
        return f"rediss://localhost:{self.port}/0"

    def command(self) -> list[str]:
        given = self.certificates
        plain = super().command()
        plain[plain.index("--port") + 1] = "0"
        files = [
            "--tls-cert-file",
            str(given.cert),
            "--tls-key-file",
            str(given.key),
            "--tls-ca-cert-file",
            str(given.ca),
        ]
        return [*plain, "--tls-port", str(self.port), *files, "--tls-auth-clients", "yes"]

    def client(self) -> Redis:
        given = self.certificates
        return Redis.from_url(
            self.url, ssl_ca_certs=str(given.ca), ssl_certfile=str(given.cert), ssl_keyfile=str(given.key)
        )
