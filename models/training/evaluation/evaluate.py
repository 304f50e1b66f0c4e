"""Evaluates a bundle on a data set: accuracy, stability, explainability, fairness, as plain figures.

What is scored is the bundle's graph, not the library's model: the figures are those of production.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from features.core.batch import Floats, Ints
from models.bundles.bundle import LoadedModel
from models.core.base import ModelInputs
from models.decision.reasons.reasons import explain_inputs
from models.training.data.dataset import Dataset
from models.training.evaluation import metrics, stability
from models.training.evaluation.fairness import fairness_table
from models.training.search import Progress, no_progress
from models.training.settings import CostSettings

SAMPLE = 4_000
FLAGGED = 2_000


def evaluate(
    model: LoadedModel,
    data: Dataset,
    *,
    costs: CostSettings,
    cards: int = 100,
    threshold: float | None = None,
    protected: Sequence[str] = (),
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """All figures, ready for JSON; `threshold` (default: the cheapest on this data) says what is flagged."""
    progress("score", 0, 4)
    score = model.score_inputs(data.inputs)
    money = metrics.cost_curve(data.label, score, data.amount, costs)
    at = float(threshold if threshold is not None else money["best_threshold"])
    progress("accuracy", 1, 4)
    figures: dict[str, Any] = {
        "model": {
            "name": model.version.name,
            "version": model.version.version,
            "sha256": model.version.sha256,
        },
        "data": {"rows": len(data), "bad": int(data.label.sum()), "share_bad": float(data.label.mean())},
        "threshold": at,
        "accuracy": accuracy(data, score, cards, at),
        "money": money,
    }
    progress("stability", 2, 4)
    figures["stability"] = {
        "shift": stability.shifts(model.manifest, data, score),
        "calibration": stability.calibration(data.label, score),
        "periods": stability.periods(data, score),
        "folds": stability.spread(model.manifest.metrics),
    }
    progress("explanations", 3, 4)
    figures["explanations"] = {
        "importances": importances(model, data),
        "reasons": reason_frequencies(model, data, np.flatnonzero(score >= at)),
    }
    figures["fairness"] = fairness_table(data.frame, protected, data.label, score, at)
    figures["score_histogram"] = _histogram(data, score)
    progress("explanations", 4, 4)
    return figures


def accuracy(data: Dataset, score: Floats, cards: int, threshold: float) -> dict[str, Any]:
    """Ranking figures, cards found a day and the most that could be, precision and recall, curves."""
    steps = metrics.spread_thresholds(score)
    figures: dict[str, Any] = {
        "roc_auc": metrics.roc_auc(data.label, score),
        "average_precision": metrics.average_precision(data.label, score),
        "at_threshold": metrics.at_thresholds(data.label, score, np.array([threshold]))[0],
        "thresholds": metrics.at_thresholds(data.label, score, steps),
        "curves": metrics.curves(data.label, score),
    }
    if data.card is not None and data.time is not None:
        figures["cards_a_day"] = cards
        figures["card_precision"] = metrics.card_precision(data.card, data.time, data.label, score, cards)
        figures["card_precision_attainable"] = metrics.attainable_card_precision(
            data.card, data.time, data.label, cards
        )
    return figures


def importances(model: LoadedModel, data: Dataset, seed: int = 0) -> dict[str, float]:
    """Fall of ROC AUC when one input's values are shuffled among rows, largest first."""
    rows = _sample(data, seed)
    sample = data.take(rows)
    whole = metrics.roc_auc(sample.label, model.score_inputs(sample.inputs))
    order = np.random.default_rng(seed).permutation(len(rows))
    figures = {}
    for name in (*data.numeric, *data.categorical):
        changed = _replaced(sample, name, order)
        figures[name] = round(whole - metrics.roc_auc(sample.label, model.score_inputs(changed)), 6)
    return dict(sorted(figures.items(), key=lambda pair: -pair[1]))


def reason_frequencies(model: LoadedModel, data: Dataset, flagged: Ints, top: int = 3) -> dict[str, float]:
    """Share of flagged rows that name each input among their first reasons, most frequent first."""
    if not len(flagged):
        return {}
    inputs = data.inputs.take(flagged[:: max(1, len(flagged) // FLAGGED)])
    explained = explain_inputs(inputs, model.score_inputs(inputs), model)
    names, contribution = explained.names, explained.contribution
    first = np.argsort(-contribution, axis=1, kind="stable")[:, :top]
    counted = np.take_along_axis(contribution, first, axis=1) > 0
    shares = {
        name: round(float(((first == index) & counted).any(axis=1).mean()), 4)
        for index, name in enumerate(names)
    }
    return dict(sorted(((n, s) for n, s in shares.items() if s), key=lambda pair: -pair[1]))


def _replaced(data: Dataset, name: str, order: Ints) -> ModelInputs:
    changed = data.inputs.take(np.arange(len(data)))
    if name in data.numeric:
        index = data.numeric.index(name)
        changed.numeric[:, index] = changed.numeric[order, index]
    else:
        changed.categorical[name] = changed.categorical[name][order]
    return changed


def _sample(data: Dataset, seed: int) -> Ints:
    """All bad rows and good ones, at most SAMPLE of each."""
    draw = np.random.default_rng(seed)
    by_label = [np.flatnonzero(data.label == value) for value in (0, 1)]
    return np.sort(
        np.concatenate([draw.choice(rows, min(len(rows), SAMPLE), replace=False) for rows in by_label])
    )


def _histogram(data: Dataset, score: Floats) -> dict[str, list[float]]:
    edges = np.linspace(0, 1, 41)
    return {
        "edges": edges.tolist(),
        "good": np.histogram(score[data.label == 0], edges)[0].tolist(),
        "bad": np.histogram(score[data.label == 1], edges)[0].tolist(),
    }
