"""The service from outside: who may call, what is refused and how, and clients that nobody here wrote."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tritonclient.utils import InferenceServerException

from features.core.errors import ConfigurationError
from models.bundles.registry import Registry
from stream.service.client import ApiError, AsyncClient, Client
from stream.service.serving import make_app
from stream.settings.config import load
from stream.settings.service import ApiSettings
from tests.models import small
from tests.stream.service.service_under_test import EVENT, SETTINGS, Running, make_project, running

ROW = {"amount": 1.0, "n": 3, "ratio": 2.0}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("service")) as one:
        yield one


@pytest.fixture
def http(service: Running) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client


def problem(answer: httpx.Response, status: int) -> dict:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.json()


@pytest.mark.parametrize("token", [None, "rsk_x_y", "nonsense", "expired", "revoked", "a.b.c"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/predict"),
        ("POST", "/v1/score/payments"),
        ("GET", "/v1/features/card/c1"),
        ("GET", "/v1/decisions/e1"),
        ("GET", "/v1/models"),
        ("POST", "/v1/models/refresh"),
        ("POST", "/v2/models/fraud/infer"),
        ("GET", "/v2/models/fraud"),
        ("GET", "/metrics"),
    ],
)
def test_without_a_valid_key_nothing_is_answered(service, token, method, path):
    with service.client(token) as client:
        answer = client.request(method, path, json={} if method == "POST" else None)
    assert problem(answer, 401)["title"] == "unauthorized"
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("scope", "method", "path"),
    [
        ("read", "POST", "/predict"),
        ("read", "POST", "/v1/score/payments"),
        ("score", "GET", "/v1/features/card/c1"),
        ("admin", "GET", "/v1/models"),
        ("score", "POST", "/v1/models/refresh"),
        ("read", "POST", "/v2/models/fraud/infer"),
    ],
)
def test_a_key_without_the_scope_is_forbidden(service, scope, method, path):
    with service.client(scope) as client:
        assert scope not in problem(client.request(method, path), 403)["detail"]


def test_a_key_may_come_in_either_header(service):
    with service.client(None) as client:
        answer = client.get("/v1/models", headers={"X-API-Key": service.tokens["read"]})
    assert [model["name"] for model in answer.json()] == ["fraud"]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b'{"rows": [{"amount": NaN}]}', "$.rows[0].amount"),
        (b'{"rows": [{"amount": Infinity}]}', "$.rows[0].amount"),
        (b'{"rows": [{"amount": 1e39}]}', "$.rows[0].amount"),
        (b'{"rows": [{"amount": 1' + b"0" * 5000 + b"}]}", "$"),
        (b'{"rows": [{"amount": "12,0"}]}', "$.rows[0].amount"),
        (b'{"rows": [{"amout": 1}]}', "$.rows[0].amout"),
        (b'{"rows": []}', "$.rows"),
        (b'{"rows": {"amount": 1}}', "$.rows"),
        (b'{"rows": [[1, 2, 3]]}', "$.rows[0]"),
        (b'{"rows": [{"amount": 1}], "more": 1}', "$.more"),
        (b"[" * 50_000, "$"),
        (b"\xff\xfe", "$"),
        (b"", "$"),
    ],
)
def test_what_is_wrong_is_named(http, body, path):
    answer = http.post("/predict", content=body, headers={"content-type": "application/json"})
    said = problem(answer, answer.status_code)
    assert answer.status_code in (400, 422)
    assert path == "$" or said["errors"][0]["path"].startswith(path)
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"amount": "x"}, "$.amount"),
        ({"time": None}, "$.time"),
        ({"id": ""}, "$.id"),
        ({"time": 10**30}, "$.time"),
    ],
)
def test_a_wrong_event_is_named(http, change, path):
    said = problem(http.post("/v1/score/payments", json={**EVENT, **change}), 422)
    assert said["errors"][0]["path"] == path


def test_unknown_things_are_not_found(http):
    for path in (
        "/v1/features/nobody/x",
        "/v2/models/none",
        "/v2/models/fraud/versions/9",
        "/v1/decisions/e",
    ):
        problem(http.get(path), 404)
    problem(http.post("/v1/score/nothing", json=EVENT), 404)
    problem(http.post("/predict", json={"model": "none", "rows": [ROW]}), 404)
    problem(http.get("/predict"), 405)


def test_a_large_body_is_refused(http):
    problem(http.post("/predict", content=b" " * 2_000_001), 413)


def test_many_rows_get_what_the_model_says(http):
    inputs, _ = small.training_set(50, seed=5)
    rows = [dict(zip(small.FEATURES, map(float, row), strict=True)) for row in inputs]
    answer = http.post("/predict", json={"rows": rows}).json()
    expected = small.estimator().predict_proba(inputs)[:, 1]
    assert [one["score"] for one in answer["predictions"]] == pytest.approx(expected.tolist(), abs=1e-5)
    decided = ["review" if score >= 0.5 else "approve" for score in expected]
    assert [one["decision"] for one in answer["predictions"]] == decided
    assert all(one["reasons"] for one in answer["predictions"] if one["decision"] == "review")


def test_triton_client_infers(service):
    client = triton.InferenceServerClient(service.url.removeprefix("http://"))
    auth = {"Authorization": f"Bearer {service.tokens['score']}"}
    try:
        assert client.is_server_live() and client.is_server_ready()
        assert client.is_model_ready("fraud", "1", headers=dict(auth))
        assert client.get_model_metadata("fraud", headers=dict(auth))["inputs"][0]["shape"] == [-1, 3]
        inputs, _ = small.training_set(7, seed=6)
        for binary in (True, False):
            tensor = triton.InferInput("features", [7, 3], "FP32")
            tensor.set_data_from_numpy(inputs, binary_data=binary)
            asked = [triton.InferRequestedOutput("score", binary_data=False)]
            result = client.infer("fraud", [tensor], outputs=asked, headers=dict(auth))
            expected = small.estimator().predict_proba(inputs)[:, 1]
            np.testing.assert_allclose(result.as_numpy("score"), expected, atol=1e-5)
        bad = triton.InferInput("features", [7, 2], "FP32")
        bad.set_data_from_numpy(np.ascontiguousarray(inputs[:, :2]))
        with pytest.raises(InferenceServerException, match="expected"):
            client.infer("fraud", [bad], headers=dict(auth))
    finally:
        client.close()


def test_our_client(service):
    with Client(service.url, token=service.tokens["all"]) as client:
        assert client.predict([ROW]).predictions[0].decision == "review"
        assert client.score("payments", EVENT).features["n"] == 1
        assert client.features("card", "c1").features["n"].value == 0.0
        assert client.features("card", key := "a/b?c#d%2F é").key == key
        with pytest.raises(ApiError, match="404"):
            client.decision("e1")
    with Client(service.url) as nobody, pytest.raises(ApiError, match="401"):
        nobody.predict([ROW])


def test_our_async_client(service):
    async def many() -> list[str]:
        async with AsyncClient(service.url, token=service.tokens["score"]) as client:
            events = [{**EVENT, "id": f"e{number}"} for number in range(40)]
            return [
                one.event_id for one in await asyncio.gather(*(client.score("payments", e) for e in events))
            ]

    assert asyncio.run(many()) == [f"e{number}" for number in range(40)]


def test_a_promotion_is_served_after_a_refresh(tmp_path):
    with running(tmp_path) as own, own.client() as http:
        assert http.get("/v1/models").json()[0]["version"] == "1"
        Registry(str(tmp_path / "registry")).promote("fraud", "2")
        assert http.post("/v1/models/refresh").json()[0]["version"] == "2"
        assert http.post("/predict", json={"rows": [ROW]}).json()["model"]["version"] == "2"


def test_over_the_rate_is_429(tmp_path):
    slow = SETTINGS.replace("rate_per_second = 100000\nburst = 100000", "rate_per_second = 0.001\nburst = 2")
    with running(tmp_path, slow) as own, own.client() as http:
        assert [http.get("/v1/models").status_code for _ in range(3)] == [200, 200, 429]
        assert int(http.get("/v1/models").headers["retry-after"]) > 0


def test_insecure_is_for_loopback_only(tmp_path):
    config = load(make_project(tmp_path))
    with pytest.raises(ConfigurationError, match="loopback"):
        make_app(config, ApiSettings(host="0.0.0.0"), insecure=True)
    with pytest.raises(ConfigurationError, match="there are no API keys"):
        make_app(config, ApiSettings(), insecure=False)


def test_no_cross_origin_requests(http):
    answer = http.options("/predict", headers={"Origin": "http://x", "Access-Control-Request-Method": "POST"})
    assert "access-control-allow-origin" not in answer.headers


def test_the_openapi_document_holds(service):
    """Not `positive_data_acceptance`: which features a model takes, what an event holds, JSON Schema does not say."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{service.url}/openapi.json"]
    command += ["--header", f"X-API-Key: {service.tokens['all']}", "--max-examples", "20", "--seed", "1"]
    command += ["--exclude-checks", "positive_data_acceptance", "--no-color"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=service.folder, timeout=280)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


NAMES = st.sampled_from([*EVENT, *small.FEATURES, "rows", "inputs", "data", "shape", "name", "datatype"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=20,
)
PATHS = st.sampled_from(["/predict", "/v1/score/payments", "/v2/models/fraud/infer"])


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(path=PATHS, body=st.binary(max_size=200) | JSON)
def test_whatever_is_sent_is_answered_without_a_5xx(http, path, body):
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = http.post(path, content=sent, headers={"content-type": "application/json"})
    assert answer.status_code < 500
    if answer.status_code == 200:
        assert "NaN" not in answer.text


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(amount=st.floats(width=32), age=st.floats())
def test_any_number_scores_or_is_refused(http, amount, age):
    event = {**EVENT, "amount": amount, "age": age}
    answer = http.post("/v1/score/payments", content=json.dumps(event))
    assert answer.status_code == (200 if math.isfinite(amount) and math.isfinite(age) else 422), answer.text
