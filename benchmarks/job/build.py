"""Builds the common job's files once, under build/bench/job/, and checks that both model files agree.

python -m benchmarks.job.build
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import skops.io
from numpy.typing import NDArray

from benchmarks.job import events as stream
from benchmarks.job import model, reference
from benchmarks.job.spec import FEATURES

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "bench" / "job"
EVENTS = 360_000
ALERT_SHARE = 0.004
GAP = 1e-5
SAME_SCORE = 1e-6


@dataclass(frozen=True, slots=True)
class Job:
    """The built job. `scores` are the reference's, for every event of the stream."""

    events: stream.Events
    scores: NDArray[np.float64]
    threshold: float
    folder: Path

    def expected(self, stop: int, threshold: float | None = None) -> dict[str, float]:
        """Reference alerts of the first `stop` events: score by event id."""
        limit = self.threshold if threshold is None else threshold
        rows = np.flatnonzero(self.scores[:stop] >= limit)
        return {stream.event_id(row): float(self.scores[row]) for row in rows.tolist()}


def _source_hash() -> str:
    here = Path(__file__).parent
    files = [here / name for name in ("spec.py", "events.py", "reference.py", "model.py", "build.py")]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _onnx_scores(path: Path, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (name,) = [tensor.name for tensor in session.get_inputs()]
    scores = session.run(None, {name: matrix})[1][:, 1]
    return np.asarray(scores, dtype=np.float64)


def choose_threshold(scores: NDArray[np.float64]) -> float:
    """A threshold that about ALERT_SHARE of the scores reach, in a gap where rounding cannot matter."""
    ordered = np.sort(scores)
    place = int(len(ordered) * (1 - ALERT_SHARE))
    gaps = np.diff(ordered[place : place + 500])
    wide = place + int(np.flatnonzero(gaps > 2 * GAP)[0])
    return float((ordered[wide] + ordered[wide + 1]) / 2)


def _build() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    events = stream.generate(EVENTS)
    matrix = reference.features(events)
    forest = model.train(matrix, events)
    model.save(forest, FOLDER)
    reloaded = skops.io.load(FOLDER / "model.skops", trusted=model.TRUSTED)
    scores = np.asarray(reloaded.predict_proba(matrix)[:, 1], dtype=np.float64)
    threshold = choose_threshold(scores)
    served = _onnx_scores(FOLDER / "model.onnx", matrix)
    if np.abs(served - scores).max() > SAME_SCORE:
        raise SystemExit("model.onnx and model.skops disagree")
    np.savez(FOLDER / "scores.npz", scores=scores, matrix=matrix)
    (FOLDER / "job.json").write_text(
        json.dumps({"source": _source_hash(), "threshold": threshold, "features": FEATURES}, indent=1)
    )


def load() -> Job:
    """The job, built now if its files are missing or its source changed."""
    description = FOLDER / "job.json"
    if not description.exists() or json.loads(description.read_text())["source"] != _source_hash():
        _build()
    stored = np.load(FOLDER / "scores.npz")
    threshold = json.loads(description.read_text())["threshold"]
    return Job(stream.generate(EVENTS), stored["scores"], threshold, FOLDER)


if __name__ == "__main__":
    built = load()
    print(f"{len(built.events)} events, {len(built.expected(EVENTS))} alerts at {built.threshold:.4f}")
