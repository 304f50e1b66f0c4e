"""What scores a source that has no model: nothing does, so that only the policy's rules decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from features.core.batch import FeatureMatrix, Floats
from models.core.base import ModelInputs, ModelVersion, Signature


@dataclass(frozen=True)
class RulesOnly:
    """The null model of a source: score 0 for every row, no inputs, no thresholds."""

    signature: Signature
    version: ModelVersion = field(default=ModelVersion(name="none", version="0", sha256=""))

    @property
    def baseline(self) -> Mapping[str, float | str | None]:
        """No inputs, no baselines."""
        return {}

    @property
    def thresholds(self) -> Mapping[str, float]:
        """No operating points."""
        return {}

    def score(self, features: FeatureMatrix) -> Floats:
        """Zeros."""
        return np.zeros(len(features), dtype=np.float64)

    def score_inputs(self, inputs: ModelInputs) -> Floats:
        """Zeros."""
        return np.zeros(len(inputs), dtype=np.float64)
