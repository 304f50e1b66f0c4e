"""Keys: made, found, expired, revoked, rotated; the file never holds a secret."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from features.core.errors import ConfigurationError
from stream.service.access.keys import KeyFile

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys.json")


def test_a_key_proves_its_owner_and_the_file_holds_no_secret(keys: KeyFile, tmp_path: Path) -> None:
    key, token = keys.create(["score"], now=NOW)
    found = keys.verify(token, now=NOW)
    assert found is not None
    assert (found.id, found.scopes) == (key.id, ("score",))
    text = (tmp_path / "keys.json").read_text()
    assert token.rsplit("_", 1)[1] not in text
    assert (tmp_path / "keys.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t[:-1],
        lambda t: t + "x",
        lambda t: t.upper(),
        lambda t: "",
        lambda t: "rsk__",
        lambda t: "rsk_a_b",
    ],
)
def test_a_wrong_token_proves_nothing(keys: KeyFile, change) -> None:
    _, token = keys.create(["score"], now=NOW)
    assert keys.verify(change(token), now=NOW) is None


def test_an_expired_key_and_a_revoked_key_are_useless(keys: KeyFile) -> None:
    _, expiring = keys.create(["score"], now=NOW, expires=NOW + timedelta(hours=1))
    revoked, token = keys.create(["score"], now=NOW)
    keys.revoke(revoked.id)
    assert keys.verify(expiring, now=NOW + timedelta(minutes=59)) is not None
    assert keys.verify(expiring, now=NOW + timedelta(hours=1)) is None
    assert keys.verify(token, now=NOW) is None


def test_a_change_by_another_process_is_seen(keys: KeyFile, tmp_path: Path) -> None:
    assert keys.keys() == {}
    _, token = KeyFile(tmp_path / "keys.json").create(["read"], now=NOW)
    assert keys.verify(token, now=NOW) is not None


def test_a_broken_file_names_the_setting(keys: KeyFile, tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text("[{]")
    with pytest.raises(ConfigurationError, match=r"api\.keys_file"):
        keys.keys()


def test_revoking_an_unknown_key_says_so(keys: KeyFile) -> None:
    with pytest.raises(ConfigurationError, match="no API key"):
        keys.revoke("nothere")
