"""What a model is to the rest of riskstream: raw features in, one score a row out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from features.batch import FeatureMatrix, Floats


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """Names a loaded bundle; every decision carries it. `sha256` is the hash of its manifest."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Signature:
    """A model's input: numeric features (one float32 matrix, in this order) and categorical ones
    (texts). `plan` is the fingerprint of the plan that made its training set, `source` the source it scores."""

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    plan: str
    source: str


class Model(Protocol):
    """A loaded, verified bundle."""

    @property
    def version(self) -> ModelVersion: ...

    @property
    def signature(self) -> Signature: ...

    def score(self, features: FeatureMatrix) -> Floats:
        """float64[n]: probability of the bad outcome for each row, in [0, 1]. Does not block on I/O."""
        ...
