"""The table `[api]` of riskstream.toml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from features.core.errors import ConfigurationError

Positive = Annotated[int, Meta(ge=1)]


class ApiSettings(Struct, frozen=True, kw_only=True):
    """How the HTTP service runs.

    host: Address to listen on.
    port: Port to listen on.
    keys_file: API keys (`riskstream api keys create`); empty: none.
    jwks_file: Public keys whose JSON Web Tokens are accepted; empty: none.
    jwt_issuer: Issuer that tokens must name.
    jwt_audience: Audience that tokens must name.
    tls_cert_file: Certificate; with `tls_key_file`, HTTPS is served.
    tls_key_file: Key of that certificate.
    rate_per_second: Requests a second of one key, on average.
    burst: Requests of one key at once.
    max_body_bytes: Larger bodies are refused.
    timeout_ms: Slower answers become 503.
    batch_delay_ms: How long an idle service waits for more requests to score together.
    max_batch: Most requests scored together.
    decisions_kept: Decisions that GET /v1/decisions can find.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8080
    keys_file: str = "api_keys.json"
    jwks_file: str = ""
    jwt_issuer: str = ""
    jwt_audience: str = ""
    tls_cert_file: str = ""
    tls_key_file: str = ""
    rate_per_second: Annotated[float, Meta(gt=0)] = 1000.0
    burst: Positive = 2000
    max_body_bytes: Positive = 1 << 20
    timeout_ms: Positive = 10_000
    batch_delay_ms: Annotated[float, Meta(ge=0, le=1000)] = 0.0
    max_batch: Positive = 256
    decisions_kept: Positive = 100_000


def check_api(settings: ApiSettings, file: Path) -> None:
    """What one setting of the table asks of another; ConfigurationError names both."""
    if settings.jwks_file and not (settings.jwt_issuer and settings.jwt_audience):
        raise ConfigurationError(f"{file}: api.jwks_file needs api.jwt_issuer and api.jwt_audience too")
    if bool(settings.tls_cert_file) != bool(settings.tls_key_file):
        raise ConfigurationError(f"{file}: api.tls_cert_file and api.tls_key_file go together; give both")
