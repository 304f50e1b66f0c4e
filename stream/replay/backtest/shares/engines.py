"""Scores the shares of a run at the same time: in processes of this machine, or as tasks of a Ray cluster.

A share reads the inputs for itself and leaves its scores under the working folder, in parts, so that it goes on after
an interruption. Ray's nodes must see the inputs, the project and the working folder under the same paths.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

import msgspec

from features.core.errors import ConfigurationError, RiskstreamError
from stream.replay.backtest.interrupts import interrupts
from stream.replay.backtest.request import BacktestRequest
from stream.replay.backtest.shares.share_work import alone, checked, folder_of, note, score_share
from stream.replay.backtest.shares.spill import Ended, Shared


@contextmanager
def shares_running(request: BacktestRequest) -> Iterator[Ended]:
    """Start all shares; gives what became of each. Those that still run at the end are stopped in good order."""
    if request.engine == "ray":
        from stream.replay.backtest.shares.ray_engine import on_ray

        with on_ray(request) as ended:
            yield ended
        return
    context = multiprocessing.get_context("spawn")
    running = [
        context.Process(target=_process, args=(request, number, os.getpid()), name=f"share {number}")
        for number in range(request.processes)
    ]
    for number, process in enumerate(running):
        _outcome_file(request, number).unlink(missing_ok=True)
        process.start()
    try:
        yield lambda number: _ended(request, number, running[number])
    finally:
        _stop(running)


def _process(request: BacktestRequest, number: int, parent: int) -> None:
    """A share's process. It stops in good order on SIGINT, and when its parent is no more."""
    try:
        with interrupts() as stopped, alone(folder_of(request, number)):
            found = score_share(request, number, lambda: stopped() or os.getppid() != parent)
    except RiskstreamError as error:
        found = Shared(0, False, str(error))
    except KeyboardInterrupt:
        found = Shared(0, False)
    note(_outcome_file(request, number), msgspec.json.encode(found).decode())


def _ended(request: BacktestRequest, number: int, process: BaseProcess) -> Shared | None:
    alive, file = process.is_alive(), _outcome_file(request, number)
    if file.exists():
        return checked(msgspec.json.decode(file.read_bytes(), type=Shared))
    if alive:
        return None
    how = f"process {number} of {request.processes} ended with {process.exitcode}"
    raise ConfigurationError(f"{how}; the same command goes on from what is done")


def _stop(running: Sequence[BaseProcess]) -> None:
    for process in running:
        if process.pid is not None and process.is_alive():
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGINT)
    for process in running:
        process.join()


def _outcome_file(request: BacktestRequest, number: int) -> Path:
    return folder_of(request, number) / "outcome.json"
