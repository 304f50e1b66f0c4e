"""Open Inference Protocol v2: health, metadata and inference for any client that speaks it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import ValidationError

from stream.service.access.auth import needs
from stream.service.problems import FieldError, Problem
from stream.service.schemas import InferRequest, InferResponse
from stream.service.scoring.row_scorer import SHORT_ROWS
from stream.service.scoring.rows import matrix_of
from stream.service.scoring.served_models import ServedModels
from stream.service.scoring.tensors import MATRIX, as_tensor, attach_binary, inputs_of, split_binary
from stream.service.service import Service, service

router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])
Name = Annotated[str, Path(max_length=200)]
SCORES = Depends(needs("score"))
OUTPUT = "score"
_HEADER_LENGTH = "inference-header-content-length"


@router.get("/health/live")
async def live() -> dict[str, bool]:
    """The process answers."""
    return {"live": True}


@router.get("/health/ready", responses={503: {"description": "Not ready"}})
async def ready(request: Request) -> dict[str, bool]:
    """Every model is loaded and the state can be read."""
    await run_in_threadpool(service(request).check_ready)
    return {"ready": True}


@router.get("")
async def server_metadata() -> dict[str, Any]:
    """Name, version and extensions of this server."""
    return {"name": "riskstream", "version": Service.version(), "extensions": ["binary_tensor_data"]}


@router.get("/models/{name}", dependencies=[SCORES])
@router.get("/models/{name}/versions/{version}", dependencies=[SCORES])
async def model_metadata(request: Request, name: Name, version: Name | None = None) -> dict[str, Any]:
    """Inputs and outputs of a model."""
    model = _models(request).find(name, version)
    signature = model.signature
    numeric = {
        "name": MATRIX,
        "datatype": "FP32",
        "shape": [-1, len(signature.numeric)],
        "parameters": {"columns": list(signature.numeric)},
    }
    texts = [{"name": text, "datatype": "BYTES", "shape": [-1, 1]} for text in signature.categorical]
    return {
        "name": name,
        "versions": [model.version.version],
        "platform": "onnx_onnxruntime",
        "inputs": [numeric, *texts],
        "outputs": [{"name": OUTPUT, "datatype": "FP64", "shape": [-1]}],
    }


@router.get("/models/{name}/ready", dependencies=[SCORES])
@router.get("/models/{name}/versions/{version}/ready", dependencies=[SCORES])
async def model_ready(request: Request, name: Name, version: Name | None = None) -> dict[str, Any]:
    """The model is loaded."""
    return {"name": _models(request).find(name, version).version.name, "ready": True}


# The body is read by hand, as tensors may follow the JSON as bytes; the document says what it is.
_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/InferRequest"}}},
    }
}


@router.post(
    "/models/{name}/infer",
    dependencies=[SCORES],
    response_model=InferResponse,
    openapi_extra=_BODY,
)
@router.post(
    "/models/{name}/versions/{version}/infer",
    dependencies=[SCORES],
    response_model=InferResponse,
    openapi_extra=_BODY,
)
async def infer(request: Request, name: Name, version: Name | None = None) -> dict[str, Any]:
    """Scores for tensors of features: no features are looked up, no policy is applied."""
    model = _models(request).find(name, version)
    asked = _parse(*split_binary(await request.body(), request.headers.get(_HEADER_LENGTH)))
    for place, output in enumerate(asked.outputs or ()):
        if output.name != OUTPUT:
            path = f"$.outputs[{place}].name"
            raise Problem(
                400,
                "invalid-request",
                f"{path}: the only output is {OUTPUT!r}",
                (FieldError(path, "unknown output"),),
            )
    own = service(request)
    values, strings = inputs_of(asked, model.signature)
    matrix = matrix_of(own.source_of(model), model.signature, values, strings, own.now_us())
    score = await own.compute(lambda: model.score(matrix), short=len(matrix) <= SHORT_ROWS)
    answer: dict[str, Any] = {
        "model_name": name,
        "model_version": model.version.version,
        "outputs": [as_tensor(OUTPUT, score)],
    }
    return answer if asked.id is None else {**answer, "id": asked.id}


def _parse(document: Any, tail: bytes) -> InferRequest:
    try:
        return InferRequest.model_validate(attach_binary(document, tail))
    except ValidationError as error:
        first = error.errors()[0]
        path = "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        raise Problem(
            400, "invalid-request", f"{path}: {first['msg']}", (FieldError(path, first["msg"]),)
        ) from None


def _models(request: Request) -> ServedModels:
    return service(request).models
