"""JSON Web Tokens checked against a JWKS file: the other way to say who calls."""

from __future__ import annotations

from pathlib import Path

import jwt
from jwt import PyJWK, PyJWKSet

from features.errors import ConfigurationError
from stream.api.keys import SCOPES, Scope

# Asymmetric only: a symmetric algorithm would make the public key file a signing key.
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]


class TokenVerifier:
    """Verifies signature, expiry, issuer and audience; scopes come from the `scope` claim."""

    def __init__(self, jwks_file: Path, *, issuer: str, audience: str) -> None:
        try:
            self._keys: dict[str, PyJWK] = {
                key.key_id: key for key in PyJWKSet.from_json(jwks_file.read_text()).keys if key.key_id
            }
        except (OSError, ValueError, jwt.PyJWTError) as error:
            raise ConfigurationError(f"api.jwks_file {jwks_file}: {error}") from error
        self._issuer = issuer
        self._audience = audience

    def verify(self, token: str) -> tuple[str, tuple[Scope, ...]] | None:
        """(subject, scopes) of a valid token, or None."""
        try:
            key = self._keys.get(jwt.get_unverified_header(token).get("kid", ""))
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
