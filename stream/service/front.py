"""The application, with a short way in for what is asked thousands of times.

A framework's general handling of a request (routing, middlewares, dependencies) costs more than scoring a row
(benchmarks/http.py). So the scoring routes, known by their whole path, are called at once, within the same bounds,
counts, checks and answers to errors as all others; they stay in the OpenAPI document like these.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from stream.service.problems import problem_of, problem_response

Endpoint = Callable[..., Awaitable[Response]]


class Api(FastAPI):
    """FastAPI, but for POST to the paths given to `shorten`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._short: dict[str, ASGIApp] = {}

    def shorten(
        self, path: str, route: APIRoute, parameters: Mapping[str, str], around: Callable[[ASGIApp], ASGIApp]
    ) -> None:
        """Answer POST `path` by the route's endpoint, after its dependencies, `around` it what must be."""
        self._short[path] = around(_Short(self, route, parameters))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the application's life."""
        if scope["type"] == "http" and scope["method"] == "POST":
            short = self._short.get(scope["path"])
            if short is not None:
                await short(scope, receive, send)
                return
        await super().__call__(scope, receive, send)


class _Short:
    """ASGI: one route. Its dependencies take the request and nothing else, its endpoint returns a Response."""

    def __init__(self, app: FastAPI, route: APIRoute, parameters: Mapping[str, str]) -> None:
        self._app = app
        self._route = route
        self._parameters = dict(parameters)
        self._endpoint: Endpoint = route.endpoint
        self._checks = [one.dependency for one in route.dependencies if one.dependency is not None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self._app
        scope["route"] = self._route
        request = Request(scope, receive)
        try:
            for check in self._checks:
                await check(request)
            response = await self._endpoint(request, **self._parameters)
        except Exception as error:  # as the framework's handlers do: every error is a problem
            response = problem_response(problem_of(error))
        await response(scope, receive, send)
