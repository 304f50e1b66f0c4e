"""The demo's child processes: the simulator, and a worker as anyone would start it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from features.core.errors import FatalError, RetriableError
from stream.demo.bank.days import TOPICS
from stream.kafka.readers.log import TopicLog
from stream.settings.tables import Kafka

GROUP = "demo"
COMMAND = (sys.executable, "-m", "riskstream")


class SimulatorProcess:
    """The simulator's process, and what it prints on standard output."""

    def __init__(self, bootstrap: str, seed: int, rate: float, seconds: float, warm_up_days: int) -> None:
        options = {"bootstrap": bootstrap, "seed": seed, "rate": rate, "seconds": seconds}
        command = [
            sys.executable,
            "-m",
            "stream.demo.bank.simulator",
            "--wait",
            f"--warm-up-days={warm_up_days}",
        ]
        self._process = subprocess.Popen(
            [*command, *(f"--{name}={value}" for name, value in options.items())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        _end(self._process)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def warmed_up(self) -> int:
        """Wait until all messages of the days before day 0 are in Kafka; returns how many."""
        return sum(self._line("warm_up").values())

    def go(self) -> None:
        """Let it send live events."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    @property
    def running(self) -> bool:
        """Whether it may still send."""
        return self._process.poll() is None

    def stop(self) -> None:
        """Ask it to end and wait until all it sent is in Kafka."""
        _end(self._process)

    def _line(self, word: str) -> dict[str, int]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise FatalError(f"the simulator ended early, with exit code {self._process.wait()}")
        counts: dict[str, int] = json.loads(line)[word]
        return counts


def riskstream(arguments: list[str], variables: Mapping[str, str]) -> None:
    """Run a command of riskstream to its end; FatalError with its last output when it fails."""
    done = subprocess.run(
        [*COMMAND, *arguments], env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise FatalError(
            f"riskstream {' '.join(arguments)} failed: {done.stdout[-1000:]}{done.stderr[-1000:]}"
        )


@contextmanager
def compiling() -> Iterator[None]:
    """Compile what the worker will call while something else is done; at the end it is compiled."""
    process = subprocess.Popen([sys.executable, "-m", "stream.demo.compiling"], stderr=subprocess.DEVNULL)
    try:
        yield
        process.wait()
    finally:
        _end(process)


@contextmanager
def worker(config: Path, variables: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`riskstream worker --config ...`, its log in a file; drained at the end."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*COMMAND, "worker", "--config", str(config)],
            env={**os.environ, **variables},
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _end(process)


def await_caught_up(
    bootstrap: str, process: subprocess.Popen[bytes], log: Path, patience: float = 120
) -> None:
    """Return when the worker's committed offsets have reached the ends of all input topics."""
    pause = threading.Event()
    with TopicLog(Kafka(bootstrap_servers=bootstrap, group_id=GROUP), "offsets", recovering=True) as inputs:
        for _ in range(int(patience / 0.1)):
            if process.poll() is not None:
                raise FatalError(f"the worker ended with exit code {process.returncode}: {_tail(log)}")
            if _lag(inputs) == 0:
                return
            pause.wait(0.1)
    raise FatalError(f"the worker did not catch up in {patience:g} s; its log: {log}: {_tail(log)}")


def _lag(inputs: TopicLog) -> int | None:
    """Messages that the group has not committed, over all input topics; None while the brokers do not say."""
    try:
        partitions = [(topic, number) for topic in TOPICS for number in inputs.partitions(topic)]
        bounds = {partition: inputs.bounds(partition) for partition in partitions}
        offsets = inputs.committed(partitions)
    except RetriableError:
        return None
    return sum(high - max(offsets.get(partition, low), low) for partition, (low, high) in bounds.items())


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]


def _end(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
