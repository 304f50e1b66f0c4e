"""Bodies that the service and the client (stream/service/client.py) share, read and written by msgspec."""

from __future__ import annotations

import json
import math
import re
import sys
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from stream.codecs.contracts import DecidedBy, DecisionWord, RankedReason, SeverityWord

FeatureValue = float | bool | str | None
_AT = re.compile(r" - at `(\$.*)`$", re.DOTALL)
_UNKNOWN = re.compile(r"unknown field `(.*)`", re.DOTALL)
_SHOWN = 80


class PredictRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Features of one row or many, as the model takes them (GET /v1/models names them)."""

    rows: Annotated[
        list[dict[str, FeatureValue]],
        Meta(
            min_length=1,
            max_length=1000,
            description="One object a row: feature name to value; null or absent is missing.",
            examples=[[{"amount": 120.5, "amount_mean_7d_by_card": 31.2}]],
        ),
    ]
    model: Annotated[
        str | None,
        Meta(description="Name of a served model; may be left out when there is one."),
    ] = None


class Prediction(Struct, frozen=True):
    """Score and decision of one row. `score` is null where `flags` hold `score_invalid`: the row is reviewed."""

    score: float | None
    threshold: float | None
    decision: DecisionWord
    severity: SeverityWord
    reasons: tuple[RankedReason, ...]
    rules: tuple[str, ...]
    flags: tuple[str, ...] = ()


class PredictResponse(Struct, frozen=True):
    """One prediction a row, in the order of the request."""

    model: DecidedBy
    predictions: tuple[Prediction, ...]


class FeatureOut(Struct, frozen=True):
    """One feature of an entity as of now."""

    value: float | str | None


class EntityFeatures(Struct, frozen=True):
    """What is known of one entity: features as of `as_of`, and the age of what they were read from."""

    entity: str
    key: str
    as_of: str
    age_seconds: Annotated[
        float | None,
        Meta(description="Seconds since the oldest slice read was flushed; null when nothing is known."),
    ]
    features: dict[str, FeatureOut]
    flags: tuple[str, ...]


class UnreadableError(Exception):
    """A body that is not what it must be: `path` is where, `detail` what was expected."""

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(path, detail)
        self.path = path
        self.detail = detail


_DECODER = msgspec.json.Decoder(PredictRequest)


def predict_request(body: bytes) -> PredictRequest:
    """The request, or UnreadableError."""
    try:
        return _DECODER.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _explained(body, error) from None


def _explained(body: bytes, error: Exception) -> UnreadableError:
    """Why: a value by its place, also where it made the body no JSON (NaN, Infinity, numbers beyond float64)."""
    if isinstance(error, RecursionError | UnicodeDecodeError):
        return UnreadableError("$", "expected JSON in UTF-8, not nested so deeply")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return UnreadableError("$", f"not JSON: {str(error)[:_SHOWN]}")
    rows = document.get("rows") if isinstance(document, dict) else None
    for place, row in enumerate(rows if isinstance(rows, list) else []):
        for name, value in row.items() if isinstance(row, dict) else ():
            if wrong := _unfit(value):
                path = f"$.rows[{place}].{name[:_SHOWN]}"
                return UnreadableError(path, f"expected a number, text, true, false or null, got {wrong}")
    return _invalid(str(error))


def _unfit(value: object) -> str:
    """What makes a value none of a feature, in words; empty where nothing does."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "a number too large"
    return "a number too large" if isinstance(value, int) and abs(value) > sys.float_info.max else ""


def _invalid(message: str) -> UnreadableError:
    at = _AT.search(message)
    path = at[1] if at else "$"
    detail = message[: at.start()] if at else message
    if unknown := _UNKNOWN.search(detail):
        return UnreadableError(f"{path}.{unknown[1][:_SHOWN]}", "no such member")
    return UnreadableError(path, detail[0].lower() + detail[1:])
