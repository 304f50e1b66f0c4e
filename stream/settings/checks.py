"""Checks of settings that only the HTTP service needs: its certificate, and who may leave authentication out."""

from __future__ import annotations

import ipaddress
import ssl

from features.core.errors import ConfigurationError
from stream.settings.config import Config
from stream.settings.service import ApiSettings


def check_tls(config: Config, settings: ApiSettings) -> None:
    """ConfigurationError unless certificate and key, where named, can be used together."""
    if not settings.tls_cert_file:
        return
    cert, key = config.resolve(settings.tls_cert_file), config.resolve(settings.tls_key_file)
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(cert, key)
    except OSError as error:
        reason = error.strerror or str(error)
        files = f"api.tls_cert_file {cert} and api.tls_key_file {key}"
        raise ConfigurationError(
            f"{config.path}: {files}: {reason}; give a certificate and its key"
        ) from error


def check_insecure(host: str) -> None:
    """ConfigurationError unless the address is a loopback one: only there a service may do without authentication."""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        fix = "make keys with `riskstream api keys create`"
        raise ConfigurationError(f"--insecure is only for a loopback address, not {host}: {fix}")
