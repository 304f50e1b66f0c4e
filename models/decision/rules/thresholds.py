"""Turns a policy's thresholds into one number a row: by hand, by a bundle's name, by cost, by segment."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from features.core.batch import Bools, FeatureMatrix, Floats
from models.core.base import Model
from models.core.errors import PolicyError
from models.decision.settings import CostThreshold, SourcePolicy, Threshold

NEVER = np.inf


def check_names(policy: SourcePolicy, model: Model, where: str) -> None:
    """Refuse a policy that refers to thresholds which the model's bundle does not have."""
    wanted = [policy.review, policy.decline]
    for segment in policy.segments:
        wanted += [segment.review, segment.decline]
    for threshold in wanted:
        if isinstance(threshold, str):
            _named(threshold, model.thresholds, where)


def rows(
    policy: SourcePolicy, features: FeatureMatrix, model: Model, segments: list[Bools]
) -> tuple[Floats, Floats]:
    """(review, decline): float64[n] each. `segments[k]` says where segment k's condition holds."""
    where = f"sources.{features.batch.source.name}"
    review = _row_values(policy.review, features, model, where)
    decline = _row_values(policy.decline, features, model, where)
    free = np.ones(len(features), dtype=np.bool_)
    for segment, holds in zip(policy.segments, segments, strict=True):
        here = holds & free
        free &= ~holds
        for threshold, out in ((segment.review, review), (segment.decline, decline)):
            if threshold is not None:
                out[here] = _row_values(threshold, features, model, where)[here]
    return review, decline


def exposure_of(features: FeatureMatrix) -> Floats | None:
    """The money at stake of each event: the source's amount column, if it has one."""
    amount = features.batch.source.amount
    if amount is None or amount not in features.batch.columns:
        return None
    return np.asarray(features.batch.columns[amount], dtype=np.float64)


def _row_values(threshold: Threshold | None, features: FeatureMatrix, model: Model, where: str) -> Floats:
    if threshold is None:
        return np.full(len(features), NEVER)
    if isinstance(threshold, str):
        return np.full(len(features), _named(threshold, model.thresholds, where))
    if isinstance(threshold, CostThreshold):
        return _by_cost(threshold, features)
    return np.full(len(features), float(threshold))


def _by_cost(threshold: CostThreshold, features: FeatureMatrix) -> Floats:
    fallback = np.nan if threshold.loss is None else threshold.loss
    exposure = exposure_of(features)
    loss = np.full(len(features), fallback)
    if exposure is not None:
        loss = np.where(exposure > 0, exposure * threshold.loss_share, loss)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = threshold.cost / loss
    return np.where(np.isnan(values), NEVER, values)


def _named(name: str, known: Mapping[str, float], where: str) -> float:
    if name not in known:
        raise PolicyError(
            where, f"the model has no threshold `{name}`; it has {', '.join(sorted(known)) or 'none'}"
        )
    return known[name]
