"""Golden rows: raw inputs with the scores that training gave them, scored again at every load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from features.core.batch import Floats
from models.core.base import ModelInputs, Signature
from models.core.errors import BundleRefused
from models.core.inputs import from_columns

GOLDEN_FILE = "golden.json"
TOLERANCE = 1e-6

GoldenColumns = Mapping[str, Sequence[float | str | None]]


class Golden(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Columns by name, and the score of each row; null is missing."""

    columns: dict[str, list[float | str | None]]
    score: list[float]


def encode(columns: GoldenColumns, score: Sequence[float], signature: Signature) -> bytes:
    """The file's bytes; numbers are kept as they come: the model casts them as it does an event's."""
    stored: dict[str, list[float | str | None]] = {}
    for name in signature.numeric:
        values = np.array([np.nan if v is None else v for v in columns[name]], dtype=np.float64)
        stored[name] = [None if v != v else v for v in values.tolist()]
    for name in signature.categorical:
        stored[name] = [None if value is None else str(value) for value in columns[name]]
    golden = Golden(columns=stored, score=[float(value) for value in score])
    return msgspec.json.encode(golden, order="sorted") + b"\n"


def decode(data: bytes, signature: Signature, where: str) -> tuple[ModelInputs, Floats]:
    """Inputs and expected scores."""
    try:
        golden = msgspec.json.decode(data, type=Golden)
        inputs = from_columns(golden.columns, signature)
    except (msgspec.MsgspecError, KeyError, ValueError) as error:
        raise BundleRefused(where, f"{GOLDEN_FILE} does not fit the signature: {error}") from error
    if len(inputs) != len(golden.score) or not len(inputs):
        raise BundleRefused(where, f"{GOLDEN_FILE}: {len(inputs)} rows and {len(golden.score)} scores")
    return inputs, np.array(golden.score, dtype=np.float64)


def check(scored: Floats, expected: Floats, where: str) -> None:
    """Refuse a model whose scores differ from the recorded ones by more than `TOLERANCE`."""
    if scored.shape != expected.shape:
        raise BundleRefused(where, f"golden rows: {len(expected)} rows gave an output of {scored.shape}")
    off = np.abs(scored - expected)
    if not np.all(off <= TOLERANCE):
        row = int(np.argmax(np.where(np.isnan(off), np.inf, off)))
        raise BundleRefused(
            where,
            f"golden row {row} scores {scored[row]:.9g}, recorded {expected[row]:.9g}: "
            "another runtime, or not the model that the manifest describes",
        )
    if not np.all((expected >= 0.0) & (expected <= 1.0)):
        raise BundleRefused(where, "golden scores lie outside 0..1: the output is no probability")
