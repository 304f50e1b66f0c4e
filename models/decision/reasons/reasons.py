"""Why a score is what it is: each feature's contribution is the change when it is set to its baseline.

    contribution(f) = score(row) - score(row with f at its baseline)

That holds for any model and can be checked by anyone who has the bundle and the alert
(tests/models/decision/test_reasons.py does). All rows and features go through the model in one
batch, and only rows that alert are looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from features.core.batch import FeatureMatrix, Floats
from models.core.base import Model, ModelInputs
from models.core.inputs import from_rows
from models.decision.decisions import SCORE_INVALID, Reason
from models.decision.reasons.catalogue import Catalogue

COMBINATION = "combination"
COMBINATION_REASON = Reason(
    code=COMBINATION,
    feature="",
    value=None,
    baseline=None,
    contribution=0.0,
    text="the values together, none of them alone",
)
SCORE_INVALID_REASON = replace(
    COMBINATION_REASON, code=SCORE_INVALID, text="the model gave no valid score for these values"
)
_ROWS_A_CALL = 16_384


@dataclass(frozen=True, kw_only=True)
class Explained:
    """Contributions of the explained rows: `contribution[k, f]`, features in the order of `names`."""

    names: tuple[str, ...]
    inputs: ModelInputs
    score: Floats
    contribution: NDArray[np.float64]
    model: Model
    features: FeatureMatrix | None = None
    rows: NDArray[np.intp] | None = None


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How many reasons, from which contribution on, and which features are never named."""

    most: int = 4
    least: float = 0.0
    forbidden: frozenset[str] = frozenset()


def explain(features: FeatureMatrix, score: Floats, rows: NDArray[np.intp], model: Model) -> Explained:
    """Contributions of every input for the given rows of a matrix."""
    explained = explain_inputs(from_rows(features, model.signature, rows), score[rows], model)
    return replace(explained, features=features, rows=rows)


def explain_inputs(inputs: ModelInputs, score: Floats, model: Model) -> Explained:
    """The same for inputs that are already picked."""
    names = (*model.signature.numeric, *model.signature.categorical)
    contribution = np.zeros((len(inputs), len(names)))
    row, feature = np.nonzero(_differs(inputs, model))
    for start in range(0, len(row), _ROWS_A_CALL):
        rows, chosen = row[start : start + _ROWS_A_CALL], feature[start : start + _ROWS_A_CALL]
        changed = at_baseline(inputs, rows, [(names[f],) for f in chosen.tolist()], model)
        contribution[rows, chosen] = score[rows] - model.score_inputs(changed)
    return Explained(names=names, inputs=inputs, score=score, contribution=contribution, model=model)


def at_baseline(
    inputs: ModelInputs, rows: NDArray[np.intp], names: Sequence[Sequence[str]], model: Model
) -> ModelInputs:
    """Copies of rows, in the k-th of which the features `names[k]` stand at their baselines."""
    changed = inputs.take(rows)
    order = {name: index for index, name in enumerate(model.signature.numeric)}
    for k, chosen in enumerate(names):
        for name in chosen:
            baseline = model.baseline[name]
            if name in order:
                changed.numeric[k, order[name]] = np.nan if baseline is None else float(baseline)
            else:
                changed.categorical[name][k] = "" if baseline is None else str(baseline)
    return changed


def rank(explained: Explained, row: int, catalogue: Catalogue, limits: Limits) -> tuple[Reason, ...]:
    """The features that raised the score of one explained row most.

    Where none does so alone, one reason with the code `combination` says that.
    """
    contribution = explained.contribution[row]
    order = [
        feature
        for feature in np.argsort(-contribution, kind="stable").tolist()
        if 0.0 < contribution[feature] < np.inf
        and contribution[feature] >= limits.least
        and explained.names[feature] not in limits.forbidden
    ]
    named = tuple(_reason(explained, row, feature, catalogue) for feature in order[: limits.most])
    return named or (COMBINATION_REASON,)


def _reason(explained: Explained, row: int, feature: int, catalogue: Catalogue) -> Reason:
    name = explained.names[feature]
    value, baseline = _value(explained, feature, row), explained.model.baseline[name]
    contribution = float(explained.contribution[row, feature])
    return Reason(
        code=catalogue.code(name),
        feature=name,
        value=value,
        baseline=baseline,
        contribution=contribution,
        text=catalogue.text(name, value, baseline, contribution),
    )


def _value(explained: Explained, feature: int, row: int) -> float | str | None:
    """The value as the event had it (the model's is rounded to float32)."""
    inputs, numeric = explained.inputs, explained.inputs.numeric.shape[1]
    if feature >= numeric:
        return str(inputs.categorical[explained.names[feature]][row]) or None
    value = float(inputs.numeric[row, feature])
    if explained.features is not None and explained.rows is not None:
        column = np.asarray(explained.features.column(explained.names[feature]), dtype=np.float64)
        value = float(column[explained.rows[row]])
    return None if value != value else value


def _differs(inputs: ModelInputs, model: Model) -> NDArray[np.bool_]:
    """Where a value is not its baseline; elsewhere the contribution is zero without asking."""
    signature = model.signature
    differs = np.zeros((len(inputs), len(signature.numeric) + len(signature.categorical)), dtype=np.bool_)
    for index, name in enumerate(signature.numeric):
        baseline = model.baseline[name]
        column = inputs.numeric[:, index]
        if baseline is None:
            differs[:, index] = ~np.isnan(column)
        else:
            differs[:, index] = column != column.dtype.type(baseline)
    for index, name in enumerate(signature.categorical, start=len(signature.numeric)):
        differs[:, index] = inputs.categorical[name] != (model.baseline[name] or "")
    return differs
