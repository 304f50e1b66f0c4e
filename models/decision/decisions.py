"""The result of scoring: one row an event, columnar until an alert is written."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from features.core.batch import Bools, FeatureMatrix, Floats
from models.core.base import ModelVersion

Mode = Literal["live", "shadow", "replay"]


class DecisionCode(IntEnum):
    """What is decided of an event, from mild to strict: the numbers in `Decisions.decision`."""

    APPROVE = 0
    REVIEW = 1
    DECLINE = 2


DECISIONS = tuple(code.name.lower() for code in DecisionCode)
SCORE_INVALID = "score_invalid"
"""The flag of an event whose model gave no score in 0 to 1: it is reviewed, whatever else approves it."""
SEVERITIES = ("none", "low", "medium", "high", "critical")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why: `contribution` is the change of the score when the feature is set to its baseline.

    Rules give reasons too: `code` is the rule's name, feature "" and contribution 0.
    """

    code: str
    feature: str
    value: float | str | None
    baseline: float | str | None
    contribution: float
    text: str


@dataclass(slots=True, kw_only=True)
class Decisions:
    """Decisions for the rows of one `FeatureMatrix`.

    `decision` holds numbers of `DecisionCode`, `severity` indexes SEVERITIES. `alert` says which rows are published
    to the alerts topic: review or decline, and not `suppressed`. `rules_hit` and `reasons` hold
    only rows that have some, by row number. `policy` is the policy file's SHA-256 (16 characters).
    `score` is NaN where the model gave none in its range; `features.flags` then holds SCORE_INVALID.
    """

    features: FeatureMatrix
    model: ModelVersion
    mode: Mode
    policy: str
    score: Floats
    threshold: Floats
    decision: NDArray[np.int8]
    severity: NDArray[np.int8]
    alert: Bools
    suppressed: Bools
    rules_hit: dict[int, tuple[str, ...]] = field(default_factory=dict)
    reasons: dict[int, tuple[Reason, ...]] = field(default_factory=dict)
    released: Bools | None = None

    def __len__(self) -> int:
        return len(self.score)

    @property
    def invalid_scores(self) -> int:
        """How many rows have no valid score."""
        invalid = self.features.flags.get(SCORE_INVALID)
        return 0 if invalid is None else int(invalid.sum())
