"""Ed25519 signatures and AES-256-GCM encryption of bundles.

Keys are texts: PEM for signing keys, 64 hex digits for the encryption key. They come from files or
environment variables (`read_key`), never from settings themselves.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from features.core.errors import ConfigurationError
from models.core.errors import BundleRefused

ENCRYPTED = ".enc"
_NONCE = 12


class SignatureFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`signature.json`: which key signed the manifest's bytes, and the signature in base64."""

    key: str
    signature: str
    algorithm: str = "ed25519"


@dataclass(frozen=True, kw_only=True)
class Trust:
    """Whom to believe: what a bundle needs in order to be served.

    `allow_unsigned` names models that may come without a signature; `allow_protected` names
    protected attributes that may be inputs all the same. `decryption_key` has 32 bytes.
    """

    keys: tuple[Ed25519PublicKey, ...] = ()
    allow_unsigned: frozenset[str] = frozenset()
    allow_protected: frozenset[str] = frozenset()
    decryption_key: bytes | None = None


def trust(
    keys: Iterable[str] = (),
    allow_unsigned: Iterable[str] = (),
    allow_protected: Iterable[str] = (),
    decryption_key: str | None = None,
) -> Trust:
    """Build a `Trust` from references to keys: file names, or `env:NAME`."""
    return Trust(
        keys=tuple(public_key(read_key(reference), reference) for reference in keys),
        allow_unsigned=frozenset(allow_unsigned),
        allow_protected=frozenset(allow_protected),
        decryption_key=encryption_key(decryption_key) if decryption_key else None,
    )


def read_key(reference: str) -> str:
    """The text behind a reference: `env:NAME` or a file name."""
    if reference.startswith("env:"):
        value = os.environ.get(reference[4:])
        if value is None:
            raise ConfigurationError(f"key {reference}: the environment has no {reference[4:]}")
        return value
    try:
        return Path(reference).read_text()
    except OSError as error:
        raise ConfigurationError(f"key {reference}: {error.strerror}") from error


def new_key() -> tuple[str, str]:
    """A fresh key pair as PEM texts: private, public."""
    private = Ed25519PrivateKey.generate()
    secret = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return secret.decode(), public.decode()


def private_key(pem: str, where: str) -> Ed25519PrivateKey:
    """Read a private key in PEM."""
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"key {where}: not a private key in PEM without a password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(f"key {where}: expected an Ed25519 key")
    return key


def public_key(pem: str, where: str) -> Ed25519PublicKey:
    """Read a public key in PEM."""
    try:
        key = serialization.load_pem_public_key(pem.encode())
    except ValueError as error:
        raise ConfigurationError(f"key {where}: not a public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigurationError(f"key {where}: expected an Ed25519 key")
    return key


def key_id(key: Ed25519PublicKey) -> str:
    """A short name of a public key: the first 16 hex digits of its SHA-256."""
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:16]


def sign(manifest: bytes, key: Ed25519PrivateKey) -> bytes:
    """The content of `signature.json` for a manifest's bytes."""
    signature = base64.b64encode(key.sign(manifest)).decode()
    return msgspec.json.encode(SignatureFile(key=key_id(key.public_key()), signature=signature)) + b"\n"


def verify(manifest: bytes, signature_file: bytes, trusted: Trust, where: str) -> None:
    """Refuse a manifest that no trusted key has signed."""
    try:
        signature = msgspec.json.decode(signature_file, type=SignatureFile)
        raw = base64.b64decode(signature.signature, validate=True)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BundleRefused(where, f"signature.json cannot be read: {error}") from error
    known = {key_id(key): key for key in trusted.keys}
    key = known.get(signature.key)
    if key is None:
        trusted_ids = ", ".join(sorted(known)) or "none"
        raise BundleRefused(
            where, f"signed by key {signature.key}, which is not trusted; trusted: {trusted_ids}"
        )
    try:
        key.verify(raw, manifest)
    except InvalidSignature as error:
        raise BundleRefused(
            where, "the signature does not fit manifest.json: the manifest or the signature was altered"
        ) from error


def encryption_key(reference: str) -> bytes:
    """Read a 32-byte key written as 64 hex digits."""
    try:
        key = bytes.fromhex(read_key(reference).strip())
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ConfigurationError(f"key {reference}: expected 64 hex digits")
    return key


def encrypt(name: str, data: bytes, key: bytes) -> bytes:
    """AES-256-GCM; the file's name is authenticated, so that files cannot be swapped."""
    nonce = os.urandom(_NONCE)
    return nonce + AESGCM(key).encrypt(nonce, data, name.encode())


def decrypt(name: str, data: bytes, trusted: Trust, where: str) -> bytes:
    """The opposite of `encrypt`; refuses when the key is missing, wrong, or the bytes were altered."""
    if trusted.decryption_key is None:
        raise BundleRefused(where, f"{name} is encrypted and no decryption key is set")
    try:
        return AESGCM(trusted.decryption_key).decrypt(data[:_NONCE], data[_NONCE:], name.encode())
    except (InvalidTag, ValueError) as error:
        raise BundleRefused(where, f"{name} cannot be decrypted: wrong key, or altered") from error
