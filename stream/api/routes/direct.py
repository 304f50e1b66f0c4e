"""Routes for what is asked thousands of times: the endpoint is called directly."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute


class Direct(APIRoute):
    """Calls the endpoint with the request and the path's parameters as they are, and returns its Response.

    FastAPI's general handling costs more than scoring a row (benchmarks/http.py). Dependencies take the request
    and nothing else; what an endpoint declares of its parameters is for the OpenAPI document only.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What answers a request."""
        checks = [one.dependency for one in self.dependencies if one.dependency is not None]
        endpoint = self.endpoint

        async def answer(request: Request) -> Response:
            for check in checks:
                await check(request)
            response: Response = await endpoint(request, **request.path_params)
            return response

        return answer
