"""A worker as a process: settings to parts, signals to a clean end."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

import msgspec

from features.core.errors import ConfigurationError
from features.definitions.plan import Plan
from stream.codecs.alerts import AlertEncoder
from stream.kafka.client.side_producer import SideProducer
from stream.kafka.readers.past_alerts import recall
from stream.kafka.worker.wiring import connect
from stream.kafka.worker.worker import Worker
from stream.project import build
from stream.scoring.challengers import Challengers, Shadow
from stream.scoring.scorer import Scorer
from stream.scoring.swap import Swapper
from stream.settings.config import Config, load
from stream.telemetry.logs import logger
from stream.telemetry.metrics import Metrics

_log = logger("worker")
INTERRUPTED = 130
_GC_THRESHOLDS = (50_000, 20, 50)
_SWITCH_S = 0.0005


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
        swapper = Swapper(build.make_watched(config, plan, config.models.routes), scorer, _counted(metrics))
        remembered = partial(recall, config, plan, scorer)
        if config.worker.metrics_port:
            metrics.serve(config.worker.metrics_host, config.worker.metrics_port)
        swapper.start(config.models.poll_ms)
        try:
            with _shadow(config, plan, scorer, metrics), _signals() as stop:
                with connect(config, scorer, store, decoders) as clients:
                    Worker(clients, stop, metrics, swapper.between, remembered).run()
                return stop.code
        finally:
            swapper.stop()
    finally:
        store.close()


@contextmanager
def _shadow(config: Config, plan: Plan, scorer: Scorer, metrics: Metrics) -> Iterator[None]:
    """Let challengers see what the scorer scores, where the settings name some."""
    if not config.models.shadow:
        yield
        return
    topic = config.topics.decisions
    if not topic:
        raise ConfigurationError(f"{config.path}: models.shadow needs topics.decisions, where opinions go")
    models = {source: build.load_model(config, plan, name) for source, name in config.models.shadow.items()}
    challengers = Challengers(models, build.make_policy(config, plan))
    swapper = Swapper(build.make_watched(config, plan, config.models.shadow), challengers)
    encoder = AlertEncoder(plan)
    producer = SideProducer(config.kafka, lambda lost: metrics.shadow_dropped.labels("").inc(lost))
    shadow = Shadow(
        challengers,
        lambda decisions: producer.publish(topic, encoder.decisions(decisions)),
        lambda source, events: metrics.shadow_dropped.labels(source).inc(events),
        swapper.between,
    )
    scorer.observers.append(shadow.offer)
    shadow.start()
    swapper.start(config.models.poll_ms)
    try:
        yield
    finally:
        swapper.stop()
        shadow.close()
        producer.close()


def _counted(metrics: Metrics) -> Callable[[str, str], None]:
    def count(source: str, outcome: str) -> None:
        counter = metrics.model_swaps if outcome == "swapped" else metrics.swaps_refused
        counter.labels(source).inc()

    return count


class _Stop(threading.Event):
    """Set by the first signal; `code` is what the process then ends with."""

    code = 0


@contextmanager
def _signals() -> Iterator[_Stop]:
    """An event that SIGTERM and SIGINT set, in a process tuned for a worker."""
    stop = _Stop()

    def on_signal(number: int, _: FrameType | None) -> None:
        stop.code = INTERRUPTED if number == signal.SIGINT else 0
        _log.info("stopping", signal=signal.Signals(number).name)
        stop.set()

    # Batches are lists and columns without cycles, thousands of objects each: look for cycles seldom.
    gc.set_threshold(*_GC_THRESHOLDS)
    # The flusher packs in Python for milliseconds; a unit of work would wait 5 ms each time for its turn.
    sys.setswitchinterval(_SWITCH_S)
    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
