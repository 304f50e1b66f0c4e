"""What a certificate says, and its signature: the same Ed25519 keys and file as a model bundle's."""

from __future__ import annotations

from pathlib import Path

import msgspec

from features.core.errors import ConfigurationError
from models.bundles import signing
from models.bundles.signing import Trust
from stream.codecs.contracts import DecidedBy

VERSION = 1
SHOWN = 20
SIGNATURE = ".signature.json"


class Difference(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is not as the replay says.

    `what`: altered, missing, duplicated, unknown, unreplayable. `record`: decision, alert, dead letter, event,
    journal. `place` is the event's, `at` the published record's, both `topic[partition]@offset`. `event` are the first
    16 digits of the event id's SHA-256. `fields` hold what was published and what the replay gives, as text; values
    that may name a person are left out.
    """

    what: str
    record: str
    place: str
    cause: str = ""
    at: str = ""
    event: str = ""
    fields: dict[str, tuple[str, str]] = {}


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at: times of scoring (RFC 3339, open where None), and offsets of the inputs [first, end)."""

    start: str | None
    end: str | None
    places: dict[str, tuple[int, int]]


class Counts(msgspec.Struct, kw_only=True):
    """How much was looked at. Every event is scored, folded (a label), dead-lettered or missing."""

    units: int = 0
    events: int = 0
    scored: int = 0
    folded: int = 0
    dead_letters: int = 0
    missing: int = 0
    decisions_compared: int = 0
    alerts_compared: int = 0


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """The result. `hashes`: by kind, the sum (modulo 2^256) of SHA-256 of key and value of each record that agreed."""

    version: int
    made: str
    verdict: str
    project: str
    group: str
    software: tuple[str, ...]
    compared: tuple[str, ...]
    range: Range
    counts: Counts
    hashes: dict[str, str]
    plan: str
    policies: tuple[str, ...]
    models: tuple[DecidedBy, ...]
    workers: tuple[str, ...]
    different: int
    causes: dict[str, int]
    differences: tuple[Difference, ...]


def write(certificate: Certificate, path: Path, key: str | None) -> None:
    """The certificate, and beside it its signature where a private key (file or `env:NAME`) is given."""
    data = msgspec.json.format(msgspec.json.encode(certificate), indent=1) + b"\n"
    private = None if key is None else signing.private_key(signing.read_key(key), key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    beside = path.with_name(path.name + SIGNATURE)
    beside.unlink(missing_ok=True)
    if private is not None:
        beside.write_bytes(signing.sign(data, private))


def verify(path: Path, trusted: Trust) -> Certificate:
    """Read a certificate whose signature fits one of the trusted keys; BundleRefused otherwise."""
    try:
        data = path.read_bytes()
        signature = path.with_name(path.name + SIGNATURE).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{error.filename}: {error.strerror}") from error
    signing.verify(data, signature, trusted, str(path))
    try:
        return msgspec.json.decode(data, type=Certificate)
    except msgspec.MsgspecError as error:
        raise ConfigurationError(f"{path}: no certificate: {error}") from error
