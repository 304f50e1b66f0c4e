"""Model as a service: features in, score and decision out."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool

from stream.service.access.auth import needs
from stream.service.problems import FieldError, Problem
from stream.service.schemas import ModelOut, schema
from stream.service.scoring.bodies import PredictRequest, PredictResponse, UnreadableError, predict_request
from stream.service.scoring.row_scorer import AskedRows
from stream.service.scoring.rows import check_rows
from stream.service.scoring.served_models import description, reference
from stream.service.service import service

router = APIRouter(tags=["Models"])
_ENCODER = msgspec.json.Encoder()


@router.post(
    "/predict",
    dependencies=[Depends(needs("score"))],
    responses={200: {"description": "One prediction a row", **schema("PredictResponse")}},
    openapi_extra={"requestBody": {"required": True, **schema("PredictRequest")}},
)
async def predict(request: Request) -> Response:
    """Score rows of features with a model and decide by the policy; nothing is looked up or kept."""
    own = service(request)
    asked = _read(await request.body())
    model = own.models.find(asked.model)
    check_rows(model.signature, asked.rows)
    made = await own.row_batcher.submit(AskedRows(model, asked.rows))
    answer = PredictResponse(model=reference(model), predictions=made)
    return Response(_ENCODER.encode(answer), media_type="application/json")


def _read(body: bytes) -> PredictRequest:
    try:
        return predict_request(body)
    except UnreadableError as error:
        field = FieldError(error.path, error.detail)
        raise Problem(422, "invalid-request", f"{error.path}: {error.detail}", (field,)) from None


@router.get("/v1/models", dependencies=[Depends(needs("read"))])
async def models(request: Request) -> list[ModelOut]:
    """The models that are served: versions and inputs."""
    return [description(model) for model in service(request).models.all()]


@router.post("/v1/models/refresh", dependencies=[Depends(needs("admin"))])
async def refresh(request: Request) -> list[ModelOut]:
    """Look for promoted models and an edited policy now, rather than at the next poll."""
    own = service(request)
    await run_in_threadpool(own.look)
    return await own.compute(lambda: [description(model) for model in own.models.all()])
