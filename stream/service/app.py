"""The HTTP application: routes, errors, limits and counting put together."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stream.service import document, problems
from stream.service.access.auth import AccessControl
from stream.service.front import Api
from stream.service.limits import BoundedRequests
from stream.service.routes import events, inference, operations, predict
from stream.service.service import Service
from stream.settings.service import ApiSettings
from stream.telemetry.metrics import Metrics

_DESCRIPTION = "Scores events and rows of features as the stream does. Every error is a problem (RFC 9457)."


def create_app(
    service: Service, access: AccessControl, settings: ApiSettings, on_close: Callable[[], None] | None = None
) -> FastAPI:
    """The application over a running service; no cross-origin requests, no pages that need the network."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.executor.close()
        if on_close is not None:
            on_close()

    app = Api(
        title="riskstream",
        version=Service.version(),
        description=_DESCRIPTION,
        lifespan=life,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    app.state.access = access
    for routes in (predict, events, inference, operations):
        app.include_router(routes.router)
    problems.install(app)

    _shorten(app, service, settings)
    app.add_middleware(BoundedRequests, max_bytes=settings.max_body_bytes, timeout=settings.timeout_ms / 1000)
    app.add_middleware(Counted, metrics=service.metrics)
    app.openapi = lambda: document.openapi(app)  # type: ignore[method-assign]
    return app


def _shorten(app: Api, service: Service, settings: ApiSettings) -> None:
    """Answer the scoring routes without the framework's general handling."""

    def bounded(inner: ASGIApp) -> ASGIApp:
        bounds = BoundedRequests(inner, settings.max_body_bytes, settings.timeout_ms / 1000)
        return Counted(bounds, service.metrics)

    app.shorten("/predict", route_of(predict.router, "/predict"), {}, bounded)
    scoring = route_of(events.router, "/v1/score/{source}")
    for source in service.events.sources:
        app.shorten(f"/v1/score/{source}", scoring, {"source": source}, bounded)


def route_of(router: APIRouter, path: str) -> APIRoute:
    """The route that was declared for a path."""
    return next(one for one in router.routes if isinstance(one, APIRoute) and one.path == path)


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
