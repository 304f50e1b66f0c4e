"""Shares as tasks of a Ray cluster (`pip install riskstream[ray]`); RAY_ADDRESS says which, else this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from features.core.errors import ConfigurationError, RiskstreamError
from stream.replay.backtest.inputs import KAFKA
from stream.replay.backtest.request import BacktestRequest
from stream.replay.backtest.shares.share_work import alone, checked, folder_of, score_share
from stream.replay.backtest.shares.spill import Ended, Shared


@contextmanager
def on_ray(request: BacktestRequest) -> Iterator[Ended]:
    """Start all shares of a request, each as one task; gives what became of each."""
    try:
        import ray
    except ImportError as error:
        raise ConfigurationError("--engine ray: install `riskstream[ray]`") from error
    started = not ray.is_initialized()
    if started:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a bank's backtest tells nobody
        ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    task: Any = ray.remote(max_retries=0)(_task)
    tasks = [task.remote(_absolute(request), number) for number in range(request.processes)]

    def ended(number: int) -> Shared | None:
        done, _ = ray.wait([tasks[number]], timeout=0)
        return checked(ray.get(done[0])) if done else None

    try:
        yield ended
    finally:
        for one in tasks:
            ray.cancel(one, force=True)
        if started:
            ray.shutdown()


def _task(request: BacktestRequest, number: int) -> Shared:
    try:
        with alone(folder_of(request, number)):
            return score_share(request, number, lambda: False)
    except RiskstreamError as error:
        return Shared(0, False, str(error))


def _absolute(request: BacktestRequest) -> BacktestRequest:
    """The same with paths that do not depend on where a task runs."""

    def absolute(path: Path | None) -> Path | None:
        return None if path is None else path.absolute()

    inputs = [
        text if text.startswith(KAFKA) or "://" in text else _named(*text.partition("="))
        for text in request.inputs
    ]
    return msgspec.structs.replace(
        request,
        inputs=inputs,
        config=request.config.absolute(),
        work=request.work.absolute(),
        policy=absolute(request.policy),
        definitions=absolute(request.definitions),
        profiles={name: str(Path(file).absolute()) for name, file in request.profiles.items()},
    )


def _named(source: str, equals: str, file: str) -> str:
    return f"{source}{equals}{Path(file).absolute()}"
