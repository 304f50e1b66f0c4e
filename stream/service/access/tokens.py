"""JSON Web Tokens checked against a JWKS file: the other way to say who calls."""

from __future__ import annotations

from pathlib import Path

import jwt
from jwt import PyJWK, PyJWKSet

from features.core.errors import ConfigurationError
from stream.service.access.keys import SCOPES, Scope

# Asymmetric only: a symmetric algorithm would make the public key file a signing key.
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]


class TokenVerifier:
    """Verifies signature, expiry, issuer and audience; scopes come from the `scope` claim.

    The file is read again when it changes: rotation is add the new key, sign with it, take the old one out.
    """

    def __init__(self, jwks_file: Path, *, issuer: str, audience: str) -> None:
        self._file = jwks_file
        self._stamp: tuple[int, int] | None = None
        self._known: dict[str, PyJWK] = {}
        self._issuer = issuer
        self._audience = audience
        self._keys()

    def _keys(self) -> dict[str, PyJWK]:
        """The keys by id. Raises ConfigurationError on a file that is broken or gone."""
        try:
            found = self._file.stat()
            stamp = (found.st_mtime_ns, found.st_size)
            if stamp != self._stamp:
                keys = PyJWKSet.from_json(self._file.read_text()).keys
                self._known, self._stamp = {key.key_id: key for key in keys if key.key_id}, stamp
        except (OSError, ValueError, jwt.PyJWTError) as error:
            raise ConfigurationError(f"api.jwks_file {self._file}: {error}") from error
        return self._known

    def verify(self, token: str) -> tuple[str, tuple[Scope, ...]] | None:
        """(subject, scopes) of a valid token, or None."""
        known = self._keys()
        try:
            key = known.get(jwt.get_unverified_header(token).get("kid", ""))
            if key is None:
                return None
            claims = jwt.decode(
                token,
                key,
                algorithms=_ALGORITHMS,
                issuer=self._issuer,
                audience=self._audience,
                options={"require": ["exp", "sub", "iss", "aud"]},
            )
        except jwt.PyJWTError:
            return None
        granted = str(claims.get("scope", "")).split()
        return str(claims["sub"]), tuple(scope for scope in SCOPES if scope in granted)
