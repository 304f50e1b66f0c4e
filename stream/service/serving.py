"""The HTTP service as a process: from settings to a service, and from a service to uvicorn."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import msgspec
import uvicorn
from fastapi import FastAPI

from features.core.errors import ConfigurationError
from features.definitions.plan import Plan
from features.store.base import Store
from models.decision.decisions import Decisions
from stream.kafka.readers.decision_log import DecisionLog
from stream.project import build
from stream.scoring.scorer import Scorer
from stream.scoring.swap import Swapper
from stream.scoring.warm_up import warm_up
from stream.service.access.auth import AccessControl
from stream.service.access.keys import KeyFile
from stream.service.access.tokens import TokenVerifier
from stream.service.app import create_app
from stream.service.limits import RateLimiter
from stream.service.scoring.batching import Batcher, SerialExecutor
from stream.service.scoring.entity_reader import EntityReader
from stream.service.scoring.event_scorer import EventScorer
from stream.service.scoring.row_scorer import RowScorer, is_short
from stream.service.scoring.served_models import ServedModels
from stream.service.scoring.state_reader import StateReader
from stream.service.service import Service
from stream.settings.checks import check_insecure, check_tls
from stream.settings.config import Config, load
from stream.settings.service import ApiSettings
from stream.telemetry.metrics import Metrics


def run_api(config_file: Path, *, host: str | None, port: int | None, insecure: bool) -> int:
    """Serve until a signal; returns the exit code."""
    config = load(config_file)
    settings = msgspec.structs.replace(
        config.api, host=host or config.api.host, port=config.api.port if port is None else port
    )
    check_tls(config, settings)
    app = make_app(config, settings, insecure=insecure)
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_level="warning",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ssl_certfile=config.resolve(settings.tls_cert_file) if settings.tls_cert_file else None,
        ssl_keyfile=config.resolve(settings.tls_key_file) if settings.tls_key_file else None,
        timeout_keep_alive=30,
    )
    return 0


def make_app(config: Config, settings: ApiSettings, *, insecure: bool) -> FastAPI:
    """The application of a project; its threads end with the application."""
    if insecure:
        check_insecure(settings.host)
    access = make_access(config, settings, insecure=insecure)
    plan = build.make_plan(config)
    warm_up(plan, config.worker.shards)
    stack = ExitStack()
    with stack:
        service = _service(config, settings, plan, stack)
        return create_app(service, access, settings, stack.pop_all().close)


def _service(config: Config, settings: ApiSettings, plan: Plan, stack: ExitStack) -> Service:
    """The parts of a service; what must be closed is put on the stack."""
    store = build.make_store(config)
    stack.callback(store.close)
    scorer = build.make_scorer(config, plan, store)
    swapper = _swapper(config, plan, scorer, stack)
    models, metrics = ServedModels(scorer.routes), Metrics()

    def current() -> None:
        swapper.between()
        models.replace(scorer.routes)

    def count_invalid(decisions: Decisions) -> None:
        source = decisions.features.batch.source.name
        metrics.scores_invalid.labels(source, decisions.mode).inc(decisions.invalid_scores)

    state = _state_reader(config, scorer, store)
    events = EventScorer(scorer, state, build.make_json_decoders(config, plan), count_invalid)
    executor, delay = SerialExecutor(current), settings.batch_delay_ms / 1000
    rows = RowScorer(scorer, models, count_invalid)
    return Service(
        scorer=scorer,
        models=models,
        events=events,
        entities=EntityReader(scorer, state),
        executor=executor,
        event_batcher=Batcher(events.score, executor, max_batch=settings.max_batch, delay=delay),
        row_batcher=Batcher(rows.score, executor, max_batch=settings.max_batch, delay=delay, short=is_short),
        decisions=_decision_log(config, settings, stack),
        metrics=metrics,
        look=swapper.look,
    )


def _swapper(config: Config, plan: Plan, scorer: Scorer, stack: ExitStack) -> Swapper:
    """Takes up promotions and new policies from now on."""
    swapper = Swapper(build.make_watched(config, plan, config.models.routes), scorer)
    swapper.start(config.models.poll_ms)
    stack.callback(swapper.stop)
    return swapper


def _state_reader(config: Config, scorer: Scorer, store: Store) -> StateReader:
    """Reads the state of entities as the workers left it."""
    return StateReader(
        scorer.engine,
        store,
        max_age_ms=config.worker.foreign_max_age_ms,
        shared=not config.redis.url.startswith("memory://"),
    )


def _decision_log(config: Config, settings: ApiSettings, stack: ExitStack) -> DecisionLog | None:
    """Published decisions, followed from now on; None where the project publishes none."""
    if not config.topics.decisions:
        return None
    log = DecisionLog(config.kafka, config.topics.decisions, settings.decisions_kept)
    stack.callback(log.close)
    log.start()
    return log


def make_access(config: Config, settings: ApiSettings, *, insecure: bool) -> AccessControl:
    """Who may call, as the settings say; ConfigurationError when nobody could."""
    file = Path(config.resolve(settings.keys_file)) if settings.keys_file else None
    if not insecure and not settings.jwks_file and (file is None or not file.exists()):
        fix = "make one with `riskstream api keys create`, or set api.jwks_file"
        raise ConfigurationError(f"{config.path}: api.keys_file: there are no API keys; {fix}")
    tokens = None
    if settings.jwks_file:
        tokens = TokenVerifier(
            Path(config.resolve(settings.jwks_file)),
            issuer=settings.jwt_issuer,
            audience=settings.jwt_audience,
        )
    return AccessControl(
        keys=KeyFile(file) if file is not None else None,
        tokens=tokens,
        insecure=insecure,
        limiter=RateLimiter(settings.rate_per_second, settings.burst, time.monotonic),
    )
