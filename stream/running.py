"""A worker as a process: settings to parts, signals to a clean end."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType

import msgspec

from stream import build
from stream.config import load
from stream.kafka.worker import Worker
from stream.logs import logger
from stream.metrics import Metrics

_log = logger("worker")
INTERRUPTED = 130


def run_worker(config_file: Path, ordinal: int | None = None) -> int:
    """Run until a signal or an error that cannot be waited out; returns the exit code."""
    config = load(config_file)
    if ordinal is not None:
        config = msgspec.structs.replace(
            config, worker=msgspec.structs.replace(config.worker, ordinal=ordinal)
        )
    plan = build.make_plan(config)
    decoders = build.make_decoders(config, plan)
    store = build.make_store(config)
    metrics = Metrics()
    try:
        scorer = build.make_scorer(config, plan, store)
        worker = Worker(config, scorer, store, decoders, metrics)
        if config.worker.metrics_port:
            metrics.serve(config.worker.metrics_host, config.worker.metrics_port)
        return _until_stopped(worker)
    finally:
        store.close()


def _until_stopped(worker: Worker) -> int:
    code = 0

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal code
        code = INTERRUPTED if number == signal.SIGINT else 0
        _log.info("stopping", signal=signal.Signals(number).name)
        worker.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    worker.run()
    return code
