"""Models that read texts: inside the graph, in golden rows, and as reasons."""

from __future__ import annotations

import numpy as np
import pytest
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from models.bundles import bundle
from models.core.base import ModelInputs
from models.core.errors import BundleRefused
from models.core.inputs import as_texts
from models.core.manifest import Manifest
from models.decision.reasons import reasons
from models.decision.reasons.catalogue import Catalogue
from tests.models import small

CHANNELS = ("web", "shop", "")


def training_set(rows: int, seed: int):
    rng = np.random.default_rng(seed)
    numeric = rng.normal(size=(rows, 2)).astype(np.float32)
    channel = as_texts([CHANNELS[k] for k in rng.integers(3, size=rows)])
    bad = numeric[:, 0] + 2.0 * (channel == "web") + rng.normal(scale=0.5, size=rows) > 1.5
    return numeric, channel, bad.astype(int)


@pytest.fixture(scope="module")
def trained():
    numeric, channel, bad = training_set(2000, 0)
    encode = ColumnTransformer([
        ("channel", OneHotEncoder(handle_unknown="ignore"), [2]), ("rest", "passthrough", [0, 1]),
    ])  # fmt: skip
    table = np.column_stack([numeric.astype(object), channel])
    steps = Pipeline(
        [("encode", encode), ("forest", RandomForestClassifier(20, max_depth=5, random_state=0))]
    )
    steps.fit(table, bad)
    types = [("features", FloatTensorType([None, 2])), ("channel", StringTensorType([None, 1]))]
    graph = to_onnx(steps, initial_types=types, options={"zipmap": False}).SerializeToString()
    return steps, graph


def contents(trained, **changes):
    steps, graph = trained
    numeric, channel, _ = training_set(30, 5)
    fields = {
        "name": "fraud", "version": "1", "algorithm": "forest", "source": "payments", "files": {},
        "plan": small.plan().fingerprint, "numeric": ("amount", "n"), "categorical": ("channel",),
        "baseline": {"amount": 0.0, "n": 0.0, "channel": "shop"},
    }  # fmt: skip
    golden = {"amount": numeric[:, 0].tolist(), "n": numeric[:, 1].tolist(), "channel": channel.tolist()}
    scores = steps.predict_proba(np.column_stack([numeric.astype(object), channel]))[:, 1]
    return bundle.Contents(
        manifest=Manifest(**{**fields, **changes}), model=graph, golden=golden, golden_scores=scores.tolist()
    )


@pytest.fixture
def model(trained, tmp_path):
    bundle.write(str(tmp_path / "b"), contents(trained))
    return bundle.load(str(tmp_path / "b"), small.TRUST, small.plan())


def test_scores_like_the_library(trained, model):
    numeric, channel, _ = training_set(10_000, 9)
    channel[:10] = "a text that training never saw"
    theirs = trained[0].predict_proba(np.column_stack([numeric.astype(object), channel]))[:, 1]
    assert np.abs(model.score_inputs(ModelInputs(numeric, {"channel": channel})) - theirs).max() < 1e-6


def test_scores_matrices_with_missing_texts(model):
    matrix = small.Rows(100).matrix()
    channel = as_texts(matrix.batch.columns["channel"])
    inputs = ModelInputs(matrix.matrix(("amount", "n")), {"channel": channel})
    assert (model.score(matrix) == model.score_inputs(inputs)).all()


def test_a_text_is_a_reason(trained, model):
    matrix = small.Rows(500).matrix()
    score = model.score(matrix)
    rows = np.flatnonzero(score > 0.3)
    explained = reasons.explain(matrix, score, rows, model)
    named = [reasons.rank(explained, k, Catalogue({}), reasons.Limits()) for k in range(len(rows))]
    told = [
        (rows[k], reason) for k, found in enumerate(named) for reason in found if reason.feature == "channel"
    ]
    assert told
    for row, reason in told:
        assert reason.value in ("web", None)
        assert reason.baseline == "shop"
        changed = matrix.matrix(("amount", "n"))[row : row + 1]
        theirs = trained[0].predict_proba(np.array([[*changed[0], "shop"]], dtype=object))[0, 1]
        assert abs(reason.contribution - (score[row] - theirs)) < 1e-6


def test_a_declared_text_that_the_graph_does_not_read(trained, tmp_path):
    made = contents(trained, categorical=("channel", "card"),
                    baseline={"amount": 0.0, "n": 0.0, "channel": "shop", "card": ""})  # fmt: skip
    golden = {**made.golden, "card": made.golden["channel"]}
    with pytest.raises(BundleRefused, match="the signature's card is no input of the graph"):
        bundle.write(str(tmp_path / "b"), bundle.Contents(**{**vars(made), "golden": golden}))
