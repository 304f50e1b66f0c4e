"""Runs scikit-learn estimators saved by skops: the fallback where a model has no ONNX form.

skops builds objects of types it knows to be safe only; a file that names any other type is refused,
and nothing is unpickled. Slower than ONNX: milliseconds a call. Needs the extra `skops`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from features.core.batch import Floats
from models.core.base import ModelInputs
from models.core.errors import BundleRefused
from models.core.manifest import Manifest


class SkopsEstimator:
    """An estimator with `predict_proba`; takes a float32 matrix, or a polars frame if it has categories."""

    def __init__(self, data: bytes, manifest: Manifest, where: str) -> None:
        self._estimator = _load(data, where)
        self._numeric = manifest.numeric
        self._framed = bool(manifest.categorical)

    exact = False
    whole: tuple[str, ...] = ()

    def run(self, inputs: ModelInputs) -> Floats:
        """float64[n]: the probability of the bad outcome."""
        if not len(inputs):
            return np.empty(0, dtype=np.float64)
        table = self._frame(inputs) if self._framed else inputs.numeric
        return np.asarray(self._estimator.predict_proba(table), dtype=np.float64)[:, -1]

    def _frame(self, inputs: ModelInputs) -> pl.DataFrame:
        columns: dict[str, Any] = {name: inputs.numeric[:, i] for i, name in enumerate(self._numeric)}
        columns |= {name: column.tolist() for name, column in inputs.categorical.items()}
        return pl.DataFrame(columns)


def _load(data: bytes, where: str) -> Any:
    try:
        from skops.io import get_untrusted_types, loads
    except ImportError as error:
        raise BundleRefused(where, "a .skops model needs the extra `skops`") from error
    try:
        unknown = get_untrusted_types(data=data)
        if unknown:
            raise BundleRefused(where, f"the .skops file holds types that are not safe: {', '.join(unknown)}")
        estimator = loads(data, trusted=[])
    except BundleRefused:
        raise
    except Exception as error:  # zipfile, json and skops errors share no base class
        raise BundleRefused(where, f"skops cannot load the model: {error}") from error
    if not hasattr(estimator, "predict_proba"):
        raise BundleRefused(where, "the .skops model gives no probabilities")
    return estimator
