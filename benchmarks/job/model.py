"""The common job's model: one random forest, saved once for each kind of worker.

model.onnx     for every worker with ONNX Runtime
model.skops    the same forest for the plain scikit-learn loop (skops: nothing is unpickled)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import skops.io
from numpy.typing import NDArray
from skl2onnx import to_onnx
from sklearn.ensemble import RandomForestClassifier

from benchmarks.job.events import Events

TREES = 100
DEPTH = 8
TRAINING_EVENTS = 60_000
TRUSTED = ["sklearn.tree._tree.Tree"]


def train(features: NDArray[np.float32], events: Events) -> RandomForestClassifier:
    """Fit the forest on the first events of the stream."""
    model = RandomForestClassifier(
        n_estimators=TREES, max_depth=DEPTH, min_samples_leaf=20, random_state=0, n_jobs=1
    )
    model.fit(features[:TRAINING_EVENTS], events.fraud[:TRAINING_EVENTS])
    return model


def save(model: RandomForestClassifier, folder: Path) -> None:
    """Write `model.onnx` (input "features", no ZipMap) and `model.skops`."""
    graph = to_onnx(
        model,
        np.zeros((1, model.n_features_in_), dtype=np.float32),
        options={"zipmap": False},
        target_opset=17,
    )
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    skops.io.dump(model, folder / "model.skops")
