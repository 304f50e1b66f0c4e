"""One worker process and its children: start, freeze, thaw, stop, and what they cost.

CPU time is user plus system time of every process of the tree and of all its threads, children that
ended included, as the kernel counts it (/proc/PID/stat). Linux only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
GRACE_S = 20.0


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat after the command name; empty when the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text.rpartition(")")[2].split()


def _group_members(group: int) -> list[int]:
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in pids if (fields := _stat(pid)) and int(fields[2]) == group]


class WorkerProcess:
    """A worker in a process group of its own; a context manager that stops it."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                list(command), env=dict(env), stdout=out, stderr=out, start_new_session=True
            )

    @property
    def group(self) -> int:
        """The process group: the pid of its first process."""
        return self.process.pid

    def check(self) -> None:
        """RuntimeError with the end of its log when the worker has ended by itself."""
        if self.process.poll() is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
            raise RuntimeError(f"worker ended with {self.process.returncode}:\n{tail}")

    def cpu_s(self) -> float:
        """CPU seconds used so far by the whole tree."""
        ticks = 0
        for pid in _group_members(self.group):
            fields = _stat(pid)
            ticks += sum(int(field) for field in fields[11:15])
        return ticks * TICK_S

    def threads_cpu_s(self) -> dict[str, float]:
        """CPU seconds of the threads alive now, added up by thread name; the first one is "main"."""
        found: dict[str, float] = {}
        for pid in _group_members(self.group):
            for task in Path(f"/proc/{pid}/task").iterdir():
                try:
                    text = (task / "stat").read_text()
                except (FileNotFoundError, ProcessLookupError):
                    continue
                name, _, rest = text.partition("(")[2].rpartition(")")
                name = "main" if task.name == str(self.group) else name
                fields = rest.split()
                used = (int(fields[11]) + int(fields[12])) * TICK_S
                found[name] = found.get(name, 0.0) + used
        return found

    def rss_mb(self) -> float:
        """Peak resident memory, summed over the tree."""
        total = 0
        for pid in _group_members(self.group):
            try:
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            except (FileNotFoundError, ProcessLookupError):
                continue
            total += sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
        return total / 1024

    def freeze(self) -> None:
        """Stop every thread of the tree."""
        os.killpg(self.group, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen tree go on."""
        os.killpg(self.group, signal.SIGCONT)

    def settle(self, at_least_s: float, at_most_s: float = 40.0, busy: float = 0.15) -> None:
        """Return once the tree has been nearly idle for a second, and `at_least_s` have passed."""
        start = time.monotonic()
        while time.monotonic() - start < at_most_s:
            before = self.cpu_s()
            time.sleep(1.0)
            quiet = self.cpu_s() - before < busy
            if quiet and time.monotonic() - start >= at_least_s:
                return

    def stop(self) -> None:
        """Ask the tree to end, then make it."""
        for number, wait_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, GRACE_S)):
            try:
                os.killpg(self.group, number)
                self.process.wait(wait_s)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass
            if not _group_members(self.group):
                return

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
