"""Kills, pauses and misleads workers, brokers and Redis while a stream flows; then compares with one calm pass.

    driver = Driver(directory, seed=1, kills=20, events=100_000)
    result = driver.run()        # result.findings.failures == [] or the protocol does not hold

Every named point of the protocol is hit at least once; the rest is drawn from the seed.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from stream.telemetry.moments import POINTS
from tests.chaos import job
from tests.chaos.produced import Produced
from tests.chaos.world import Findings, WorkerProcess, World
from tests.servers.kafka_server import KafkaServer
from tests.servers.process import wait_until
from tests.servers.redis_server import RedisServer

WORKERS = 2
SESSION_MS = 1_500
PATIENCE = 120.0
TOPUP = 200


@dataclass(slots=True)
class Result:
    """What was done, and what came of it."""

    kills: int = 0
    points: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    events: int = 0
    seconds: float = 0.0
    findings: Findings = field(default_factory=Findings)


class Driver:
    """One run. `broken` switches a rule off in the workers (tests/chaos/breaks.py)."""

    def __init__(
        self,
        directory: Path,
        *,
        seed: int,
        kills: int,
        events: int,
        broken: str = "",
        only: tuple[str, ...] = (),
    ) -> None:
        self._rng = random.Random(seed)
        self._kills = kills
        self._least_events = events
        self._broken = {"CHAOS_BREAK": broken} if broken else {}
        self._only = only
        self._directory = directory
        self._source = job.events(100 * events, seed)
        self._messages: list[Produced] = []
        self._snapshots: list[bytes] = []
        self.result = Result()

    def run(self, say: Callable[[str], None] = lambda _: None) -> Result:
        """The whole run on servers of its own."""
        begun = time.monotonic()
        job.reference(list(job.events(500, seed=0)))  # compiles, once for all workers
        with ExitStack() as stack:
            self._kafka = stack.enter_context(KafkaServer())
            self._redis = stack.enter_context(RedisServer())
            self._world = stack.enter_context(
                World(
                    self._kafka.bootstrap, self._redis.url, self._directory, self._kafka.make_topic,
                    session_ms=SESSION_MS, memory_mb=1,
                )
            )  # fmt: skip
            self._workers = [self._start(ordinal) for ordinal in range(WORKERS)]
            for fault, steps in self._plan():
                share = max(TOPUP, (self._least_events - len(self._messages)) // max(1, steps))
                self._produce(share)
                say(f"{self.result.kills} kills, {len(self._messages)} events, next: {fault}")
                self._do(fault)
            self._produce(max(0, self._least_events - len(self._messages)))
            self._finish()
        self.result.events = len(self._messages)
        self.result.seconds = round(time.monotonic() - begun, 1)
        return self.result

    def _plan(self) -> Iterator[tuple[str, int]]:
        """Faults until enough processes were killed: each point first, then a mix."""
        queue = [f"point:{name}" for name in POINTS]
        queue += [
            "zombie",
            "redis_older",
            "broker_restart",
            "redis_empty",
            "redis_connections",
            "point:in_replay",
        ]
        self._rng.shuffle(queue)
        if self._only:
            queue = list(self._only)
        while self.result.kills < self._kills or queue:
            fault = queue.pop(0) if queue else self._draw()
            yield fault, max(1, self._kills - self.result.kills) + len(queue)

    def _draw(self) -> str:
        if self._only:
            return self._rng.choice(self._only)
        names: tuple[str, ...] = (
            "random_kill",
            f"point:{self._rng.choice(POINTS)}",
            "zombie",
            "broker_restart",
        )
        names += ("redis_older", "redis_empty", "redis_connections", "both_killed", "rolling_restart")
        names += ("both_servers",)
        return self._rng.choices(names, (8, 8, 1, 0.5, 1, 0.5, 1, 1, 1, 0.5))[0]

    def _do(self, fault: str) -> None:
        self.result.faults[fault.partition(":")[0]] = self.result.faults.get(fault.partition(":")[0], 0) + 1
        if fault.startswith("point:"):
            self._kill_at_point(fault.partition(":")[2])
        else:
            getattr(self, f"_{fault}")()
        if self._rng.random() < 0.4:
            self._snapshots = [*self._snapshots[-3:], self._redis.snapshot()]

    # -- faults --------------------------------------------------------------------------------

    def _start(self, ordinal: int, **environment: str) -> WorkerProcess:
        return self._world.start_worker(ordinal, **self._broken, **environment)

    def _kill(self, ordinal: int) -> None:
        self._workers[ordinal].signal(signal.SIGKILL)
        self._workers[ordinal].wait(30)
        self.result.kills += 1

    def _restart(self, ordinal: int, **environment: str) -> None:
        self._workers[ordinal] = self._start(ordinal, **environment)

    def _random_kill(self) -> None:
        ordinal = self._rng.randrange(WORKERS)
        self._wait_for_progress(self._rng.randrange(1, 4_000))
        self._kill(ordinal)
        self._restart(ordinal)

    def _both_killed(self) -> None:
        self._wait_for_progress(self._rng.randrange(1, 2_000))
        for ordinal in range(WORKERS):
            self._kill(ordinal)
        for ordinal in range(WORKERS):
            self._restart(ordinal)

    def _rolling_restart(self) -> None:
        for ordinal in range(WORKERS):
            self._world.stop_worker(self._workers[ordinal])
            self._restart(ordinal)

    def _kill_at_point(self, name: str) -> None:
        """Replace a worker by one that ends at the point, feed it until it does, replace that too."""
        ordinal = self._rng.randrange(WORKERS)
        between = self._flush_all if name == "in_replay" else lambda: None
        self._kill(ordinal)
        count = 1 if name in ("in_recover", "in_replay") else self._rng.randrange(1, 4)
        self._restart(ordinal, RISKSTREAM_FAULT=f"{name}:{count}")
        self._feed_until(lambda: not self._workers[ordinal].running, f"the worker to die at {name}", between)
        code = self._workers[ordinal].wait(1)
        assert code == -signal.SIGKILL, f"ended with {code} before {name}: {self._world.logs()}"
        self.result.kills += 1
        self.result.points[name] = self.result.points.get(name, 0) + 1
        self._restart(ordinal)

    def _zombie(self) -> None:
        """A worker stopped at a point of its unit of work past the session's end, then woken."""
        ordinal = self._rng.randrange(WORKERS)
        name = self._rng.choice(("before_send_offsets", "before_commit", "after_commit", "before_flush"))
        self._kill(ordinal)
        self._restart(ordinal, RISKSTREAM_FAULT=f"{name}:2:STOP")
        zombie = self._workers[ordinal]
        self._feed_until(lambda: stopped(zombie.process.pid), f"the worker to stop at {name}")
        self._world.wait_until_done(PATIENCE, at_least=len(self._messages))
        zombie.signal(signal.SIGCONT)

    def _broker_restart(self) -> None:
        self._kafka.kill()
        self._kafka.start()

    def _both_servers(self) -> None:
        """Redis loses all as the broker dies: who waits for a unit of work may flush on while another replays."""
        ordinal = self._rng.randrange(WORKERS)
        self._wait_for_progress(self._rng.randrange(1, 2_000))
        self._flush_all()
        self._broker_restart()
        self._kill(ordinal)
        self._restart(ordinal)

    def _redis_connections(self) -> None:
        with self._redis.client() as client:
            client.execute_command("CLIENT KILL TYPE normal SKIPME yes")

    def _redis_older(self) -> None:
        self._wait_for_progress(self._rng.randrange(1, 2_000))
        self._redis.restore(self._rng.choice(self._snapshots) if self._snapshots else None)

    def _redis_empty(self) -> None:
        self._world.wait_until_flushed(1, PATIENCE)
        self._flush_all()

    def _calm(self) -> None:
        """No fault: wait until all workers have joined and recovered, which could heal, and Redis holds all of it."""
        wait_until(lambda: all(one.scores for one in self._workers), PATIENCE, "the workers to recover")
        self._world.wait_until_flushed(len(self._messages), PATIENCE)

    def _flush_all(self) -> None:
        with self._redis.client() as client:
            client.flushall()

    # -- flow ----------------------------------------------------------------------------------

    def _produce(self, count: int) -> None:
        messages = [next(self._source) for _ in range(count)]
        self._messages += messages
        self._world.produce(messages)

    def _wait_for_progress(self, events: int) -> None:
        wanted = min(self._world.committed() + events, len(self._messages) - 1)
        wait_until(lambda: self._world.committed() >= wanted, PATIENCE, f"progress. {self._world.logs()}")

    def _feed_until(
        self, happened: Callable[[], bool], what: str, between: Callable[[], None] = lambda: None
    ) -> None:
        """Keep a stream flowing until something happens; `between` is done after each stretch."""
        end = time.monotonic() + PATIENCE
        while not happened():
            if time.monotonic() > end:
                raise TimeoutError(f"waited {PATIENCE:g} s for {what}: {self._world.logs()}")
            self._produce(TOPUP)
            done = len(self._messages)
            wait_until(partial(self._fed, happened, done, end), 2 * PATIENCE, what)
            between()

    def _fed(self, happened: Callable[[], bool], done: int, end: float) -> bool:
        """Whether what is waited for happened, all that was sent is committed, or time is up."""
        return happened() or self._world.committed() >= done or time.monotonic() > end

    def _finish(self) -> None:
        self._world.wait_until_done(PATIENCE)
        self._world.wait_until_flushed(len(self._messages), PATIENCE)
        codes = [self._world.stop_worker(worker) for worker in self._workers]
        assert codes == [0] * WORKERS, f"{codes}: {self._world.logs()}"
        self.result.findings = self._world.compare(job.reference(self._messages))


def stopped(pid: int) -> bool:
    """Whether a process is under SIGSTOP."""
    status = Path(f"/proc/{pid}/status").read_text()
    return "State:\tT" in status
