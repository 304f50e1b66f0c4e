"""What a model is to the rest of riskstream: raw features in, one score a row out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from features.core.batch import FeatureMatrix, Floats

Texts = NDArray[np.object_]


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """Names a loaded bundle; every decision carries it. `sha256` is the hash of its manifest."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Signature:
    """A model's input: numeric features (one matrix, in this order) and categorical ones (texts).

    The matrix is float32 unless the model is `exact`: then some input of its graph is wider than that (float64,
    integers), and the matrix is float64, which holds every number of an event as it came.
    `plan` is the fingerprint of the plan that made its training set, `source` the source it scores.
    """

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    plan: str
    source: str
    exact: bool = False


@dataclass(frozen=True, slots=True)
class ModelInputs:
    """`numeric[n, F]` in the signature's order, NaN missing; one text column a category, "" missing."""

    numeric: NDArray[np.float32] | Floats
    categorical: dict[str, Texts]

    def __len__(self) -> int:
        return len(self.numeric)

    def take(self, rows: NDArray[np.intp]) -> ModelInputs:
        """The given rows, copied."""
        return ModelInputs(
            self.numeric[rows], {name: column[rows] for name, column in self.categorical.items()}
        )


class Model(Protocol):
    """A loaded, verified bundle."""

    @property
    def version(self) -> ModelVersion:
        """Which bundle this is."""
        ...

    @property
    def signature(self) -> Signature:
        """What it reads, and for which plan and source."""
        ...

    @property
    def baseline(self) -> Mapping[str, float | str | None]:
        """The ordinary value of each input, None where that is "missing"."""
        ...

    @property
    def thresholds(self) -> Mapping[str, float]:
        """Named operating points that a policy may refer to."""
        ...

    def score(self, features: FeatureMatrix) -> Floats:
        """float64[n]: probability of the bad outcome for each row, in [0, 1]. Does not block on I/O."""
        ...

    def score_inputs(self, inputs: ModelInputs) -> Floats:
        """The same, for inputs that the caller picked and changed; reasons ask so."""
        ...
