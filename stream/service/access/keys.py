"""API keys: who may call, and for what.

A key is `rsk_<id>_<secret>`; the file holds only the SHA-256 of the secret. The secret has 256 random
bits, so that a plain fast hash is enough (there is nothing to guess), and is compared in constant time.
Several keys may be valid at once: rotation is create, move the callers, revoke. The file is read again
when it changes.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal, get_args

import msgspec

from features.core.errors import ConfigurationError

Scope = Literal["score", "read", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
_PREFIX = "rsk"
_NOBODY = hashlib.sha256(b"no such key").hexdigest()


class StoredKey(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the key file; never the secret itself."""

    id: str
    sha256: str
    scopes: tuple[Scope, ...]
    created: datetime
    expires: datetime | None = None
    revoked: bool = False


class KeyFile:
    """The keys in one JSON file. Not thread-safe; meant for one event loop or one command."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._keys: dict[str, StoredKey] = {}

    def keys(self) -> dict[str, StoredKey]:
        """All keys by id, read again if the file changed. Raises ConfigurationError on a broken file."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            self._keys, self._stamp = {}, None
            return self._keys
        stamp = (found.st_mtime_ns, found.st_size)
        if stamp != self._stamp:
            self._keys = {key.id: key for key in _read(self._path)}
            self._stamp = stamp
        return self._keys

    def create(
        self, scopes: Sequence[Scope], *, now: datetime, expires: datetime | None = None
    ) -> tuple[StoredKey, str]:
        """Add a key and return it with its token, which is shown this once and stored nowhere."""
        secret = secrets.token_urlsafe(32)
        key = StoredKey(
            id=secrets.token_hex(6), sha256=_hash(secret), scopes=tuple(scopes), created=now, expires=expires
        )
        self._write([*self.keys().values(), key])
        return key, f"{_PREFIX}_{key.id}_{secret}"

    def revoke(self, key_id: str) -> None:
        """Make a key useless at once. Raises ConfigurationError when there is none of that id."""
        keys = dict(self.keys())
        if key_id not in keys:
            raise ConfigurationError(
                f"no API key with id {key_id!r} in {self._path}: see `riskstream api keys list`"
            )
        keys[key_id] = msgspec.structs.replace(keys[key_id], revoked=True)
        self._write(list(keys.values()))

    def verify(self, token: str, *, now: datetime) -> StoredKey | None:
        """The key that `token` proves, or None when it is unknown, wrong, expired or revoked."""
        prefix, _, rest = token.partition("_")
        key_id, _, secret = rest.partition("_")
        key = self.keys().get(key_id)
        matches = hmac.compare_digest(_hash(secret), key.sha256 if key else _NOBODY)
        if prefix != _PREFIX or key is None or not matches or key.revoked:
            return None
        return None if key.expires is not None and key.expires <= now else key

    def _write(self, keys: list[StoredKey]) -> None:
        """Replace the file in one step, readable by its owner only."""
        handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.name)
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(keys), indent=2))
        Path(name).replace(self._path)


def _read(path: Path) -> list[StoredKey]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[StoredKey])
    except msgspec.MsgspecError as error:
        raise ConfigurationError(
            f"api.keys_file {path}: {error}; make keys with `riskstream api keys create`"
        ) from error


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
