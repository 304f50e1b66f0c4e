"""A server process that a test starts, kills, pauses and starts again on the same port and data."""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import SystemRandom
from typing import IO, Self

# Below the ports that outgoing connections are given: one of those may take a port before its server does.
_PORTS = range(15_000, 32_000)
_LOCKS = Path(tempfile.gettempdir()) / "riskstream-ports"
_given: dict[int, IO[bytes]] = {}


def free_port() -> int:
    """A TCP port on loopback that was free a moment ago; no other is given it as long as this process lives."""
    _LOCKS.mkdir(exist_ok=True)
    for port in SystemRandom().sample(_PORTS, 1_000):
        if port not in _given and _reserve(port) and _is_free(port):
            return port
    raise RuntimeError("no free port")


def _reserve(port: int) -> bool:
    """A server may need seconds before it binds; the lock goes with its file, which goes with the process."""
    lock = (_LOCKS / str(port)).open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return False
    _given[port] = lock
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class ServerProcess:
    """Base of the local servers: a data directory, a log file, one process.

    A subclass gives the command (`command`) and says when the server answers (`answers`). The
    process is stopped at the end of the interpreter even if nobody did.
    """

    name = "server"
    start_seconds = 60.0

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=f"riskstream-{self.name}-"))
        self.log_path = self.directory / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start the server, with the data it had, and return when it answers."""
        assert not self.running, f"{self.name} is already running"
        assert os.environ.get("RISKSTREAM_TEST_SERVERS") != "none", (
            f"starts {self.name}: mark the test `server`"
        )
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        wait_until(self._is_up, self.start_seconds, f"{self.name} to answer")
        return self

    def _is_up(self) -> bool:
        if not self.running:
            raise RuntimeError(f"{self.name} did not start: {self.log_path.read_text()[-3000:]}")
        return self.answers()

    def stop(self) -> None:
        """SIGTERM, and wait for the end."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: a crash."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(number)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def pause(self) -> None:
        """SIGSTOP: the process is there and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT, after `pause`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def restart(self) -> Self:
        """Stop in good order, start again on the same data and port."""
        self.stop()
        return self.start()

    def close(self) -> None:
        """Kill the server and remove its data."""
        atexit.unregister(self.close)
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self if self.running else self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *exc: object) -> None:
        self.close()


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Ask until the condition holds; `TimeoutError` naming `what` after the given time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.02)
