"""What goes into a bundle beside the graph: baselines, thresholds, histograms, golden rows, metrics."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from features.core.batch import Floats, Ints
from models.bundles.bundle import Contents
from models.core.base import ModelInputs
from models.core.manifest import Histogram, Manifest, TrainingWindow
from models.training.algorithms import Trained
from models.training.data.dataset import Dataset
from models.training.evaluation.metrics import average_precision, cost_curve, roc_auc
from models.training.export.convert import INPUT, OUTPUT, to_onnx
from models.training.search import Assessed
from models.training.settings import ModelSettings, TrainSettings

GOLDEN_ROWS = 32
UNSEEN_CATEGORY = "a value that training never saw"


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """A trained model with the rows it learned from, their scores by models that had not seen them
    (same order), and the search, best first."""

    name: str
    settings: ModelSettings
    data: Dataset
    trained: Trained
    unseen_scores: Floats
    search: tuple[Assessed, ...]


def make_contents(settings: TrainSettings, training: Training) -> Contents:
    """Everything but the model card."""
    data, model = training.data, training.settings
    golden = _golden(data, training.unseen_scores)
    manifest = Manifest(
        name=training.name,
        version=model.version or "",
        algorithm=model.algorithm,
        source=data.source,
        plan=data.plan,
        numeric=data.numeric,
        categorical=data.categorical,
        baseline=baseline(data),
        files={},
        input=INPUT,
        output=OUTPUT,
        thresholds=thresholds(settings, training),
        constraints=dict(model.monotone),
        training=_window(data),
        metrics=_metrics(training),
        scores=_score_histogram(training.unseen_scores),
        features={
            name: histogram for name in data.numeric if (histogram := _histogram(data, name)) is not None
        },
        settings={name: msgspec.json.encode(value).decode() for name, value in _settings(model).items()},
    )
    return Contents(
        manifest=manifest,
        model=to_onnx(training.trained),
        golden=_columns(golden, data),
        golden_scores=training.trained.predict(golden).tolist(),
    )


def baseline(data: Dataset) -> dict[str, float | str | None]:
    """The ordinary value of each input: the median of good rows, or their most frequent text."""
    good = np.flatnonzero(data.label == 0)
    baselines: dict[str, float | str | None] = {}
    for index, name in enumerate(data.numeric):
        values = data.inputs.numeric[good, index]
        values = values[~np.isnan(values)]
        baselines[name] = float(np.float32(np.median(values))) if len(values) else None
    for name in data.categorical:
        texts, counts = np.unique(data.inputs.categorical[name][good].astype(str), return_counts=True)
        baselines[name] = str(texts[np.argmax(counts)])
    return baselines


def thresholds(settings: TrainSettings, training: Training) -> dict[str, float]:
    """Operating points on unseen scores: the cheapest, and those that flag 5, 1 and 0.1 per cent."""
    score = training.unseen_scores
    cheapest = cost_curve(training.data.label, score, training.data.amount, settings.costs)["best_threshold"]
    return {
        "cheapest": float(cheapest),
        "top_5_percent": float(np.quantile(score, 0.95)),
        "top_1_percent": float(np.quantile(score, 0.99)),
        "top_0.1_percent": float(np.quantile(score, 0.999)),
    }


def _metrics(training: Training) -> dict[str, float]:
    label, score = training.data.label, training.unseen_scores
    metrics = {
        "roc_auc": roc_auc(label, score),
        "average_precision": average_precision(label, score),
        "brier": float(np.mean((score - label) ** 2)),
    }
    if training.search:
        best = training.search[0]
        for metric in best.folds[0]:
            metrics[f"folds_{metric}"] = best.mean(metric)
            metrics[f"folds_{metric}_spread"] = best.spread(metric)
    return {name: round(value, 6) for name, value in metrics.items()}


def _settings(model: ModelSettings) -> dict[str, object]:
    settings = msgspec.to_builtins(model)
    return {
        name: settings[name]
        for name in ("parameters", "class_weight", "calibrate", "members", "weights", "seed")
    }


def _window(data: Dataset) -> TrainingWindow:
    time = data.time if data.time is not None and len(data.time) else np.zeros(1, dtype=np.int64)
    return TrainingWindow(
        start=int(time.min()), end=int(time.max()), rows=len(data), positives=int(data.label.sum())
    )


def _score_histogram(score: Floats) -> Histogram:
    """Bins between quantiles, finer towards the top, where decisions are made."""
    quantiles = np.quantile(score, [*np.linspace(0.1, 0.9, 9), 0.95, 0.98, 0.99, 0.995, 0.999])
    edges = np.unique(np.concatenate([[0.0], quantiles, [1.0]]))
    counts, _ = np.histogram(score, bins=edges)
    return Histogram(edges=tuple(edges.tolist()), counts=tuple(counts.tolist()))


def _histogram(data: Dataset, name: str) -> Histogram | None:
    """Ten bins with about as many training rows in each; None for a column without two values."""
    values = data.inputs.numeric[:, data.numeric.index(name)].astype(np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    edges = np.unique(np.quantile(values, np.linspace(0, 1, 11)))
    if len(edges) < 2:
        return None
    counts, _ = np.histogram(values, bins=edges)
    return Histogram(edges=tuple(edges.tolist()), counts=tuple(counts.tolist()))


def _golden(data: Dataset, score: Floats) -> ModelInputs:
    """Rows over the whole range of scores, and one with everything missing or never seen."""
    order: Ints = np.argsort(score, kind="stable")
    rows = order[np.unique(np.linspace(0, len(order) - 1, GOLDEN_ROWS - 1).astype(np.int64))]
    inputs = data.inputs.take(np.append(rows, rows[0]))
    inputs.numeric[-1] = np.nan
    for column in inputs.categorical.values():
        column[-1] = UNSEEN_CATEGORY
    return inputs


def _columns(inputs: ModelInputs, data: Dataset) -> dict[str, list[float | str | None]]:
    columns: dict[str, list[float | str | None]] = {}
    for index, name in enumerate(data.numeric):
        columns[name] = [None if v != v else v for v in inputs.numeric[:, index].tolist()]
    for name in data.categorical:
        columns[name] = inputs.categorical[name].tolist()
    return columns
