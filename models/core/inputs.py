"""What a graph is fed with: the columns of a model's signature for n rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from features.core.batch import FeatureMatrix, Floats
from models.core.base import ModelInputs, Signature, Texts


def from_matrix(features: FeatureMatrix, signature: Signature) -> ModelInputs:
    """Pick a signature's columns out of a feature matrix."""
    return ModelInputs(
        features.matrix(signature.numeric, exact=signature.exact),
        {name: as_texts(features.column(name)) for name in signature.categorical},
    )


def from_rows(features: FeatureMatrix, signature: Signature, rows: NDArray[np.intp]) -> ModelInputs:
    """The same for some rows only."""
    numeric = _empty(len(rows), signature)
    with np.errstate(over="ignore"):
        for index, name in enumerate(signature.numeric):
            numeric[:, index] = np.asarray(features.column(name))[rows]
    texts: dict[str, Texts] = {}
    for name in signature.categorical:
        column = features.column(name)
        picked = [column[row] for row in rows.tolist()] if isinstance(column, list) else column[rows]
        texts[name] = as_texts(picked)
    return ModelInputs(numeric, texts)


def from_columns(columns: Mapping[str, Sequence[float | str | None]], signature: Signature) -> ModelInputs:
    """Pick a signature's columns out of plain ones, such as golden rows."""
    rows = len(next(iter(columns.values()))) if columns else 0
    numeric = _empty(rows, signature)
    for index, name in enumerate(signature.numeric):
        numeric[:, index] = [np.nan if value is None else float(value) for value in columns[name]]
    return ModelInputs(numeric, {name: as_texts(columns[name]) for name in signature.categorical})


def _empty(rows: int, signature: Signature) -> NDArray[np.float32] | Floats:
    shape = (rows, len(signature.numeric))
    return np.empty(shape, np.float64) if signature.exact else np.empty(shape, np.float32)


def as_texts(column: object) -> Texts:
    """A text column as objects; null and NaN become "", numbers their shortest text (1.0 is "1")."""
    if isinstance(column, np.ndarray) and column.dtype.kind in "fiub":
        return np.array([_number_text(value) for value in column.tolist()], dtype=object)
    out = np.array(column, dtype=object)
    out[[value is None for value in out.tolist()]] = ""
    return out


def _number_text(value: float) -> str:
    if value != value:
        return ""
    return str(int(value)) if float(value).is_integer() else repr(float(value))
