"""Inputs of a model keep their type: each is fed from the event's own number, and a missing one is never a number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import (
    BooleanTensorType,
    DoubleTensorType,
    FloatTensorType,
    Int32TensorType,
    Int64TensorType,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Binarizer, OneHotEncoder

from features.core.batch import FeatureMatrix, SourceBatch
from features.definitions.compile import compile_plan
from features.definitions.spec import Definitions, Field, Source
from models.bundles import bundle
from models.bundles.bundle import LoadedModel
from models.bundles.importing import Declaration, import_onnx
from models.bundles.signing import Trust
from models.core.errors import BundleRefused
from models.core.inputs import from_rows
from models.decision.reasons import reasons

SOURCE = Source(
    name="pay",
    topic="pay",
    event_id="id",
    event_time="at",
    fields=(
        Field(name="id", dtype="string"),
        Field(name="at", dtype="timestamp"),
        Field(name="eur", dtype="float64"),
        Field(name="shop", dtype="int64"),
        Field(name="code", dtype="int64", required=False),
        Field(name="abroad", dtype="bool"),
        Field(name="income", dtype="float64", required=False),
    ),
)
PLAN = compile_plan(Definitions(sources=(SOURCE,)))


def matrix(**columns: list[float]) -> FeatureMatrix:
    rows = len(next(iter(columns.values())))
    zeros = np.zeros(rows, np.int64)
    batch = SourceBatch(
        source=SOURCE,
        event_ids=[str(row) for row in range(rows)],
        event_time=zeros,
        received_time=zeros,
        partition=np.zeros(rows, np.int32),
        offset=np.arange(rows),
        position=np.arange(rows),
        columns={name: np.array(values, np.float64) for name, values in columns.items()},
    )
    never = np.zeros(rows, np.bool_)
    return FeatureMatrix(batch, (), np.zeros((rows, 0)), {}, {}, never, never)


def imported(tmp_path: Any, estimator: Any, inputs: list[tuple[str, Any]], **declared: Any) -> LoadedModel:
    graph = to_onnx(estimator, initial_types=inputs, options={"zipmap": False}).SerializeToString()
    names = tuple(declared.pop("numeric"))
    declaration = Declaration(
        name="m",
        source="pay",
        numeric=names,
        baseline=dict.fromkeys(names, 0.0),
        output="probabilities",
        version="1",
        **declared,
    )
    place = str(tmp_path / "bundle")
    bundle.write(place, import_onnx(graph, declaration, PLAN))
    return bundle.load(place, Trust(allow_unsigned=frozenset({"m"})), PLAN)


def limit(draw: Any) -> Any:
    x = draw.choice([10.0, 49.99, 50.0, 80.0], size=(400, 1))
    return make_pipeline(Binarizer(threshold=49.99), LogisticRegression()).fit(
        x, (x[:, 0] > 49.99).astype(int)
    )


def codes(draw: Any, known: list[int], *, dtype: Any = np.int64) -> Any:
    x = draw.choice(np.array(known, dtype), size=(600, 1))
    encoder = OneHotEncoder(categories=[np.array(known, dtype)], handle_unknown="ignore")
    return make_pipeline(encoder, LogisticRegression()).fit(x, (x[:, 0] == known[0]).astype(int))


@pytest.fixture
def draw():
    return np.random.default_rng(3)


def above_limit() -> bytes:
    """1 above 49.99, compared in float64; scikit-learn's converter compares in float32."""
    nodes = [
        helper.make_node("Greater", ["features", "limit"], ["above"]),
        helper.make_node("Cast", ["above"], ["probability"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "limit",
        [helper.make_tensor_value_info("features", TensorProto.DOUBLE, [None, 1])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, [None, 1])],
        [numpy_helper.from_array(np.array([49.99]), "limit")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())


def test_a_float64_input_is_not_rounded_to_float32(tmp_path):
    declared = Declaration(name="m", source="pay", numeric=("eur",), baseline={"eur": 10.0}, version="1")
    bundle.write(str(tmp_path / "b"), import_onnx(above_limit(), declared, PLAN))
    model = bundle.load(str(tmp_path / "b"), Trust(allow_unsigned=frozenset({"m"})), PLAN)
    beside = [float(np.nextafter(49.99, 0)), 49.99, float(np.nextafter(49.99, 50)), 50.0, 1e300]
    assert model.score(matrix(eur=beside)).tolist() == [0.0, 0.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("kind", "known"),
    [
        (Int64TensorType, [100_000_001, 100_000_002, 100_000_003]),
        (Int64TensorType, [2**53 - 3, 2**53 - 2, 2**53 - 1]),
        (Int32TensorType, [2**31 - 2, 2**31 - 1]),
    ],
)
def test_long_codes_are_told_apart(tmp_path, draw, kind, known):
    estimator = codes(draw, known, dtype=np.int64 if kind is Int64TensorType else np.int32)
    model = imported(tmp_path, estimator, [("shop", kind([None, 1]))], numeric=["shop"])
    asked = np.array([*known, known[0] - 9])
    theirs = estimator.predict_proba(asked[:, None])[:, 1]
    assert np.abs(model.score(matrix(shop=asked.tolist())) - theirs).max() < 1e-6


def test_a_flag_is_fed_as_a_flag(tmp_path, draw):
    x = draw.integers(0, 2, size=(300, 1)).astype(bool)
    estimator = LogisticRegression().fit(x, x[:, 0] ^ (draw.random(300) < 0.1))
    model = imported(tmp_path, estimator, [("abroad", BooleanTensorType([None, 1]))], numeric=["abroad"])
    theirs = estimator.predict_proba(np.array([[False], [True]]))[:, 1]
    assert np.abs(model.score(matrix(abroad=[0.0, 1.0])) - theirs).max() < 1e-6


def test_a_whole_number_that_may_be_missing_is_refused_without_a_fill(tmp_path, draw):
    estimator = codes(draw, [5411, 5812])
    inputs = [("code", Int64TensorType([None, 1]))]
    with pytest.raises(BundleRefused, match=r"no score where code is missing or unknown; .*\[fill\]"):
        imported(tmp_path, estimator, inputs, numeric=["code"])
    model = imported(tmp_path, estimator, inputs, numeric=["code"], fill={"code": -1.0})
    scores = model.score(matrix(code=[5411, 5812, np.nan, -1.0]))
    assert scores[2] == scores[3]
    assert np.isfinite(scores).all()


def test_what_is_no_whole_number_has_no_score(tmp_path, draw):
    estimator = codes(draw, [100_000_001, 100_000_002])
    model = imported(tmp_path, estimator, [("shop", Int64TensorType([None, 1]))], numeric=["shop"])
    scores = model.score(matrix(shop=[100_000_001, np.nan, 0.5, 1e300, -np.inf, 100_000_002]))
    assert np.isnan(scores).tolist() == [False, True, True, True, True, False]


def test_a_model_that_cannot_take_a_missing_value_is_refused_at_import(tmp_path, draw):
    x = draw.normal(size=(300, 2)).astype(np.float32)
    estimator = LogisticRegression().fit(x, x[:, 0] > 0)
    inputs = [("features", FloatTensorType([None, 2]))]
    with pytest.raises(BundleRefused, match="no score where income is missing"):
        imported(tmp_path, estimator, inputs, numeric=["eur", "income"])
    model = imported(tmp_path, estimator, inputs, numeric=["eur", "income"], fill={"income": 0.5})
    scores = model.score(matrix(eur=[1.0, 1.0], income=[np.nan, 0.5]))
    assert scores[0] == scores[1]


def test_a_fill_of_no_input_is_an_error(tmp_path, draw):
    with pytest.raises(BundleRefused, match="fill: incme is not among the numeric inputs"):
        imported(
            tmp_path,
            limit(draw),
            [("features", DoubleTensorType([None, 1]))],
            numeric=["eur"],
            fill={"incme": 0},
        )


def test_reasons_of_exact_inputs_compare_exactly(tmp_path, draw):
    estimator = limit(draw)
    model = imported(tmp_path, estimator, [("features", DoubleTensorType([None, 1]))], numeric=["eur"])
    features = matrix(eur=[50.0, 0.0])
    score = model.score(features)
    explained = reasons.explain(features, score, np.array([0, 1]), model)
    assert explained.contribution[0, 0] == score[0] - score[1]
    assert explained.contribution[1, 0] == 0.0


def test_an_amount_beyond_float32_is_no_warning_and_no_number(tmp_path, draw):
    x = draw.normal(size=(300, 2)).astype(np.float32)
    estimator = LogisticRegression().fit(x, x[:, 0] - x[:, 1] > 0)
    inputs = [("features", FloatTensorType([None, 2]))]
    model = imported(tmp_path, estimator, inputs, numeric=["eur", "shop"])
    features = matrix(eur=[1.0, 1e39], shop=[1.0, 1e300])
    assert np.isnan(model.score(features)).tolist() == [False, True]
    assert np.isinf(from_rows(features, model.signature, np.array([1])).numeric).all()
