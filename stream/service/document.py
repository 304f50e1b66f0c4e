"""The OpenAPI document: what FastAPI derives, with problems, security and the decision's own schema."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from stream.codecs.contracts import Decision
from stream.service.problems import MEDIA_TYPE, ProblemBody
from stream.service.schemas import InferRequest
from stream.service.scoring.bodies import EntityFeatures, PredictRequest, PredictResponse

_REF = "#/components/schemas/{name}"
_PUBLIC = ("/healthz", "/readyz", "/v2", "/v2/health/live", "/v2/health/ready")
_METHODS = ("get", "post")
_PROBLEM = {"content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemBody"}}}}
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, or a JSON Web Token."},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def openapi(app: FastAPI) -> dict[str, Any]:
    """The document, made once."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        structs = (Decision, ProblemBody, PredictRequest, PredictResponse, EntityFeatures)
        _, schemas = msgspec.json.schema_components(structs, ref_template=_REF)
        components = made.setdefault("components", {})
        infer = InferRequest.model_json_schema(ref_template=_REF.replace("name", "model"))
        schemas.update(infer.pop("$defs"), InferRequest=infer)
        components.setdefault("schemas", {}).update(schemas)
        for left_over in ("HTTPValidationError", "ValidationError"):
            components["schemas"].pop(left_over, None)
        components["securitySchemes"] = _SCHEMES
        for path, item in made["paths"].items():
            for method in _METHODS:
                if method in item:
                    _complete(item[method], public=path in _PUBLIC)
        app.openapi_schema = made
    return app.openapi_schema


def _complete(operation: dict[str, Any], *, public: bool) -> None:
    answers = operation["responses"]
    answers.pop("422", None)
    answers["4XX"] = {"description": "The request is not as it must be", **_PROBLEM}
    answers["503"] = {"description": "Not now: try again", **_PROBLEM}
    operation["security"] = [] if public else [{"bearer": []}, {"key": []}]
