"""Chooses the runtime for a bundle's model file by its name: `.onnx`, or `.skops` as the fallback."""

from __future__ import annotations

from typing import Protocol

from features.core.batch import Floats
from models.core.base import ModelInputs
from models.core.errors import BundleRefused
from models.core.manifest import Manifest


class Runner(Protocol):
    """A graph or estimator, ready to run from any thread."""

    def run(self, inputs: ModelInputs) -> Floats:
        """float64[n]: the probability of the bad outcome, NaN where the model has none for a row."""
        ...


class OpenedModel(Runner, Protocol):
    """A runner that knows its inputs.

    `exact` says that it reads numbers wider than float32, `whole` names the inputs that it reads as whole numbers or
    flags: a row that misses one of those has no score.
    """

    @property
    def exact(self) -> bool:
        """Whether inputs must come as float64."""
        ...

    @property
    def whole(self) -> tuple[str, ...]:
        """Inputs that cannot be missing."""
        ...


def open_runner(data: bytes, manifest: Manifest, where: str) -> OpenedModel:
    """Load a model file's bytes; refuses any other format."""
    if manifest.model_file.endswith(".onnx"):
        from models.formats.onnx_model import OnnxGraph

        return OnnxGraph(data, manifest, where)
    if manifest.model_file.endswith(".skops"):
        from models.formats.skops_model import SkopsEstimator

        return SkopsEstimator(data, manifest, where)
    raise BundleRefused(where, f"{manifest.model_file}: expected an .onnx or a .skops file")


def try_run(runner: Runner, inputs: ModelInputs, where: str) -> Floats:
    """Run a model that has not proven itself yet: any failure is a refusal."""
    try:
        return runner.run(inputs)
    except Exception as error:  # whatever a runtime raises on a graph that does not fit
        raise BundleRefused(where, f"golden rows cannot be scored: {error}") from error
