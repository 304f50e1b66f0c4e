"""Features sent by a caller, made into the FeatureMatrix that models and policy take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from features.core.batch import Column, FeatureMatrix, Floats, SourceBatch, Strings
from features.definitions.spec import Source
from models.core.base import Signature
from stream.service.problems import FieldError, Problem
from stream.service.scoring.bodies import FeatureValue

_FLOAT32_MAX = float(np.finfo(np.float32).max)


def matrix_of(
    source: Source, signature: Signature, values: Floats, strings: dict[str, Strings], now_us: int
) -> FeatureMatrix:
    """A FeatureMatrix of `len(values)` rows whose columns are exactly the model's inputs.

    The rows carry no event: ids are empty, all times are `now_us`, offsets are row numbers.
    """
    rows = len(values)
    stamps = np.full(rows, now_us, dtype=np.int64)
    batch = SourceBatch(
        source=source,
        event_ids=[""] * rows,
        event_time=stamps,
        received_time=stamps,
        partition=np.zeros(rows, dtype=np.int32),
        offset=np.arange(rows, dtype=np.int64),
        position=np.arange(rows, dtype=np.int64),
        columns=_event_columns(source, signature, values, strings),
    )
    never = np.zeros(rows, dtype=np.bool_)
    return FeatureMatrix(batch, signature.numeric, values, strings, {}, never, never)


def check_rows(signature: Signature, rows: Sequence[Mapping[str, FeatureValue]]) -> None:
    """Problem 422 that names every value which the model does not take."""
    numeric = frozenset(signature.numeric)
    for row in rows:
        for name, value in row.items():
            if not (type(value) is float and name in numeric and -_FLOAT32_MAX <= value <= _FLOAT32_MAX):
                break
        else:
            continue
        break
    else:
        return
    errors = [
        error for place, row in enumerate(rows) for error in _row_errors(signature, row, f"$.rows[{place}]")
    ]
    if errors:
        raise Problem(422, "invalid-features", f"{errors[0].path}: {errors[0].detail}", tuple(errors[:100]))


def matrix_from_rows(
    source: Source, signature: Signature, rows: Sequence[Mapping[str, FeatureValue]], now_us: int
) -> FeatureMatrix:
    """A FeatureMatrix from checked JSON objects; a feature left out, or null, is missing."""
    values = np.array(
        [
            [math.nan if (found := row.get(name)) is None else found for name in signature.numeric]
            for row in rows
        ],
        dtype=np.float64,
    ).reshape(len(rows), len(signature.numeric))
    strings: dict[str, Strings] = {
        name: [None if row.get(name) is None else str(row[name]) for row in rows]
        for name in signature.categorical
    }
    return matrix_of(source, signature, values, strings, now_us)


def _row_errors(signature: Signature, row: Mapping[str, FeatureValue], place: str) -> list[FieldError]:
    known = {*signature.numeric, *signature.categorical}
    errors = [
        FieldError(f"{place}.{name}", "not a feature of this model; see GET /v1/models")
        for name in row
        if name not in known
    ]
    for name in signature.numeric:
        value = row.get(name)
        if isinstance(value, str) or (value is not None and not _fits_float32(value)):
            shown = f'"{value[:40]}"' if isinstance(value, str) else f"{value}"
            errors.append(
                FieldError(f"{place}.{name}", f"expected a number within float32 or null, got {shown}")
            )
    texts = (name for name in signature.categorical if not isinstance(row.get(name), str | None))
    return errors + [
        FieldError(f"{place}.{name}", f"expected a text or null, got {row[name]}") for name in texts
    ]


def _fits_float32(value: float | bool) -> bool:
    return -_FLOAT32_MAX <= value <= _FLOAT32_MAX


def _event_columns(
    source: Source, signature: Signature, values: Floats, strings: dict[str, Strings]
) -> dict[str, Column]:
    """Every field of the source, so that policy rules may name it: the caller's value, else null."""
    rows = len(values)
    columns: dict[str, Column] = {}
    for item in source.fields:
        if item.dtype == "string":
            columns[item.name] = strings.get(item.name, [None] * rows)
        elif item.name in signature.numeric:
            columns[item.name] = values[:, signature.numeric.index(item.name)]
        else:
            columns[item.name] = np.full(rows, np.nan)
    return columns
