"""Errors as RFC 9457 problem details: what was wrong, where, and what was expected."""

from __future__ import annotations

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from features.core.errors import ConfigurationError, InvalidEvent, RetriableError, RiskstreamError
from stream.telemetry.logs import logger

MEDIA_TYPE = "application/problem+json"
_log = logger("api")


class FieldError(msgspec.Struct, frozen=True):
    """One field that is not as it must be: a JSON path and what was expected there."""

    path: str
    detail: str


class Problem(Exception):
    """An answer that is an error; `errors` names the fields, `headers` go with it."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        errors: tuple[FieldError, ...] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.errors = errors
        self.headers = headers


class ProblemBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """The JSON body of a problem (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errors: tuple[FieldError, ...] = ()


def problem_response(problem: Problem) -> Response:
    """A problem as an HTTP response."""
    body = ProblemBody(
        type=f"urn:riskstream:problem:{problem.kind}",
        title=problem.kind.replace("-", " "),
        status=problem.status,
        detail=_sendable(problem.detail),
        errors=tuple(FieldError(_sendable(one.path), _sendable(one.detail)) for one in problem.errors),
    )
    return Response(msgspec.json.encode(body), problem.status, problem.headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Answer every error of `app` as a problem, without a stack trace."""

    async def answer(_: Request, error: Exception) -> Response:
        return problem_response(problem_of(error))

    for kind in (Problem, RiskstreamError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, answer)


def problem_of(error: Exception) -> Problem:
    """What to answer when this was raised; what nobody foresaw is logged by its kind."""
    match error:
        case Problem():
            return error
        case InvalidEvent(path=path, reason=reason):
            return Problem(422, "invalid-event", f"{path}: {reason}", (FieldError(path, reason),))
        case RetriableError():
            return Problem(503, "unavailable", str(error), headers={"Retry-After": "1"})
        case ConfigurationError():
            _log.error("cannot answer", reason=str(error))
            return Problem(503, "unavailable", "the service's own files are not as they must be")
        case RequestValidationError():
            fields = tuple(FieldError(_path(item["loc"]), str(item["msg"])) for item in error.errors())
            return Problem(422, "invalid-request", f"{fields[0].path}: {fields[0].detail}", fields)
        case HTTPException(status_code=status):
            kind = {404: "not-found", 405: "method-not-allowed"}.get(status, "refused")
            return Problem(status, kind, str(error.detail), headers=dict(error.headers or {}))
    _log.error("unforeseen error", error=type(error).__name__)
    return Problem(500, "internal", "an error of the service, not of the request; it has been logged")


def _sendable(text: str) -> str:
    """The text as UTF-8 can carry it: what a caller sent may hold halves of surrogate pairs."""
    return text.encode(errors="replace").decode()


def _path(location: tuple[int | str, ...]) -> str:
    """`("body", "rows", 0, "amount")` as `$.rows[0].amount`; parameters as their name."""
    head, *rest = location
    if head != "body":
        return str(rest[-1] if rest else head)
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in rest)
