"""The HTTP service as a process: settings to parts, parts to uvicorn."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import msgspec
import uvicorn
from fastapi import FastAPI

from features.core.errors import ConfigurationError
from models.decision.decisions import Decisions
from stream.kafka.readers.decision_log import DecisionLog
from stream.project import build
from stream.scoring.scorer import Scorer
from stream.scoring.swap import Swapper
from stream.scoring.warm_up import warm_up
from stream.service.access.auth import Gate
from stream.service.access.keys import KeyFile
from stream.service.access.tokens import TokenVerifier
from stream.service.app import create_app
from stream.service.limits import RateLimiter
from stream.service.scoring.batching import Batcher, Lane
from stream.service.scoring.event_scorer import EventScorer
from stream.service.scoring.row_scorer import RowScorer, is_short
from stream.service.served import ServedModels
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
    gate = make_gate(config, settings, insecure=insecure)
    plan = build.make_plan(config)
    warm_up(plan, config.worker.shards)
    with ExitStack() as stack:
        store = build.make_store(config)
        stack.callback(store.close)
        scorer = build.make_scorer(config, plan, store)
        swapper = Swapper(build.make_watched(config, plan, config.models.routes), scorer)
        swapper.start(config.models.poll_ms)
        stack.callback(swapper.stop)
        models, metrics = ServedModels(scorer.routes), Metrics()

        def count_invalid(decisions: Decisions) -> None:
            source = decisions.features.batch.source.name
            metrics.scores_invalid.labels(source, decisions.mode).inc(decisions.invalid_scores)

        between = _between(swapper, scorer, models)
        decoders = {one.source.name: one for one in build.make_decoders(config, plan).values()}
        events = EventScorer(
            scorer,
            store,
            decoders,
            max_age_ms=config.worker.foreign_max_age_ms,
            shared=not config.redis.url.startswith("memory://"),
            between=between,
            count_invalid=count_invalid,
        )
        log = None
        if config.topics.decisions:
            log = DecisionLog(config.kafka, config.topics.decisions, settings.decisions_kept)
            stack.callback(log.close)
            log.start()
        lane, delay = Lane(), settings.batch_delay_ms / 1000
        rows = RowScorer(scorer, models, between, count_invalid)
        service = Service(
            scorer=scorer,
            models=models,
            events=events,
            lane=lane,
            event_batcher=Batcher(events.score, lane, max_batch=settings.max_batch, delay=delay),
            row_batcher=Batcher(rows.score, lane, max_batch=settings.max_batch, delay=delay, short=is_short),
            decisions=log,
            metrics=metrics,
            between=between,
            look=swapper.look,
        )
        return create_app(service, gate, settings, stack.pop_all().close)
    raise AssertionError("unreachable")


def make_gate(config: Config, settings: ApiSettings, *, insecure: bool) -> Gate:
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
    return Gate(
        keys=KeyFile(file) if file is not None else None,
        tokens=tokens,
        insecure=insecure,
        limiter=RateLimiter(settings.rate_per_second, settings.burst, time.monotonic),
    )


def _between(swapper: Swapper, scorer: Scorer, models: ServedModels) -> Callable[[], None]:
    def between() -> None:
        swapper.between()
        models.replace(scorer.routes)

    return between
