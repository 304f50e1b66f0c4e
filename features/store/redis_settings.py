"""Where Redis is and how to log in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from features.core.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True)
class RedisSettings:
    """Addresses, login and TLS of a store.

    Exactly one of `url` (`redis://` or `rediss://` host:port/db), `sentinels` with `service`, and
    `cluster` (some of its nodes) is given; hosts are `host:port`. `password_file` is read at every
    connection, so that a rotated password is picked up.
    """

    url: str | None = None
    sentinels: tuple[str, ...] = ()
    service: str = "mymaster"
    cluster: tuple[str, ...] = ()
    namespace: str = "riskstream"
    username: str | None = None
    password: str | None = None
    password_file: str | None = None
    tls: bool = False
    tls_ca_file: str | None = None
    tls_cert_file: str | None = None
    tls_key_file: str | None = None
    timeout_s: float = 5.0


def password_of(settings: RedisSettings) -> str:
    """The password, read from its file where one is named; ConfigurationError when that cannot be read."""
    if settings.password_file is None:
        return settings.password or ""
    try:
        return Path(settings.password_file).read_text().strip()
    except OSError as error:
        raise ConfigurationError(f"redis.password_file: cannot be read: {error}") from None


def address_of(text: str) -> tuple[str, int]:
    """Host and port of `host:port`; ConfigurationError for anything else."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigurationError(f"redis: expected host:port, got {text!r}")
    return host, int(port)
