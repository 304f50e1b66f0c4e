"""Wrong, expired, out-of-scope and rotated credentials of both kinds; TLS with a real certificate."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from jwt.algorithms import ECAlgorithm, OKPAlgorithm

from features.core.errors import ConfigurationError
from stream.service.access.keys import KeyFile
from stream.settings.checks import check_tls
from stream.settings.config import load
from tests.servers.certificates import make_certificates
from tests.stream.service.service_under_test import SETTINGS, Running, make_project, process, running

ISSUER, AUDIENCE = "https://login.example", "riskstream"
JWT_SETTINGS = f'jwks_file = "jwks.json"\njwt_issuer = "{ISSUER}"\njwt_audience = "{AUDIENCE}"\n'
SIGNING: dict[str, Any] = {
    "first": ec.generate_private_key(ec.SECP256R1()),
    "second": ed25519.Ed25519PrivateKey.generate(),
}
ALGORITHM = {"first": "ES256", "second": "EdDSA"}
STRANGER = ec.generate_private_key(ec.SECP256R1())
ROW = {"rows": [{"amount": 1.0}]}


def jwks(kids: tuple[str, ...] = ("first", "second")) -> str:
    made = []
    for kid in kids:
        writer = ECAlgorithm if kid == "first" else OKPAlgorithm
        key = json.loads(writer.to_jwk(SIGNING[kid].public_key()))
        made.append({**key, "kid": kid, "use": "sig", "alg": ALGORITHM[kid]})
    return json.dumps({"keys": made})


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    made = {"sub": "case-tool", "iss": ISSUER, "aud": AUDIENCE, "exp": now + 600, "scope": "score read"}
    return {name: value for name, value in {**made, **changes}.items() if value is not None}


def token(kid: str = "first", **changes: Any) -> str:
    return jwt.encode(claims(**changes), SIGNING[kid], ALGORITHM[kid], headers={"kid": kid})


def public_pem(kid: str) -> bytes:
    return (
        SIGNING[kid]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def unsigned(algorithm: str, **header: Any) -> str:
    parts = ({"alg": algorithm, "typ": "JWT", "kid": "first", **header}, claims())
    return (
        ".".join(base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=").decode() for one in parts)
        + "."
    )


def by_public_key() -> str:
    """HS256 with the public key as the secret: the classic confusion of algorithms."""
    body = unsigned("HS256").rstrip(".")
    signature = hmac.new(public_pem("first"), body.encode(), hashlib.sha256).digest()
    return f"{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


REFUSED: dict[str, Callable[[], str]] = {
    "expired": lambda: token(exp=int(time.time()) - 60),
    "not yet valid": lambda: token(nbf=int(time.time()) + 600),
    "without an end": lambda: token(exp=None),
    "of another audience": lambda: token(aud="somebody-else"),
    "without an audience": lambda: token(aud=None),
    "of another issuer": lambda: token(iss="https://login.evil"),
    "without an issuer": lambda: token(iss=None),
    "without a subject": lambda: token(sub=None),
    "signed by a stranger": lambda: jwt.encode(claims(), STRANGER, "ES256", headers={"kid": "first"}),
    "of an unknown kid": lambda: jwt.encode(claims(), SIGNING["first"], "ES256", headers={"kid": "third"}),
    "of the other key's kid": lambda: jwt.encode(
        claims(), SIGNING["first"], "ES256", headers={"kid": "second"}
    ),
    "without a kid": lambda: jwt.encode(claims(), SIGNING["first"], "ES256"),
    "of algorithm none": lambda: unsigned("none"),
    "of algorithm None": lambda: unsigned("None"),
    "signed with the public key": by_public_key,
    "with a strange kid": lambda: unsigned("ES256", kid=["first"]),
    "changed": lambda: token().replace(".", ".e", 1),
    "cut": lambda: token().rpartition(".")[0] + ".",
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("secured")
    (folder / "jwks.json").write_text(jwks())
    with running(folder, SETTINGS + JWT_SETTINGS) as one:
        yield one


def ask(service: Running, bearer: str | None, path: str = "/predict") -> httpx.Response:
    with service.client(bearer) as client:
        if path == "/predict":
            return client.post(path, json=ROW)
        return client.post(path) if path.endswith("refresh") else client.get(path)


@pytest.mark.parametrize("kid", SIGNING)
def test_a_token_of_each_key_is_taken(service: Running, kid: str) -> None:
    assert ask(service, token(kid)).status_code == 200
    assert ask(service, token(kid), "/v1/models").status_code == 200


@pytest.mark.parametrize("kind", REFUSED)
def test_no_token_passes_that(service: Running, kind: str) -> None:
    answer = ask(service, REFUSED[kind]())
    assert answer.status_code == 401
    assert answer.json()["title"] == "unauthorized"


@pytest.mark.parametrize(
    ("scope", "path"),
    [
        ("read", "/predict"),
        ("score", "/v1/models"),
        ("score read", "/v1/models/refresh"),
        ("", "/predict"),
        (None, "/predict"),
        (["score"], "/predict"),
        ("scores", "/predict"),
        ("SCORE", "/predict"),
    ],
)
def test_a_token_out_of_scope_is_forbidden(service: Running, scope: Any, path: str) -> None:
    assert ask(service, token(scope=scope), path).status_code == 403


def test_a_token_is_no_api_key_header_trick(service: Running) -> None:
    """Two credentials at once are refused, whichever of them is right."""
    with service.client(token()) as client:
        answer = client.post("/predict", json=ROW, headers={"X-API-Key": service.tokens["all"]})
        assert answer.status_code == 401
        assert (
            client.post("/predict", json=ROW, headers={"Authorization": f"Basic {token()}"}).status_code
            == 401
        )


def test_a_key_is_rotated_while_the_service_runs(tmp_path: Path) -> None:
    with running(tmp_path) as own:
        keys = KeyFile(tmp_path / "api_keys.json")
        old, old_token = keys.create(["score"], now=datetime.now(UTC))
        _, new_token = keys.create(["score"], now=datetime.now(UTC))
        assert [ask(own, one).status_code for one in (old_token, new_token)] == [200, 200]
        keys.revoke(old.id)
        assert [ask(own, one).status_code for one in (old_token, new_token)] == [401, 200]


def test_the_signing_keys_are_rotated_while_the_service_runs(tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_text(jwks(("first",)))
    with running(tmp_path, SETTINGS + JWT_SETTINGS) as own:
        assert [ask(own, token(kid)).status_code for kid in SIGNING] == [200, 401]
        (tmp_path / "jwks.json").write_text(jwks())
        assert [ask(own, token(kid)).status_code for kid in SIGNING] == [200, 200]
        (tmp_path / "jwks.json").write_text(jwks(("second",)))
        assert [ask(own, token(kid)).status_code for kid in SIGNING] == [401, 200]


@pytest.mark.parametrize("file", ["jwks.json", "api_keys.json"])
def test_a_file_that_was_broken_by_hand_lets_nobody_in(tmp_path: Path, file: str) -> None:
    (tmp_path / "jwks.json").write_text(jwks())
    with running(tmp_path, SETTINGS + JWT_SETTINGS) as own:
        bearer = token() if file == "jwks.json" else own.tokens["score"]
        good = (tmp_path / file).read_text()
        (tmp_path / file).write_text(good[:-9])
        answer = ask(own, bearer)
        assert answer.status_code == 503
        assert str(tmp_path) not in answer.text
        (tmp_path / file).write_text(good)
        assert ask(own, bearer).status_code == 200


def test_tls(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    settings = f'{SETTINGS}tls_cert_file = "{made.cert.name}"\ntls_key_file = "{made.key.name}"\n'
    with process(tmp_path, settings) as (port, _, tokens):
        trusting = ssl.create_default_context(cafile=str(made.ca))
        headers = {"X-API-Key": tokens["score"]}
        with httpx.Client(verify=trusting, headers=headers) as client:
            answer = client.post(f"https://localhost:{port}/predict", json=ROW)
            assert answer.status_code == 200
        with httpx.Client(headers=headers) as wary, pytest.raises(httpx.ConnectError, match="CERTIFICATE"):
            wary.get(f"https://localhost:{port}/healthz")
        with httpx.Client(headers=headers) as plain, pytest.raises(httpx.TransportError):
            plain.post(f"http://localhost:{port}/predict", json=ROW)
        trusting.maximum_version = ssl.TLSVersion.TLSv1_2
        trusting.set_ciphers("AES128-SHA")
        with httpx.Client(verify=trusting) as weak, pytest.raises(httpx.ConnectError):
            weak.get(f"https://localhost:{port}/healthz")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ('tls_cert_file = "cert.pem"', "tls_key_file"),
        ('tls_cert_file = "none.pem"\ntls_key_file = "none.pem"', "tls_cert_file"),
        ('tls_cert_file = "riskstream.toml"\ntls_key_file = "riskstream.toml"', "tls_cert_file"),
        ('jwks_file = "jwks.json"', "jwt_issuer"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path: Path, change: str, named: str) -> None:
    project = make_project(tmp_path, f"{SETTINGS}{change}\n")
    with pytest.raises(ConfigurationError, match=named):
        config = load(project)
        check_tls(config, config.api)
