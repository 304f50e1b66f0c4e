"""The bodies of requests and answers beside those in bodies.py: what the OpenAPI document shows."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictStr


class Body(BaseModel):
    """All request bodies: an unknown member is an error, not ignored."""

    model_config = ConfigDict(extra="forbid")


class ModelOut(BaseModel):
    """A served model."""

    name: str
    version: str
    sha256: str
    source: str
    plan: str
    numeric: list[str]
    categorical: list[str]


class Tensor(Body):
    """A tensor of the Open Inference Protocol."""

    name: StrictStr = Field(max_length=200)
    shape: list[Annotated[int, Field(strict=True, ge=0, le=1_000_000)]] = Field(max_length=4)
    datatype: StrictStr = Field(max_length=20)
    parameters: dict[str, Any] | None = None
    data: list[Any] = Field(description="Row-major values, flat or nested.")


class RequestedOutput(Body):
    """An output asked for by name."""

    name: StrictStr = Field(max_length=200)
    parameters: dict[str, Any] | None = None


class InferRequest(Body):
    """POST /v2/models/{name}/infer."""

    id: StrictStr | None = Field(None, max_length=200)
    parameters: dict[str, Any] | None = None
    inputs: list[Tensor] = Field(min_length=1, max_length=1000)
    outputs: list[RequestedOutput] | None = None


class InferResponse(BaseModel):
    """The answer: one FP64 tensor `score`."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[dict[str, Any]]


def schema(name: str) -> dict[str, Any]:
    """The content of a JSON body whose schema stream/service/document.py adds to the document."""
    return {"content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}}
