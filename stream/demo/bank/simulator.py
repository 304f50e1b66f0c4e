"""The simulator's own process: sends the simulated bank's messages to Kafka at a rate.

    python -m stream.demo.bank.simulator --bootstrap localhost:9092 --rate 500 --seed 7

The messages of the days before day 0 go out at once: they fill windows. Then, with `--wait`, one line on
standard input is awaited. A header `simulated` says what an event truly is; nothing in its value does.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import time
from collections.abc import Iterator

import msgspec
from confluent_kafka import Producer

from stream.demo.bank.days import TOPICS, Emission, emissions
from stream.demo.bank.world import make_world, start_of

TRUTH_HEADER = "simulated"
WARM_UP = b"warm-up"
BROKEN = b"broken"
BROKEN_SHARE = 0.002
TICK_SECONDS = 0.005


class Simulator:
    """Sends emissions, some of them broken on purpose, and counts what the broker acknowledged."""

    def __init__(self, bootstrap: str, seed: int, warm_up_days: int) -> None:
        self.acknowledged: dict[str, int] = dict.fromkeys(TOPICS, 0)
        self.stopping = False
        self._encode = msgspec.json.Encoder().encode
        self._random = random.Random(seed)  # noqa: S311 - a simulation, not a secret
        self._stream = emissions(make_world(seed), -warm_up_days)
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "linger.ms": 2, "acks": "all", "enable.idempotence": True}
        )

    def warm_up(self) -> Emission:
        """Send all that lies before day 0; returns the first emission that does not."""
        first_live = start_of(0) // 1000
        for emission in self._stream:
            if emission.time_ms >= first_live:
                self._flush()
                return emission
            self._send(emission, self._encode(emission.value), WARM_UP)
        raise AssertionError("the simulated bank never closes")

    def run(self, first: Emission, rate: float, seconds: float) -> None:
        """Send live emissions, `rate` scored events a second, until the time is over or `stopping`."""
        begin = time.monotonic()
        sent = 0
        for emission in self._chained(first):
            while emission.scored and sent >= (time.monotonic() - begin) * rate and not self.stopping:
                self._producer.poll(TICK_SECONDS)
            if self.stopping or time.monotonic() - begin >= seconds:
                break
            sent += emission.scored
            value, truth = self._finished(emission)
            self._send(emission, value, truth)
        self._flush()

    def _chained(self, first: Emission) -> Iterator[Emission]:
        yield first
        yield from self._stream

    def _finished(self, emission: Emission) -> tuple[bytes, bytes]:
        if not emission.scored or self._random.random() >= BROKEN_SHARE:
            return self._encode(emission.value), emission.truth.encode()
        return self._break(emission), BROKEN

    def _break(self, emission: Emission) -> bytes:
        way = self._random.randrange(3)
        if way == 0:
            return self._encode(emission.value)[:-7]
        if way == 1:
            return self._encode({**emission.value, "amount": "12,0"})
        return self._encode({name: value for name, value in emission.value.items() if name != "event_time"})

    def _send(self, emission: Emission, value: bytes, truth: bytes) -> None:
        headers: list[tuple[str, str | bytes | None]] = [(TRUTH_HEADER, truth)]
        while True:
            try:
                self._producer.produce(
                    emission.topic, value, emission.key, headers=headers, on_delivery=self._delivered
                )
                return
            except BufferError:
                self._producer.poll(0.1)

    def _delivered(self, error: object, message: object) -> None:
        if error is None:
            self.acknowledged[message.topic()] += 1  # type: ignore[attr-defined]

    def _flush(self) -> None:
        left = self._producer.flush(30)
        if left:
            raise TimeoutError(f"{left} messages were not acknowledged in 30 s")


def parser() -> argparse.ArgumentParser:
    """The process's options."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--bootstrap", required=True)
    options.add_argument("--seed", type=int, default=7)
    options.add_argument("--rate", type=float, default=200.0)
    options.add_argument("--seconds", type=float, default=float("inf"))
    options.add_argument("--warm-up-days", type=int, default=7)
    options.add_argument("--wait", action="store_true")
    return options


def main() -> None:
    """Command line of the process."""
    given = parser().parse_args()
    simulator = Simulator(given.bootstrap, given.seed, given.warm_up_days)

    def stop(*_: object) -> None:
        simulator.stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN if given.wait else stop)
    first = simulator.warm_up()
    print(json.dumps({"warm_up": simulator.acknowledged}), flush=True)
    if given.wait and not sys.stdin.readline():
        return
    simulator.run(first, given.rate, given.seconds)
    print(json.dumps({"acknowledged": simulator.acknowledged}), flush=True)


if __name__ == "__main__":
    main()
