"""The same servers in containers, for machines with a Docker engine and without Java or redis-server."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from redis import Redis
from redis.exceptions import RedisError
from testcontainers.core.container import DockerContainer

from tests.servers.kafka_jars import ServerMissing
from tests.servers.kafka_server import PROPERTIES, create_topic
from tests.servers.process import free_port, wait_until

KAFKA_IMAGE = "apache/kafka:4.0.0"
REDIS_IMAGE = "redis:7.4"


def docker_answers() -> bool:
    """Whether a Docker engine can be asked for its version."""
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env(timeout=5)
    except DockerException:
        return False
    client.close()
    return True


class _Container:
    """Start, kill and restart a container that keeps its host port."""

    name = "container"

    def __init__(self, container: DockerContainer) -> None:
        if not docker_answers():
            raise ServerMissing(f"no Docker engine answers for {self.name}")
        self._container = container
        self._created = False

    def answers(self) -> bool:
        raise NotImplementedError

    def start(self) -> Self:
        if self._created:
            self._container.get_wrapped_container().start()
        else:
            self._container.start()
            self._created = True
        wait_until(self.answers, 90, f"{self.name} to answer")
        return self

    def stop(self) -> None:
        self._container.get_wrapped_container().stop()

    def kill(self) -> None:
        self._container.get_wrapped_container().kill()

    def pause(self) -> None:
        self._container.get_wrapped_container().pause()

    def resume(self) -> None:
        self._container.get_wrapped_container().unpause()

    def restart(self) -> Self:
        self.stop()
        return self.start()

    def close(self) -> None:
        self._container.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()


class KafkaContainer(_Container):
    """Apache's own image, with the properties of the local broker as its environment."""

    name = "kafka"

    def __init__(self, properties: Mapping[str, str] | None = None) -> None:
        self.port = free_port()
        settings = {
            **PROPERTIES,
            "listeners": f"PLAINTEXT://:{self.port},CONTROLLER://:29093",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "controller.quorum.voters": "1@localhost:29093",
            **(properties or {}),
        }
        container = DockerContainer(KAFKA_IMAGE).with_bind_ports(self.port, self.port)
        for key, value in settings.items():
            container = container.with_env("KAFKA_" + key.upper().replace(".", "_"), value)
        super().__init__(container)
        self._admin: AdminClient | None = None

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    def admin(self) -> AdminClient:
        if self._admin is None:
            self._admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        return self._admin

    def answers(self) -> bool:
        try:
            return bool(self.admin().list_topics(timeout=1).brokers)
        except KafkaException:
            return False

    def make_topic(
        self, name: str | None = None, *, partitions: int = 1, config: Mapping[str, str] | None = None
    ) -> str:
        name = name or f"t-{secrets.token_hex(5)}"
        create_topic(self.admin(), name, partitions, config or {})
        return name


class RedisContainer(_Container):
    """The official image; options go to the server's command line."""

    name = "redis"

    def __init__(self, *options: str, persist: bool = False, password: str | None = None) -> None:
        self.port = free_port()
        self._password = password
        append = ["--appendonly", "yes"] if persist else ["--save", "", "--appendonly", "no"]
        login = ["--requirepass", password] if password else []
        container = DockerContainer(REDIS_IMAGE).with_bind_ports(6379, self.port)
        super().__init__(container.with_command(["redis-server", *append, *login, *options]))

    @property
    def url(self) -> str:
        login = f":{self._password}@" if self._password else ""
        return f"redis://{login}127.0.0.1:{self.port}/0"

    def client(self) -> Redis:
        return Redis.from_url(self.url)

    def answers(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except RedisError:
                return False
