"""How long from a crash to new results, by size of the state; and from an emptied Redis.

Two workers; one is killed under load. The time runs until everything sent before the kill is scored and committed, the
group's session time-out included. `python -m benchmarks.recovery --keys 10000 100000` writes build/recovery.json.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tests.chaos.job import PARTITIONS, START
from tests.chaos.produced import Produced
from tests.chaos.world import World
from tests.servers.kafka_server import KafkaServer
from tests.servers.redis_server import RedisServer

OUT = Path(__file__).resolve().parents[1] / "build" / "recovery.json"
SESSION_MS = 1_500
PATIENCE = 900.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--delivery", choices=("exactly_once", "at_least_once"), default="exactly_once")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    rows = []
    with KafkaServer() as kafka:
        for keys in options.keys:
            with RedisServer() as redis:
                rows.append(measure(kafka, redis, keys, options.delivery))
            print(rows[-1], flush=True)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps({"session_ms": SESSION_MS, "rows": rows}, indent=2) + "\n")
    return 0


def measure(kafka: KafkaServer, redis: RedisServer, keys: int, delivery: str) -> dict[str, float | str]:
    """One size."""
    source = sales(keys)
    with tempfile.TemporaryDirectory() as directory:
        world = World(
            kafka.bootstrap, redis.url, Path(directory), kafka.make_topic,
            session_ms=SESSION_MS, batch=4_000, memory_mb=2_000, delivery=delivery,
        )  # fmt: skip
        with world:
            workers = [world.start_worker(ordinal) for ordinal in range(2)]
            for _ in range(0, keys, 20_000):
                world.produce([next(source) for _ in range(20_000)])
            world.wait_until_done(PATIENCE)
            total = sum(world.produced.values())
            world.wait_until_flushed(total, PATIENCE)
            memory = redis_memory(redis)
            world.produce([next(source) for _ in range(5_000)])
            begun = time.monotonic()
            workers[0].signal(signal.SIGKILL)
            world.produce([next(source) for _ in range(5_000)])
            world.wait_until_done(PATIENCE)
            crash = time.monotonic() - begun
            with redis.client() as client:
                client.flushall()
            begun = time.monotonic()
            world.produce([next(source) for _ in range(100)])
            world.wait_until_flushed(sum(world.produced.values()), PATIENCE)
            emptied = time.monotonic() - begun
            rates = [float(one) for one in re.findall(r'"rate": ([0-9.]+)', world.logs(1_000_000))]
    return {
        "keys": keys,
        "delivery": delivery,
        "crash_to_caught_up_s": round(crash, 2),
        "redis_emptied_to_rebuilt_s": round(emptied, 2),
        "redis_mb": round(memory / 2**20, 1),
        "best_rate_of_one_worker": max(rates),
    }


def redis_memory(redis: RedisServer) -> int:
    """Bytes that Redis holds."""
    with redis.client() as client:
        return int(client.info("memory")["used_memory"])


def sales(keys: int) -> Iterator[Produced]:
    """Each card once, then all over again."""
    number = 0
    while True:
        card = f"c{number % keys}"
        event = {
            "id": f"t{number}",
            "at": START + number,
            "card": card,
            "merchant": f"m{number % 500}",
            "amount": 9.5,
        }
        key = card.encode()
        yield Produced("tx", zlib.crc32(key) % PARTITIONS, key, msgspec.json.encode(event))
        number += 1


if __name__ == "__main__":
    sys.exit(main())
