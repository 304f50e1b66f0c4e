"""A real redis-server on a free port, without persistence unless asked.

with RedisServer() as redis:
    redis.url, redis.kill(), redis.start(), redis.snapshot(), redis.restore(snapshot)
"""

from __future__ import annotations

import shutil
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from tests.servers.kafka_jars import ServerMissing
from tests.servers.process import ServerProcess, free_port


class RedisServer(ServerProcess):
    """`options` go to the command line as they are: `"--maxmemory", "50mb"`, `"--cluster-enabled", "yes"`.

    `binary` may be another server of the same protocol (`valkey-server`). `persist` keeps the data
    over `stop` and `start`; without it a restarted server is empty, as after a total loss.
    """

    name = "redis"
    start_seconds = 30.0

    def __init__(
        self,
        *options: str,
        persist: bool = False,
        password: str | None = None,
        binary: str = "redis-server",
        port: int | None = None,
    ) -> None:
        if shutil.which(binary) is None:
            raise ServerMissing(f"{binary} is not installed: apt-get install redis-server")
        super().__init__()
        self._binary = binary
        self._options = options
        self._persist = persist
        self._password = password
        self.port = port or free_port()

    @property
    def url(self) -> str:
        login = f":{self._password}@" if self._password else ""
        return f"redis://{login}127.0.0.1:{self.port}/0"

    @property
    def dump_path(self) -> Path:
        return self.directory / "dump.rdb"

    def command(self) -> list[str]:
        fixed = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.directory), "--save", ""]
        append = ["--appendonly", "yes", "--appendfsync", "no"] if self._persist else ["--appendonly", "no"]
        login = ["--requirepass", self._password] if self._password else []
        return [self._binary, *fixed, *append, *login, *self._options]

    def client(self) -> Redis:
        """A client for the test's own questions; the caller closes it."""
        return Redis.from_url(self.url)

    def answers(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except RedisError:
                return False

    def snapshot(self) -> bytes:
        """The whole data set now, as an RDB file's bytes."""
        with self.client() as client:
            client.save()
        return self.dump_path.read_bytes()

    def restore(self, snapshot: bytes | None) -> None:
        """Crash, and come back with an older snapshot, or with nothing; not for `persist`."""
        assert not self._persist, "an append-only file would win over the snapshot"
        self.kill()
        self.dump_path.unlink(missing_ok=True)
        if snapshot is not None:
            self.dump_path.write_bytes(snapshot)
        self.start()

    def stop(self) -> None:
        if not self._persist:
            self.dump_path.unlink(missing_ok=True)
        super().stop()

    def kill(self) -> None:
        super().kill()
        if not self._persist:
            self.dump_path.unlink(missing_ok=True)
