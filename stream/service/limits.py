"""Bounds on what one caller can ask: body size, time, and requests a second."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stream.service.problems import Problem, problem_response


class RateLimiter:
    """A token bucket for each caller; the callers seen longest ago are forgotten beyond `most_callers`."""

    def __init__(
        self, rate: float, burst: int, clock: Callable[[], float], most_callers: int = 10_000
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._most = most_callers
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_for(self, caller: str) -> float:
        """Take one token: 0.0 if there was one, else the seconds until there will be."""
        now = self._clock()
        tokens, then = self._buckets.pop(caller, (float(self._burst), now))
        tokens = min(float(self._burst), tokens + (now - then) * self._rate)
        allowed = tokens >= 1.0
        self._buckets[caller] = (tokens - 1.0 if allowed else tokens, now)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1.0 - tokens) / self._rate


class BoundedRequests:
    """ASGI middleware: refuses bodies over `max_bytes` (413) and answers 503 after `timeout` seconds.

    The body is counted as it arrives, so that a missing or false Content-Length changes nothing.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, timeout: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._timeout = timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request within the bounds."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            async with asyncio.timeout(self._timeout):
                body = await self._read(receive)
                await self._app(scope, _replay(body, receive), watch)
        except _TooLarge:
            problem = Problem(413, "body-too-large", f"the body is larger than {self._max_bytes} bytes")
        except TimeoutError:
            problem = Problem(503, "timed-out", f"no answer within {self._timeout:g} s; try again later")
        else:
            return
        if not started:
            await problem_response(problem)(scope, receive, send)

    async def _read(self, receive: Receive) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return b"".join(chunks)
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > self._max_bytes:
                raise _TooLarge
            if not message.get("more_body", False):
                return b"".join(chunks)


class _TooLarge(Exception):
    """The body went over the limit."""


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give the body that was read once, then whatever the server says (a disconnect)."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
