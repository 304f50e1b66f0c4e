"""The common job's forest in ONNX Runtime, as the Python peers use it: one thread, one matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime


class Forest:
    """Scores rows of features in the order of `benchmarks.job.spec.FEATURES`."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name
        self.output = [self.session.get_outputs()[1].name]

    def scores(self, rows: Sequence[Sequence[float]]) -> list[float]:
        """The probability of fraud of each row."""
        matrix = np.array(rows, dtype=np.float32)
        (probabilities,) = self.session.run(self.output, {self.input: matrix})
        scores: list[float] = probabilities[:, 1].tolist()
        return scores
