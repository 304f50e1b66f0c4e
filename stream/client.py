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
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import msgspec

Answer = TypeVar("Answer")
_PASSING = (429, 503)
_JITTER = random.SystemRandom()


class Reason(msgspec.Struct, frozen=True):
    """One ranked reason of a decision."""

    code: str
    feature: str
    value: float | str | None
    baseline: float | str | None
    contribution: float
    text: str


class ModelRef(msgspec.Struct, frozen=True):
    """Which model spoke."""

    name: str
    version: str
    sha256: str


class Prediction(msgspec.Struct, frozen=True):
    """Score and decision of one row of features."""

    score: float
    threshold: float | None
    decision: str
    severity: str
    reasons: tuple[Reason, ...]
    rules: tuple[str, ...]


class PredictResult(msgspec.Struct, frozen=True):
    """The answer of `predict`: one prediction a row."""

    model: ModelRef
    predictions: tuple[Prediction, ...]


class EventDecision(msgspec.Struct, frozen=True):
    """The answer of `score`: what the stream would decide at this moment; unknown members are kept out."""

    alert_id: str
    event_id: str
    decision: str
    severity: str
    model: ModelRef
    reasons: tuple[Reason, ...]
    features: dict[str, float | str | None]
    score: float | None = None
    threshold: float | None = None
    flags: tuple[str, ...] = ()


class EntityFeatures(msgspec.Struct, frozen=True):
    """The answer of `features`: what is known of one entity."""

    entity: str
    key: str
    as_of: str
    features: dict[str, dict[str, float | str | None]]
    flags: tuple[str, ...]
    age_seconds: float | None = None


class ApiError(Exception):
    """The service said no: `status`, `kind` and `errors` (path and detail) are those of its answer."""

    def __init__(self, status: int, kind: str, detail: str, errors: Sequence[Mapping[str, str]] = ()) -> None:
        super().__init__(f"{status} {kind}: {detail}")
        self.status = status
        self.kind = kind
        self.detail = detail
        self.errors = tuple(errors)


class Client:
    """The service, synchronously. One client holds one connection pool; close it, or use `with`."""

    def __init__(self, url: str, *, token: str | None = None, timeout: float = 5.0, retries: int = 2) -> None:
        self._http = httpx.Client(base_url=url, headers=_headers(token), timeout=timeout)
        self._retries = retries

    def predict(self, rows: Sequence[Mapping[str, Any]], *, model: str | None = None) -> PredictResult:
        """Score rows of features (POST /predict)."""
        return self._call("POST", "/predict", PredictResult, _predict_body(rows, model))

    def score(self, source: str, event: Mapping[str, Any]) -> EventDecision:
        """Score one event of a source with the features of this moment (POST /v1/score/{source})."""
        return self._call("POST", f"/v1/score/{source}", EventDecision, dict(event))

    def features(self, entity: str, key: str) -> EntityFeatures:
        """What is known of one entity (GET /v1/features/{entity}/{key})."""
        return self._call("GET", f"/v1/features/{entity}/{key}", EntityFeatures)

    def decision(self, event_id: str) -> dict[str, Any]:
        """What was decided of an event, and why (GET /v1/decisions/{event_id})."""
        return self._call("GET", f"/v1/decisions/{event_id}", dict[str, Any])

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(
        self, method: str, path: str, answer: type[Answer], body: Mapping[str, Any] | None = None
    ) -> Answer:
        for attempt in range(self._retries + 1):
            try:
                response = self._http.request(method, path, json=body)
            except httpx.ConnectError:
                if attempt == self._retries:
                    raise
                time.sleep(_pause(attempt, None))
                continue
            if response.status_code not in _PASSING or attempt == self._retries:
                break
            time.sleep(_pause(attempt, response))
        return _answer(response, answer)


class AsyncClient:
    """The same for asyncio."""

    def __init__(self, url: str, *, token: str | None = None, timeout: float = 5.0, retries: int = 2) -> None:
        self._http = httpx.AsyncClient(base_url=url, headers=_headers(token), timeout=timeout)
        self._retries = retries

    async def predict(self, rows: Sequence[Mapping[str, Any]], *, model: str | None = None) -> PredictResult:
        """Score rows of features (POST /predict)."""
        return await self._call("POST", "/predict", PredictResult, _predict_body(rows, model))

    async def score(self, source: str, event: Mapping[str, Any]) -> EventDecision:
        """Score one event of a source with the features of this moment (POST /v1/score/{source})."""
        return await self._call("POST", f"/v1/score/{source}", EventDecision, dict(event))

    async def features(self, entity: str, key: str) -> EntityFeatures:
        """What is known of one entity (GET /v1/features/{entity}/{key})."""
        return await self._call("GET", f"/v1/features/{entity}/{key}", EntityFeatures)

    async def decision(self, event_id: str) -> dict[str, Any]:
        """What was decided of an event, and why (GET /v1/decisions/{event_id})."""
        return await self._call("GET", f"/v1/decisions/{event_id}", dict[str, Any])

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(
        self, method: str, path: str, answer: type[Answer], body: Mapping[str, Any] | None = None
    ) -> Answer:
        for attempt in range(self._retries + 1):
            try:
                response = await self._http.request(method, path, json=body)
            except httpx.ConnectError:
                if attempt == self._retries:
                    raise
                await asyncio.sleep(_pause(attempt, None))
                continue
            if response.status_code not in _PASSING or attempt == self._retries:
                break
            await asyncio.sleep(_pause(attempt, response))
        return _answer(response, answer)


def _headers(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


def _predict_body(rows: Sequence[Mapping[str, Any]], model: str | None) -> dict[str, Any]:
    body: dict[str, Any] = {"rows": [dict(row) for row in rows]}
    return body if model is None else {**body, "model": model}


def _pause(attempt: int, response: httpx.Response | None) -> float:
    """What the service asks for, at most 10 s; else exponential from 50 ms with jitter."""
    asked = "" if response is None else response.headers.get("retry-after", "")
    return min(10.0, float(asked)) if asked.isdigit() else 0.05 * 2**attempt * (1 + _JITTER.random())


def _answer(response: httpx.Response, answer: type[Answer]) -> Answer:
    if response.is_success:
        return msgspec.json.decode(response.content, type=answer)
    try:
        problem = msgspec.json.decode(response.content, type=dict[str, Any])
    except msgspec.MsgspecError:
        problem = {}
    kind = str(problem.get("title", response.reason_phrase))
    raise ApiError(response.status_code, kind, str(problem.get("detail", "")), problem.get("errors", ()))
