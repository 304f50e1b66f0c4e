"""What stands between raw features and an estimator: missing values and categories.

The encoder is part of the bundle's graph (`models.training.export.convert`), so serving takes raw features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.core.base import ModelInputs

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """Learned on training rows: `fill` replaces NaN in numeric columns (None keeps NaN, for
    estimators that know what to do with it), `indicators` are numeric columns that get a second column
    saying "was missing", `categories` the one-hot values of each text column; an unseen one is all zeros.
    """

    numeric: tuple[str, ...]
    fill: NDArray[np.float32] | None
    indicators: tuple[int, ...]
    categories: dict[str, tuple[str, ...]]

    @property
    def width(self) -> int:
        """Columns of the encoded matrix."""
        return len(self.numeric) + len(self.indicators) + sum(len(c) for c in self.categories.values())

    def encode(self, inputs: ModelInputs) -> Matrix:
        """float32[n, width]."""
        raw = inputs.numeric.astype(np.float32, copy=False)
        blocks: list[Matrix] = [raw if self.fill is None else np.where(np.isnan(raw), self.fill, raw)]
        if self.indicators:
            blocks.append(np.isnan(raw[:, list(self.indicators)]).astype(np.float32))
        for name, values in self.categories.items():
            column = inputs.categorical[name]
            blocks.append(np.stack([column == value for value in values], axis=1).astype(np.float32))
        return np.ascontiguousarray(np.concatenate(blocks, axis=1), dtype=np.float32)

    def constraints(self, monotone: dict[str, int]) -> list[int]:
        """The direction of each encoded column: 1, -1, or 0 for none."""
        signs = [monotone.get(name, 0) for name in self.numeric]
        return signs + [0] * (self.width - len(signs))


def fit_encoder(
    inputs: ModelInputs, numeric: tuple[str, ...], *, impute: bool, max_categories: int = 60
) -> Encoder:
    """Learn medians and categories; the rarest categories beyond the limit stay without a column."""
    fill: NDArray[np.float32] | None = None
    indicators: tuple[int, ...] = ()
    if impute:
        missing = np.isnan(inputs.numeric)
        shown = np.where(missing.all(axis=0), np.float32(0), inputs.numeric)
        fill = np.nanmedian(shown, axis=0).astype(np.float32) if len(numeric) else np.empty(0, np.float32)
        indicators = tuple(np.flatnonzero(missing.any(axis=0)).tolist())
    categories = {}
    for name, column in inputs.categorical.items():
        values, counts = np.unique(column.astype(str), return_counts=True)
        commonest = values[np.argsort(-counts, kind="stable")[:max_categories]]
        categories[name] = tuple(sorted(commonest.tolist()))
    return Encoder(numeric=numeric, fill=fill, indicators=indicators, categories=categories)
