"""Scores the shares of a run at the same time: in processes of this machine, or as tasks of a Ray cluster.

A share reads the inputs for itself and leaves its scores under the working folder, in parts, so that it goes on after
an interruption. Ray's nodes must see the inputs, the project and the working folder under the same paths.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

import msgspec

from features.errors import ConfigurationError, RiskstreamError
from stream.backtest.interrupts import interrupts
from stream.backtest.request import Request
from stream.backtest.run import Progress
from stream.backtest.share_work import Shared, alone, folder_of, note, score_share

_LOOK_S = 0.2


def score_shares(request: Request, progress: Progress | None = None) -> tuple[int, bool]:
    """Score all shares; (how many events all have gone through, whether these are all)."""
    if request.engine == "ray":
        from stream.backtest.ray_engine import on_ray

        return _joined(on_ray(request))
    context = multiprocessing.get_context("spawn")
    running = [
        context.Process(target=_process, args=(request, number, os.getpid()), name=f"share {number}")
        for number in range(request.processes)
    ]
    for number in range(request.processes):
        (folder_of(request, number) / "outcome.json").unlink(missing_ok=True)
    for process in running:
        process.start()
    _watch(request, running, progress)
    return _joined([_outcome(request, number, one) for number, one in enumerate(running)])


def _process(request: Request, number: int, parent: int) -> None:
    """A share's process. It stops in good order on SIGINT, and when its parent is no more."""
    folder = folder_of(request, number)
    try:
        with interrupts() as stopped, alone(folder):
            found = score_share(request, number, lambda: stopped() or os.getppid() != parent)
    except RiskstreamError as error:
        found = Shared(0, 0, False, str(error))
    except KeyboardInterrupt:
        return
    note(folder / "outcome.json", msgspec.json.encode(found).decode())


def _watch(request: Request, running: Sequence[BaseProcess], progress: Progress | None) -> None:
    """Until all have ended. An interrupt, or the end of one that failed, ends the others in good order."""
    ended = False
    with interrupts() as stopped:
        while any(process.is_alive() for process in running):
            failed = any(process.exitcode for process in running)
            if (stopped() or failed) and not ended:
                ended = True
                _interrupt(running)
            if progress is not None:
                done = [_progress(folder_of(request, number)) for number in range(len(running))]
                progress(sum(done) // len(done), 0)
            for process in running:
                process.join(_LOOK_S / len(running))


def _interrupt(running: Sequence[BaseProcess]) -> None:
    for process in running:
        if process.pid is not None and process.is_alive():
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGINT)


def _outcome(request: Request, number: int, process: BaseProcess) -> Shared:
    file = folder_of(request, number) / "outcome.json"
    if file.exists():
        return msgspec.json.decode(file.read_bytes(), type=Shared)
    how = f"process {number} of {request.processes} ended with {process.exitcode}"
    return Shared(0, 0, False, f"{how}; the same command goes on from what is done")


def _joined(shares: Sequence[Shared]) -> tuple[int, bool]:
    for one in shares:
        if one.error is not None:
            raise ConfigurationError(one.error)
    return min(one.events for one in shares), all(one.complete for one in shares)


def _progress(folder: Path) -> int:
    try:
        return int((folder / "progress").read_text())
    except (OSError, ValueError):
        return 0
