"""Real Apache Kafka 4.0, one KRaft node, on a free port.

with KafkaServer() as kafka:
    kafka.bootstrap, kafka.make_topic(partitions=4), kafka.kill(), kafka.start()
"""

from __future__ import annotations

import base64
import secrets
import shutil
import subprocess
import uuid
from collections.abc import Mapping
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from tests.servers.kafka_jars import ServerMissing, kafka_jars
from tests.servers.process import ServerProcess, free_port, wait_until

PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "500",
    "log.index.size.max.bytes": "1048576",
    "log.cleaner.dedupe.buffer.size": "8388608",
    "num.recovery.threads.per.data.dir": "1",
    # Events of tests are from the past: after five minutes a broker would begin to delete them.
    "log.retention.ms": "-1",
}


class KafkaServer(ServerProcess):
    """`properties` are added to the broker's own; `heap` is the JVM's maximum."""

    name = "kafka"

    def __init__(self, properties: Mapping[str, str] | None = None, *, heap: str = "768m") -> None:
        if shutil.which("java") is None:
            raise ServerMissing("Java is not installed: apt-get install openjdk-17-jre-headless")
        self._jars = kafka_jars()
        super().__init__()
        self._heap = heap
        self.port = free_port()
        self._settings = {**PROPERTIES, **self._addresses(), **(properties or {})}
        self._config = self.directory / "server.properties"
        self._config.write_text("".join(f"{key}={value}\n" for key, value in self._settings.items()))
        self._admin: AdminClient | None = None
        self._format()

    def _addresses(self) -> dict[str, str]:
        controller = free_port()
        return {
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "log.dirs": str(self.directory / "data"),
        }

    def _java(self, main: str, *arguments: str) -> list[str]:
        log_level = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        # A broker that is minutes old would spend much of two cores on compiling itself, with stalls of 0.2 s.
        compile_once = "-XX:TieredStopAtLevel=1"
        flags = [f"-Xmx{self._heap}", "-Xms256m", "-XX:+UseSerialGC", compile_once, "-Xshare:auto", log_level]
        return ["java", *flags, "-cp", f"{self._jars}/*", main, *arguments]

    def _format(self) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A", 1)
        command = self._java("kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(self._config))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"Kafka's storage could not be formatted: {done.stdout}{done.stderr}")

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return self._java("kafka.Kafka", str(self._config))

    def answers(self) -> bool:
        try:
            return bool(self.admin().list_topics(timeout=1).brokers)
        except KafkaException:
            return False

    def admin(self) -> AdminClient:
        """One admin client for the life of the server."""
        if self._admin is None:
            self._admin = AdminClient(
                {"bootstrap.servers": self.bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 200}
            )
        return self._admin

    def make_topic(
        self, name: str | None = None, *, partitions: int = 1, config: Mapping[str, str] | None = None
    ) -> str:
        """Create a topic (a new unique name by default) and return its name when the broker leads it."""
        name = name or f"t-{secrets.token_hex(5)}"
        create_topic(self.admin(), name, partitions, config or {})
        return name

    def close(self) -> None:
        self._admin = None
        super().close()

    def __enter__(self) -> Self:
        return super().__enter__()


def create_topic(admin: AdminClient, name: str, partitions: int, config: Mapping[str, str]) -> None:
    """Create a topic and wait until every partition has a leader."""
    topic = NewTopic(name, num_partitions=partitions, replication_factor=1, config=dict(config))
    admin.create_topics([topic])[name].result(30)

    def led() -> bool:
        found = admin.list_topics(name, timeout=10).topics[name].partitions
        return len(found) == partitions and all(part.leader >= 0 for part in found.values())

    wait_until(led, 30, f"topic {name} to have leaders")
