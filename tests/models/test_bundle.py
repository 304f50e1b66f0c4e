"""Bundles: what is written is what is loaded, and it scores like the library that trained it."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from models.bundles import bundle
from models.core import inputs
from models.core.base import ModelInputs, Signature
from models.core.errors import BundleRefused
from models.formats.graph import header as onnx_header
from tests.models import small


@pytest.mark.parametrize("kind", ["forest", "logistic"])
def test_scores_like_the_library_on_10000_rows(tmp_path, kind):
    model = small.model(tmp_path, kind)
    rows, _ = small.training_set(10_000, seed=11)
    theirs = small.estimator(kind).predict_proba(rows)[:, 1]
    ours = model.score_inputs(ModelInputs(rows, {}))
    assert np.abs(ours - theirs).max() < 1e-6
    one_by_one = [model.score_inputs(ModelInputs(rows[k : k + 1], {}))[0] for k in range(200)]
    assert np.abs(np.array(one_by_one) - theirs[:200]).max() < 1e-6


def test_same_content_gives_the_same_bundle(tmp_path):
    for place in ("a", "b"):
        bundle.write(str(tmp_path / place), small.contents(version=""))
    names = sorted(file.name for file in (tmp_path / "a").iterdir())
    assert names == sorted(file.name for file in (tmp_path / "b").iterdir())
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    other = bundle.write(str(tmp_path / "c"), small.contents(version="", thresholds={"cheapest": 0.7}))
    assert other.version != bundle.describe(str(tmp_path / "a")).version


def test_versions_are_immutable(tmp_path):
    bundle.write(str(tmp_path / "a"), small.contents())
    with pytest.raises(BundleRefused, match="immutable"):
        bundle.write(str(tmp_path / "a"), small.contents())


def test_write_refuses_golden_scores_of_another_model(tmp_path):
    contents = small.contents()
    wrong = bundle.Contents(**{**vars(contents), "golden_scores": [0.5] * 20})
    with pytest.raises(BundleRefused, match="golden row 6 scores"):
        bundle.write(str(tmp_path / "a"), wrong)
    assert not (tmp_path / "a").exists()


def test_write_refuses_inputs_without_baseline(tmp_path):
    with pytest.raises(BundleRefused, match="no baseline for n, ratio"):
        bundle.write(str(tmp_path / "a"), small.contents(baseline={"amount": 0.0}))


def test_bundles_in_an_object_store():
    bundle.write("memory://models/fraud/1", small.contents())
    assert bundle.load("memory://models/fraud/1", small.TRUST, small.plan()).version.version == "1"


def test_version_names_the_manifest(tmp_path):
    import hashlib

    model = small.model(tmp_path)
    data = (tmp_path / "forest" / "manifest.json").read_bytes()
    assert model.version.sha256 == hashlib.sha256(data).hexdigest()


def test_an_empty_batch_scores_to_nothing(tmp_path):
    assert small.model(tmp_path).score_inputs(ModelInputs(np.empty((0, 3), np.float32), {})).shape == (0,)


def test_texts_of_categories():
    assert inputs.as_texts(["a", None]).tolist() == ["a", ""]
    assert inputs.as_texts(np.array([1.0, 2.5, np.nan])).tolist() == ["1", "2.5", ""]


def test_inputs_of_some_rows():
    matrix = small.Rows(20).matrix()
    signature = Signature(numeric=("amount", "n"), categorical=("channel",), plan="", source="payments")
    rows = np.array([3, 11])
    whole, some = inputs.from_matrix(matrix, signature), inputs.from_rows(matrix, signature, rows)
    assert (whole.numeric[rows] == some.numeric).all()
    assert whole.categorical["channel"][rows].tolist() == some.categorical["channel"].tolist()


def test_operator_sets_as_onnx_reads_them():
    import onnx

    graph = onnx.load_from_string(small.graph())
    theirs = {used.domain or "ai.onnx": used.version for used in graph.opset_import}
    assert onnx_header.operator_sets(small.graph()) == theirs


@pytest.mark.parametrize("data", [b"", b"\x80\x04\x95", b"plain text, no model", small.graph()[:-50]])
def test_operator_sets_of_something_else(data):
    with pytest.raises(ValueError):
        onnx_header.operator_sets(data)


def test_skops_is_the_fallback(tmp_path):
    skops = pytest.importorskip("skops.io")
    contents = small.contents("logistic", model_file="model.skops")
    data = skops.dumps(small.estimator("logistic"))
    made = bundle.Contents(**{**vars(contents), "model": data})
    bundle.write(str(tmp_path / "a"), made)
    model = bundle.load(str(tmp_path / "a"), small.TRUST, small.plan())
    rows, _ = small.training_set(50, seed=2)
    theirs = small.estimator("logistic").predict_proba(rows)[:, 1]
    assert np.abs(model.score_inputs(ModelInputs(rows, {})) - theirs).max() < 1e-9


class Mine(LogisticRegression):
    pass


def test_skops_refuses_types_that_it_does_not_know(tmp_path):
    skops = pytest.importorskip("skops.io")
    rows, bad = small.training_set(100)
    data = skops.dumps(Mine().fit(rows, bad))
    made = bundle.Contents(**{**vars(small.contents(model_file="model.skops")), "model": data})
    with pytest.raises(BundleRefused, match="types that are not safe"):
        bundle.write(str(tmp_path / "a"), made)
