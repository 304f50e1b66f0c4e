"""Errors as RFC 9457 problem details: what was wrong, where, and what was expected."""

from __future__ import annotations

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from features.errors import ConfigurationError, InvalidEvent, RetriableError
from stream.logs import logger

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

    @app.exception_handler(Problem)
    async def own(_: Request, error: Problem) -> Response:
        return problem_response(error)

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> Response:
        fields = tuple(FieldError(_path(item["loc"]), str(item["msg"])) for item in error.errors())
        first = fields[0]
        return problem_response(Problem(422, "invalid-request", f"{first.path}: {first.detail}", fields))

    @app.exception_handler(InvalidEvent)
    async def invalid(_: Request, error: InvalidEvent) -> Response:
        field = FieldError(error.path, error.reason)
        return problem_response(Problem(422, "invalid-event", f"{error.path}: {error.reason}", (field,)))

    @app.exception_handler(RetriableError)
    async def passing(_: Request, error: RetriableError) -> Response:
        return problem_response(Problem(503, "unavailable", str(error), headers={"Retry-After": "1"}))

    @app.exception_handler(ConfigurationError)
    async def misconfigured(_: Request, error: ConfigurationError) -> Response:
        _log.error("cannot answer", reason=str(error))
        return problem_response(
            Problem(503, "unavailable", "the service's own files are not as they must be")
        )

    @app.exception_handler(HTTPException)
    async def plain(_: Request, error: HTTPException) -> Response:
        kind = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "refused")
        return problem_response(
            Problem(error.status_code, kind, str(error.detail), headers=dict(error.headers or {}))
        )

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, error: Exception) -> Response:
        _log.error("unforeseen error", error=type(error).__name__)
        return problem_response(
            Problem(500, "internal", "an error of the service, not of the request; it has been logged")
        )


def _sendable(text: str) -> str:
    """The text as UTF-8 can carry it: what a caller sent may hold halves of surrogate pairs."""
    return text.encode(errors="replace").decode()


def _path(location: tuple[int | str, ...]) -> str:
    """`("body", "rows", 0, "amount")` as `$.rows[0].amount`; parameters as their name."""
    head, *rest = location
    if head != "body":
        return str(rest[-1] if rest else head)
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in rest)
