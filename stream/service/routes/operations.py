"""For operators: is it alive, is it ready, what does it count."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from stream.service.access.auth import needs
from stream.service.service import service

router = APIRouter(tags=["Operations"])


@router.get("/healthz")
async def healthz() -> dict[str, bool]:
    """The process answers."""
    return {"alive": True}


@router.get("/readyz")
async def readyz(request: Request) -> dict[str, bool]:
    """The state can be read and a worker keeps it current; 503 with the reason otherwise."""
    await run_in_threadpool(service(request).check_ready)
    return {"ready": True}


@router.get(
    "/metrics",
    dependencies=[Depends(needs("read"))],
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request) -> Response:
    """Prometheus metrics of this process."""
    text = generate_latest(service(request).metrics.registry)
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})
