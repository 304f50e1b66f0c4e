"""The HTTP application: routes, errors, limits and counting put together."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stream.api import document, problems
from stream.api.auth import Gate
from stream.api.limits import BoundedRequests
from stream.api.routes import events, inference, operations, predict
from stream.api.service import Service
from stream.api.settings import ApiSettings
from stream.metrics import Metrics

_DESCRIPTION = "Scores events and rows of features as the stream does. Every error is a problem (RFC 9457)."


def create_app(
    service: Service, gate: Gate, settings: ApiSettings, on_close: Callable[[], None] | None = None
) -> FastAPI:
    """The application over a running service; no cross-origin requests, no pages that need the network."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.lane.close()
        if on_close is not None:
            on_close()

    app = FastAPI(
        title="riskstream",
        version=Service.version(),
        description=_DESCRIPTION,
        lifespan=life,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    app.state.gate = gate
    for router in (
        predict.hot,
        events.hot,
        predict.router,
        events.router,
        inference.router,
        operations.router,
    ):
        app.include_router(router)
    problems.install(app)
    app.add_middleware(BoundedRequests, max_bytes=settings.max_body_bytes, timeout=settings.timeout_ms / 1000)
    app.add_middleware(Counted, metrics=service.metrics)
    app.openapi = lambda: document.openapi(app)  # type: ignore[method-assign]
    return app


class Counted:
    """ASGI middleware: counts requests and their time by route; never by what a caller wrote."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        status = 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.http_requests.labels(route, str(status)).inc()
            self._metrics.http_seconds.labels(route).observe(time.perf_counter() - begun)
