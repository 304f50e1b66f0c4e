"""Model as a service: features in, score and decision out."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool

from stream.api.auth import needs
from stream.api.rows import matrix_from_rows
from stream.api.schemas import ModelOut, PredictRequest, PredictResponse
from stream.api.served import description, predictions, reference
from stream.api.service import service

router = APIRouter(tags=["Models"])


@router.post("/predict", dependencies=[Depends(needs("score"))])
async def predict(request: Request, body: PredictRequest) -> PredictResponse:
    """Score rows of features with a model and decide by the policy; nothing is looked up or kept."""
    own = service(request)
    model = own.models.find(body.model)
    matrix = matrix_from_rows(own.source_of(model), model.signature, body.rows, own.now_us())
    policy = own.scorer.policy
    decisions = await own.compute(
        lambda: policy.decide(matrix, model.score(matrix), model, "live", remember=False)
    )
    return PredictResponse(model=reference(model), predictions=predictions(decisions))


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
