"""A typed client of the HTTP service: sync and async, with time-outs and bounded retries.

    with Client("http://127.0.0.1:8080", token=os.environ["RISKSTREAM_TOKEN"]) as client:
        decision = client.score("transactions", {"transaction_id": "t1", ...})
        print(decision.decision, decision.score, decision.reasons)

Every call may block up to `timeout` seconds for each of `retries + 1` attempts. Only what passes is tried
again: a refused connection, 429 (after the time the service names) and 503. All calls are reads, so
that a repeated one does no harm. Errors are `ApiError` with the service's problem details.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from stream.codecs.contracts import Decision
from stream.service.scoring.bodies import EntityFeatures, PredictResponse

Answer = TypeVar("Answer")
_PASSING = (429, 503)
_JITTER = random.SystemRandom()


class ApiError(Exception):
    """The service said no: `status`, `kind` and `errors` (path and detail) are those of its answer."""

    def __init__(self, status: int, kind: str, detail: str, errors: Sequence[Mapping[str, str]] = ()) -> None:
        super().__init__(f"{status} {kind}: {detail}")
        self.status = status
        self.kind = kind
        self.detail = detail
        self.errors = tuple(errors)


@dataclass(frozen=True)
class Call(Generic[Answer]):
    """One request and how its answer is read, whoever sends it."""

    method: str
    path: str
    answer: type[Answer]
    body: Mapping[str, Any] | None = None

    def exchange(self, retries: int) -> Generator[float, httpx.Response | httpx.ConnectError, Answer]:
        """Yields the seconds to wait before each attempt, is sent what came of it, and returns the answer."""
        pause = 0.0
        for attempt in range(retries + 1):
            outcome = yield pause
            if isinstance(outcome, httpx.Response):
                if outcome.status_code not in _PASSING or attempt == retries:
                    return _read(outcome, self.answer)
                pause = _pause(attempt, outcome.headers.get("retry-after", ""))
            else:
                if attempt == retries:
                    raise outcome
                pause = _pause(attempt, "")
        raise AssertionError("unreachable")


def predict(rows: Sequence[Mapping[str, Any]], model: str | None) -> Call[PredictResponse]:
    """POST /predict."""
    body: dict[str, Any] = {"rows": [dict(row) for row in rows]}
    return Call("POST", "/predict", PredictResponse, body if model is None else {**body, "model": model})


def score(source: str, event: Mapping[str, Any]) -> Call[Decision]:
    """POST /v1/score/{source}."""
    return Call("POST", f"/v1/score/{quote(source, safe='')}", Decision, dict(event))


def features(entity: str, key: str) -> Call[EntityFeatures]:
    """GET /v1/features/{entity}/{key}."""
    return Call("GET", f"/v1/features/{quote(entity, safe='')}/{quote(key, safe='')}", EntityFeatures)


def decision(event_id: str) -> Call[Decision]:
    """GET /v1/decisions/{event_id}."""
    return Call("GET", f"/v1/decisions/{quote(event_id, safe='')}", Decision)


class Client:
    """The service, synchronously. One client holds one connection pool; close it, or use `with`."""

    def __init__(self, url: str, *, token: str | None = None, timeout: float = 5.0, retries: int = 2) -> None:
        self._http = httpx.Client(base_url=url, headers=_headers(token), timeout=timeout)
        self._retries = retries

    def predict(self, rows: Sequence[Mapping[str, Any]], *, model: str | None = None) -> PredictResponse:
        """Score rows of features: one prediction a row."""
        return self._send(predict(rows, model))

    def score(self, source: str, event: Mapping[str, Any]) -> Decision:
        """Score one event of a source with the features of this moment."""
        return self._send(score(source, event))

    def features(self, entity: str, key: str) -> EntityFeatures:
        """What is known of one entity."""
        return self._send(features(entity, key))

    def decision(self, event_id: str) -> Decision:
        """What was decided of an event, and why."""
        return self._send(decision(event_id))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, call: Call[Answer]) -> Answer:
        steps = call.exchange(self._retries)
        try:
            pause = next(steps)
            while True:
                time.sleep(pause)
                try:
                    pause = steps.send(self._http.request(call.method, call.path, json=call.body))
                except httpx.ConnectError as error:
                    pause = steps.send(error)
        except StopIteration as done:
            answer: Answer = done.value
            return answer


class AsyncClient:
    """The same for asyncio."""

    def __init__(self, url: str, *, token: str | None = None, timeout: float = 5.0, retries: int = 2) -> None:
        self._http = httpx.AsyncClient(base_url=url, headers=_headers(token), timeout=timeout)
        self._retries = retries

    async def predict(
        self, rows: Sequence[Mapping[str, Any]], *, model: str | None = None
    ) -> PredictResponse:
        """Score rows of features: one prediction a row."""
        return await self._send(predict(rows, model))

    async def score(self, source: str, event: Mapping[str, Any]) -> Decision:
        """Score one event of a source with the features of this moment."""
        return await self._send(score(source, event))

    async def features(self, entity: str, key: str) -> EntityFeatures:
        """What is known of one entity."""
        return await self._send(features(entity, key))

    async def decision(self, event_id: str) -> Decision:
        """What was decided of an event, and why."""
        return await self._send(decision(event_id))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _send(self, call: Call[Answer]) -> Answer:
        steps = call.exchange(self._retries)
        try:
            pause = next(steps)
            while True:
                await asyncio.sleep(pause)
                try:
                    pause = steps.send(await self._http.request(call.method, call.path, json=call.body))
                except httpx.ConnectError as error:
                    pause = steps.send(error)
        except StopIteration as done:
            answer: Answer = done.value
            return answer


def _headers(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


def _pause(attempt: int, asked: str) -> float:
    """What the service asks for, at most 10 s; else exponential from 50 ms with jitter."""
    return min(10.0, float(asked)) if asked.isdecimal() else 0.05 * 2**attempt * (1 + _JITTER.random())


def _read(response: httpx.Response, answer: type[Answer]) -> Answer:
    if response.is_success:
        return msgspec.json.decode(response.content, type=answer)
    try:
        problem = msgspec.json.decode(response.content, type=dict[str, Any])
    except msgspec.MsgspecError:
        problem = {}
    kind = str(problem.get("title", response.reason_phrase))
    raise ApiError(response.status_code, kind, str(problem.get("detail", "")), problem.get("errors", ()))
