"""Does the model still stand on the ground it was trained on? Population shift, calibration, periods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from features.core.batch import Floats
from models.core.manifest import Histogram, Manifest
from models.training.data.dataset import Dataset
from models.training.evaluation.metrics import Labels, average_precision, roc_auc

STABLE = 0.1
SHIFTED = 0.25


def psi(expected: Histogram, values: Floats) -> float:
    """Population stability index of values against a training histogram: 0 is the same.

    Sum over bins of (seen - expected) * ln(seen / expected); values outside of the edges count in the
    outer bins, missing ones not at all. Below 0.1 is stable, above 0.25 shifted.

    >>> psi(Histogram(edges=(0.0, 1.0, 2.0), counts=(50, 50)), np.array([0.5, 1.5]))
    0.0
    """
    present = values[np.isfinite(values)]
    edges = np.asarray(expected.edges)
    bins = np.clip(np.searchsorted(edges, present, "right") - 1, 0, len(edges) - 2)
    bins[present == edges[-1]] = len(edges) - 2
    seen = np.bincount(bins, minlength=len(edges) - 1).astype(np.float64)
    before = np.asarray(expected.counts, dtype=np.float64)
    if not seen.sum() or not before.sum():
        return 0.0
    floor = 1e-4
    p, q = np.maximum(before / before.sum(), floor), np.maximum(seen / seen.sum(), floor)
    return float(np.sum((q - p) * np.log(q / p)))


def shifts(manifest: Manifest, data: Dataset, score: Floats) -> dict[str, Any]:
    """PSI of the score and of each numeric feature between training and `data`, largest first."""
    features = {}
    for name, histogram in manifest.features.items():
        if name in data.numeric:
            column = data.inputs.numeric[:, data.numeric.index(name)].astype(np.float64)
            features[name] = round(psi(histogram, column), 4)
    ordered = dict(sorted(features.items(), key=lambda pair: -pair[1]))
    return {
        "score_psi": round(psi(manifest.scores, score), 4) if manifest.scores else None,
        "feature_psi": ordered,
        "shifted": [name for name, value in ordered.items() if value > SHIFTED],
    }


def calibration(label: Labels, score: Floats, bins: int = 10) -> dict[str, Any]:
    """Mean score and share of bad rows in bins with as many rows each, Brier score, expected error."""
    edges = np.unique(np.quantile(score, np.linspace(0, 1, bins + 1)[1:-1]))
    bin_of_row = np.searchsorted(edges, score, "right")
    table = []
    for number in np.unique(bin_of_row):
        rows = bin_of_row == number
        table.append(
            {"rows": int(rows.sum()), "score": float(score[rows].mean()), "bad": float(label[rows].mean())}
        )
    error = sum(row["rows"] * abs(row["score"] - row["bad"]) for row in table) / len(score)
    return {
        "bins": table,
        "brier": float(np.mean((score - label) ** 2)),
        "expected_error": float(error),
        "mean_score": float(score.mean()),
        "share_bad": float(label.mean()),
    }


def periods(data: Dataset, score: Floats, count: int = 6) -> list[dict[str, Any]]:
    """The figures in equal stretches of time, for those that hold both labels."""
    if data.time is None or len(data) == 0:
        return []
    edges = np.linspace(float(data.time.min()), float(data.time.max()) + 1, count + 1)
    rows = []
    for number in range(count):
        inside = (data.time >= edges[number]) & (data.time < edges[number + 1])
        label = data.label[inside]
        if len(np.unique(label)) == 2:
            rows.append(
                {
                    "start": int(edges[number]),
                    "rows": int(inside.sum()),
                    "bad": int(label.sum()),
                    "roc_auc": roc_auc(label, score[inside]),
                    "average_precision": average_precision(label, score[inside]),
                }
            )
    return rows


def spread(figures: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Mean and spread over the folds of training, from a manifest's metrics."""
    ends = "_spread"
    return {
        name.removeprefix("folds_"): {"mean": value, "spread": figures[name + ends]}
        for name, value in figures.items()
        if name.startswith("folds_") and name + ends in figures
    }
