"""Events asked by hand: scored with the features of this moment; what is known; what was decided."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Path, Request, Response

from features.core.times import rfc3339
from stream.service.access.auth import needs
from stream.service.problems import Problem
from stream.service.schemas import schema
from stream.service.scoring.bodies import EntityFeatures, FeatureOut
from stream.service.service import service

router = APIRouter(prefix="/v1", tags=["Events"])
Text = Annotated[str, Path(max_length=500)]
_DECISION: dict[int | str, dict[str, Any]] = {
    200: {"description": "The decision, as on the decisions topic", **schema("Decision")}
}
_EVENT = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "object"},
                "examples": {
                    "payment": {
                        "summary": "An event as it would stand in the source's topic",
                        "value": {
                            "payment_id": "p-1",
                            "paid_at": "2026-03-01T12:00:00Z",
                            "card": "card-1",
                            "amount": 2500.0,
                        },
                    }
                },
            }
        },
    }
}


@router.post(
    "/score/{source}", dependencies=[Depends(needs("score"))], responses=_DECISION, openapi_extra=_EVENT
)
async def score(request: Request, source: Text) -> Response:
    """Score an event as the stream would if it came next; nothing is kept, nothing is published."""
    own = service(request)
    if source not in own.events.sources:
        known = ", ".join(own.events.sources)
        raise Problem(404, "unknown-source", f"no such scored source; there are: {known}")
    answer = await own.event_batcher.submit((source, await request.body()))
    return Response(answer, media_type="application/json")


@router.get(
    "/features/{entity}/{key:path}",
    dependencies=[Depends(needs("read"))],
    responses={200: {"description": "What is known", **schema("EntityFeatures")}},
)
async def features(request: Request, entity: Text, key: Text) -> Response:
    """What is known of one entity now. Parts of a composite key are joined with `|`."""
    own = service(request)
    view = await own.compute(lambda: own.entities.read(entity, key))
    answer = EntityFeatures(
        entity=entity,
        key=key,
        as_of=rfc3339(view.as_of_us),
        age_seconds=view.age_seconds,
        features={name: FeatureOut(value) for name, value in view.features.items()},
        flags=view.flags,
    )
    return Response(msgspec.json.encode(answer), media_type="application/json")


@router.get("/decisions/{event_id:path}", dependencies=[Depends(needs("read"))], responses=_DECISION)
async def decision(request: Request, event_id: Text) -> Response:
    """What the stream decided of an event, and why; the last `api.decisions_kept` can be found."""
    decisions = service(request).decisions
    if decisions is None:
        raise Problem(404, "no-decisions", "this project writes no decisions: set topics.decisions")
    record = decisions.find(event_id)
    if record is None:
        raise Problem(404, "unknown-event", "no decision of that event is among the last ones")
    return Response(record, media_type="application/json")
