"""Rate and size limits, on a clock of the test's own."""

from __future__ import annotations

import asyncio
from typing import Any

from stream.service.limits import BoundedRequests, RateLimiter
from stream.service.scoring.batching import Batcher, SerialExecutor


def test_a_bucket_allows_a_burst_then_the_rate() -> None:
    now = [0.0]
    limiter = RateLimiter(rate=2, burst=3, clock=lambda: now[0])
    assert [limiter.wait_for("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert limiter.wait_for("b") == 0
    now[0] = 0.5
    assert [limiter.wait_for("a") for _ in range(2)] == [0, 0.5]


def test_callers_are_forgotten_beyond_the_bound() -> None:
    limiter = RateLimiter(rate=1, burst=1, clock=lambda: 0.0, most_callers=2)
    assert [limiter.wait_for(name) for name in "abca"] == [0, 0, 0, 0]
    assert limiter.wait_for("a") > 0


def _serve(app: Any, chunks: list[bytes]) -> list[Any]:
    sent: list[Any] = []
    waiting = [{"type": "http.request", "body": part, "more_body": True} for part in chunks]
    waiting.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> Any:
        return waiting.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app({"type": "http", "method": "POST", "path": "/", "headers": []}, receive, send))
    return sent


async def _echo(scope: Any, receive: Any, send: Any) -> None:
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message["body"]})


def test_a_body_in_pieces_is_counted_as_a_whole() -> None:
    bounded = BoundedRequests(_echo, max_bytes=10, timeout=5)
    assert _serve(bounded, [b"12345", b"67890"])[0]["status"] == 200
    assert _serve(bounded, [b"12345", b"678901"])[0]["status"] == 413


def test_an_answer_that_never_comes_is_a_503() -> None:
    async def stuck(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    assert _serve(BoundedRequests(stuck, max_bytes=10, timeout=0.01), [])[0]["status"] == 503


def test_requests_that_wait_are_scored_together_and_fail_alone() -> None:
    sizes: list[int] = []

    def score(items: Any) -> list[int | Exception]:
        sizes.append(len(items))
        return [ValueError("odd") if item % 2 else item * 10 for item in items]

    async def run() -> list[Any]:
        executor = SerialExecutor()
        batcher: Batcher[int, int] = Batcher(score, executor, max_batch=100, delay=0.0)
        answers = await asyncio.gather(*(batcher.submit(item) for item in range(50)), return_exceptions=True)
        executor.close()
        return answers

    answers = asyncio.run(run())
    assert [answer for answer in answers if isinstance(answer, int)] == [
        item * 10 for item in range(0, 50, 2)
    ]
    assert sum(isinstance(answer, ValueError) for answer in answers) == 25
    assert sizes == [50]
