"""Bodies that the service and the client (stream/client.py) share, read and written by msgspec."""

from __future__ import annotations

import json
import re
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from stream.contracts import DecidedBy, DecisionWord, RankedReason, SeverityWord

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
    """Score and decision of one row."""

    score: float
    threshold: float | None
    decision: DecisionWord
    severity: SeverityWord
    reasons: tuple[RankedReason, ...]
    rules: tuple[str, ...]


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
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _leniently(body, error)


def _leniently(body: bytes, error: Exception) -> PredictRequest:
    """NaN, Infinity and numbers beyond float64 are no JSON, but their place can be told from the rows."""
    try:
        document = json.loads(body)
        return msgspec.convert(document, PredictRequest)
    except msgspec.ValidationError as wrong:
        raise _invalid(str(wrong)) from None
    except (ValueError, RecursionError, OverflowError):
        said = "expected UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise UnreadableError("$", f"not JSON: {said[:_SHOWN]}") from None


def _invalid(message: str) -> UnreadableError:
    at = _AT.search(message)
    path = at[1] if at else "$"
    detail = message[: at.start()] if at else message
    if unknown := _UNKNOWN.search(detail):
        return UnreadableError(f"{path}.{unknown[1][:_SHOWN]}", "no such member")
    return UnreadableError(path, detail[0].lower() + detail[1:])
