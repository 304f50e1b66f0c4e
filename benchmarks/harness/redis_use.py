"""What Redis was asked: commands and bytes so far, from its own INFO."""

from __future__ import annotations

from dataclasses import dataclass

import redis


@dataclass(frozen=True, slots=True)
class RedisUse:
    """Counters since the server started, and what it holds. `memory` excludes the empty server's own."""

    commands: int
    bytes_in: int
    bytes_out: int
    memory: int
    keys: int


def redis_use(url: str) -> RedisUse:
    """The counters now."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        info = client.info("everything")
        return RedisUse(
            commands=info["total_commands_processed"],
            bytes_in=info["total_net_input_bytes"],
            bytes_out=info["total_net_output_bytes"],
            memory=info["used_memory_dataset"],
            keys=client.dbsize(),
        )


def empty(url: str) -> None:
    """Forget everything."""
    with redis.Redis.from_url(url) as client:
        client.flushall()
