"""The graph that serves gives what the library that trained gives."""

from __future__ import annotations

import numpy as np
import pytest

from models.core.base import ModelInputs
from models.core.manifest import Manifest
from models.formats.onnx_model import OnnxGraph, _open, _Walk
from models.training.algorithms import Trained, fit_member
from models.training.data.dataset import Dataset, make_dataset
from models.training.export.convert import INPUT, OUTPUT, to_onnx
from models.training.settings import ModelSettings, TrainSettings
from models.training.train import fit_plain

from .conftest import SETTINGS, make_frame

ROWS = 10_000
ALGORITHMS = {
    "logistic": ModelSettings(algorithm="logistic", class_weight="balanced"),
    "forest": ModelSettings(algorithm="forest", parameters={"n_estimators": 100, "min_samples_leaf": 2}),
    "xgboost": ModelSettings(algorithm="xgboost", parameters={"max_depth": 6}),
    "xgboost exact": ModelSettings(algorithm="xgboost", parameters={"max_depth": 8, "tree_method": "exact"}),
    "monotone": ModelSettings(algorithm="xgboost", monotone={"amount": 1, "usual": -1}),
    "blend": ModelSettings(algorithm="blend", members=("logistic", "forest", "xgboost"), weights=(1, 2, 3)),
}


def open_graph(trained: Trained, data: Dataset) -> OnnxGraph:
    manifest = Manifest(
        name="m",
        version="1",
        algorithm="x",
        source="s",
        plan="p",
        numeric=data.numeric,
        categorical=data.categorical,
        baseline={},
        files={},
        input=INPUT,
        output=OUTPUT,
    )
    return OnnxGraph(to_onnx(trained), manifest, "test")


def run_graph(trained: Trained, data: Dataset, inputs: ModelInputs) -> np.ndarray:
    return open_graph(trained, data).run(inputs)


@pytest.fixture(scope="module")
def unseen() -> Dataset:
    return make_dataset(make_frame(ROWS, seed=1), SETTINGS)


@pytest.fixture(scope="module")
def seen() -> Dataset:
    return make_dataset(make_frame(3_000), SETTINGS)


@pytest.mark.parametrize("calibration", [(1.0, 0.0), (1.7, -0.4)], ids=["plain", "calibrated"])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_graph_agrees_with_library_on_ten_thousand_rows(name, calibration, seen, unseen):
    learned = fit_plain(TrainSettings(models=ALGORITHMS), ALGORITHMS[name], seen)
    trained = Trained(members=learned.members, slope=calibration[0], intercept=calibration[1])
    assert unseen.inputs.numeric.shape[0] == ROWS
    assert np.isnan(unseen.inputs.numeric).any()
    difference = np.abs(run_graph(trained, unseen, unseen.inputs) - trained.predict(unseen.inputs))
    assert difference.max() <= 1e-6
    assert np.ptp(trained.predict(unseen.inputs)) > 0.3


@pytest.mark.parametrize("name", ALGORITHMS)
def test_values_on_a_threshold_go_the_same_way(name, seen):
    """Training values themselves, where float32 rounding of a threshold would show."""
    trained = fit_plain(TrainSettings(models=ALGORITHMS), ALGORITHMS[name], seen)
    assert np.abs(run_graph(trained, seen, seen.inputs) - trained.predict(seen.inputs)).max() <= 1e-6


@pytest.mark.parametrize("name", ALGORITHMS)
def test_missing_and_unseen_values_are_scored_alike(name, seen):
    trained = fit_plain(TrainSettings(models=ALGORITHMS), ALGORITHMS[name], seen)
    inputs = seen.inputs.take(np.arange(4))
    inputs.numeric[0] = np.nan
    inputs.numeric[1] = 1e30
    inputs.categorical["category"][2] = "never seen"
    inputs.categorical["merchant"][3] = ""
    score = run_graph(trained, seen, inputs)
    assert np.abs(score - trained.predict(inputs)).max() <= 1e-6
    assert np.isfinite(score).all()


@pytest.mark.parametrize("name", ALGORITHMS)
def test_trees_are_walked_and_change_nothing(name, seen, unseen):
    trained = fit_plain(TrainSettings(models=ALGORITHMS), ALGORITHMS[name], seen)
    graph = open_graph(trained, seen)
    walks = [stage for stage in graph._stages if isinstance(stage, _Walk)]
    assert len(walks) == {"logistic": 0, "blend": 2}.get(name, 1)
    score = graph.run(unseen.inputs)
    session = _open(to_onnx(trained), "test")
    alone = session.run([OUTPUT], {name: make(unseen.inputs) for name, make in graph._feeds.items()})[0]
    assert np.array_equal(score, alone)
    singles = [graph.run(unseen.inputs.take(np.array([row]))) for row in range(20)]
    assert np.array_equal(np.concatenate(singles), score[:20]), "an event scored alone scores as in a batch"


def test_the_same_model_gives_the_same_bytes(seen):
    member = fit_member(ALGORITHMS["forest"], seen)
    again = fit_member(ALGORITHMS["forest"], seen)
    assert to_onnx(Trained(members=(member,))) == to_onnx(Trained(members=(again,)))


@pytest.mark.parametrize("algorithm", ["logistic", "forest", "xgboost"])
def test_monotone_inputs_never_lower_the_score(algorithm, seen, unseen):
    signs = {"amount": 1, "count_7d": -1}
    trained = Trained(members=(fit_member(ModelSettings(algorithm=algorithm, monotone=signs), seen),))
    base = run_graph(trained, unseen, unseen.inputs)
    for name, sign in signs.items():
        changed = unseen.inputs.take(np.arange(ROWS))
        changed.numeric[:, unseen.numeric.index(name)] *= 3
        moved = (run_graph(trained, unseen, changed) - base) * sign
        assert moved.min() >= -1e-6
