"""The clients against a server that refuses at first: what is tried again, how often, and what is not."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from stream.service.client import ApiError, AsyncClient, Client
from tests.servers.process import free_port

GOOD: dict[str, Any] = {
    "entity": "card",
    "key": "c1",
    "as_of": "now",
    "age_seconds": None,
    "features": {},
    "flags": [],
}
Ask = Callable[..., Any]


def asked_sync(url: str, **options: Any) -> Any:
    with Client(url, **options) as client:
        return client.features("card", "c1")


def asked_async(url: str, **options: Any) -> Any:
    async def run() -> Any:
        async with AsyncClient(url, **options) as client:
            return await client.features("card", "c1")

    return asyncio.run(run())


BOTH = pytest.mark.parametrize("ask", [asked_sync, asked_async])


@contextmanager
def answering(*statuses: int) -> Iterator[tuple[str, list[str]]]:
    """A server that answers with these statuses in turn; its address, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = statuses[len(asked)]
            asked.append(self.path)
            problem = {"title": "not now", "detail": "later", "errors": [{"path": "$", "detail": "x"}]}
            body = json.dumps(GOOD if status == 200 else problem).encode() if status != 502 else b"<html>"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


@BOTH
def test_what_passes_is_tried_again(ask: Ask) -> None:
    with answering(503, 429, 200) as (url, asked):
        assert ask(url).key == "c1"
    assert asked == ["/v1/features/card/c1"] * 3


@BOTH
def test_not_for_ever(ask: Ask) -> None:
    with answering(503, 503, 503, 200) as (url, asked), pytest.raises(ApiError) as caught:
        ask(url, retries=2)
    assert (caught.value.status, len(asked)) == (503, 3)


@BOTH
@pytest.mark.parametrize("status", [400, 401, 500, 502])
def test_other_errors_are_said_at_once(ask: Ask, status: int) -> None:
    with answering(status, 200) as (url, asked), pytest.raises(ApiError) as caught:
        ask(url)
    kind = "Bad Gateway" if status == 502 else "not now"
    assert (caught.value.status, caught.value.kind, len(asked)) == (status, kind, 1)
    assert caught.value.errors == (() if status == 502 else ({"path": "$", "detail": "x"},))


@BOTH
def test_a_refused_connection_is_raised_in_the_end(ask: Ask) -> None:
    with pytest.raises(httpx.ConnectError):
        ask(f"http://127.0.0.1:{free_port()}", retries=1)
