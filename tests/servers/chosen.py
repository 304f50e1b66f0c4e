"""Which servers the tests run on: local processes, or containers where a Docker engine answers.

`RISKSTREAM_TEST_SERVERS` = `local` or `docker` decides; without it, local ones where they are
installed (they start in three seconds), else containers. `none` is `make unit`'s: a test that starts a server fails.
"""

from __future__ import annotations

import os
from typing import Any, cast

from tests.servers.containers import KafkaContainer, RedisContainer, docker_answers
from tests.servers.kafka_jars import ServerMissing
from tests.servers.kafka_server import KafkaServer
from tests.servers.redis_server import RedisServer

Kafka = KafkaServer | KafkaContainer
RedisLike = RedisServer | RedisContainer


def _wanted() -> str:
    wanted = os.environ.get("RISKSTREAM_TEST_SERVERS", "")
    if wanted not in ("", "local", "docker", "none"):
        raise ValueError(f"RISKSTREAM_TEST_SERVERS: expected local, docker or none, got {wanted!r}")
    return wanted


def kafka() -> Kafka:
    """A broker that is not started yet; `ServerMissing` when there is none to be had."""
    if _wanted() == "docker":
        return KafkaContainer()
    try:
        return KafkaServer()
    except ServerMissing:
        if _wanted() == "local" or not docker_answers():
            raise
        return KafkaContainer()


def redis(*options: str, **settings: object) -> RedisLike:
    """A Redis that is not started yet; `ServerMissing` when there is none to be had."""
    given = cast(dict[str, Any], settings)
    if _wanted() == "docker":
        return RedisContainer(*options, **given)
    try:
        return RedisServer(*options, **given)
    except ServerMissing:
        if _wanted() == "local" or not docker_answers():
            raise
        return RedisContainer(*options, **given)
