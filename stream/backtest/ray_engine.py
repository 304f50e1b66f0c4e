"""Shares as tasks of a Ray cluster (`pip install riskstream[ray]`); RAY_ADDRESS says which, else this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from features.errors import ConfigurationError, RiskstreamError
from stream.backtest.inputs import KAFKA
from stream.backtest.request import Request
from stream.backtest.share_work import Shared, alone, folder_of, score_share


def on_ray(request: Request) -> list[Shared]:
    """Score all shares of a request, each as one task."""
    try:
        import ray
    except ImportError as error:
        raise ConfigurationError("--engine ray: install `riskstream[ray]`") from error
    started = not ray.is_initialized()
    if started:
        ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        task: Any = ray.remote(_task)
        shares = [task.remote(_absolute(request), number) for number in range(request.processes)]
        found: list[Shared] = ray.get(shares)
        return found
    except KeyboardInterrupt:
        return [Shared(0, 0, False)] * request.processes
    finally:
        if started:
            ray.shutdown()


def _task(request: Request, number: int) -> Shared:
    try:
        with alone(folder_of(request, number)):
            return score_share(request, number, lambda: False)
    except RiskstreamError as error:
        return Shared(0, 0, False, str(error))


def _absolute(request: Request) -> Request:
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
