"""Who calls, and may they: API keys or JSON Web Tokens, scopes, rate limits, the audit log.

The token comes as `Authorization: Bearer TOKEN` or `X-API-Key: TOKEN`. Without any key file or JWKS
file everything is refused, unless the service was started with `--insecure` on a loopback address.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from fastapi import Request

from stream.service.access.keys import SCOPES, KeyFile, Scope
from stream.service.access.tokens import TokenVerifier
from stream.service.limits import RateLimiter
from stream.service.problems import Problem
from stream.telemetry.logs import logger

_audit = logger("audit")
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="riskstream"'}


@dataclass(frozen=True)
class Caller:
    """Somebody known: `name` is a key's id or a token's subject, fit for logs."""

    name: str
    scopes: tuple[Scope, ...]


class AccessControl:
    """Decides on each request; one for the whole service."""

    def __init__(
        self, *, keys: KeyFile | None, tokens: TokenVerifier | None, insecure: bool, limiter: RateLimiter
    ) -> None:
        self._keys = keys
        self._tokens = tokens
        self._insecure = insecure
        self._limiter = limiter

    def admit(self, request: Request, scope: Scope) -> Caller:
        """The caller, if it may do what needs `scope`; raises Problem 401, 403 or 429."""
        caller = Caller("insecure", SCOPES) if self._insecure else self._identify(request)
        if caller is None:
            raise Problem(401, "unauthorized", "a valid API key or token is needed", headers=_CHALLENGE)
        if scope not in caller.scopes:
            raise Problem(403, "forbidden", f"this key lacks the scope {scope!r}")
        wait = self._limiter.wait_for(caller.name)
        if wait > 0:
            headers = {"Retry-After": str(max(1, round(wait)))}
            raise Problem(429, "too-many-requests", "over the rate limit of this key", headers=headers)
        if scope == "admin":
            _audit.info("admin call", caller=caller.name, method=request.method, path=request.url.path)
        return caller

    def _identify(self, request: Request) -> Caller | None:
        given = request.headers.getlist("authorization") + request.headers.getlist("x-api-key")
        if len(given) != 1:
            return None  # with two credentials nobody can say which one was meant
        token = given[0]
        if "authorization" in request.headers:
            scheme, _, bearer = token.partition(" ")
            token = bearer.strip() if scheme.lower() == "bearer" else ""
        if not token or len(token) > 8192:
            return None
        if self._keys is not None and token.startswith("rsk_"):
            key = self._keys.verify(token, now=datetime.now(UTC))
            return Caller(key.id, key.scopes) if key else None
        subject = self._tokens.verify(token) if self._tokens is not None else None
        return Caller(*subject) if subject else None


def needs(scope: Scope) -> Callable[[Request], Awaitable[Caller]]:
    """A FastAPI dependency that admits callers with `scope`."""

    async def admit(request: Request) -> Caller:
        access: AccessControl = request.app.state.access
        return access.admit(request, scope)

    return admit
