"""An evaluation's figures, its report that fetches nothing, and the tables of shift and fairness."""

from __future__ import annotations

import json
import re

import numpy as np
import polars as pl
import pytest

from models.bundles import bundle
from models.bundles.signing import Trust
from models.core.manifest import Histogram
from models.training.data.dataset import make_dataset
from models.training.evaluation import stability
from models.training.evaluation.evaluate import evaluate, reason_frequencies
from models.training.evaluation.fairness import fairness_table
from models.training.evaluation.metrics import roc_auc
from models.training.evaluation.report import render_report
from models.training.settings import CostSettings, ModelSettings, SearchSettings, TrainSettings
from models.training.train import train

from .conftest import SETTINGS, make_frame

SEARCH = SearchSettings(train="7d", delay="3d", assess="4d", folds=2, cards=10)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    forest = ModelSettings(algorithm="forest", parameters={"n_estimators": 30, "min_samples_leaf": 5})
    settings = TrainSettings(data=SETTINGS, search=SEARCH, models={"fraud": forest})
    path = train(make_frame(6_000), settings, "fraud", registry=str(tmp_path_factory.mktemp("registry")))
    return bundle.load(path, Trust(allow_unsigned=frozenset({"fraud"})))


@pytest.fixture(scope="module")
def fresh():
    return make_dataset(make_frame(3_000, seed=3), SETTINGS)


@pytest.fixture(scope="module")
def figures(model, fresh):
    return evaluate(model, fresh, costs=CostSettings(), cards=20, protected=("sex",))


def test_figures_are_those_of_the_graph(figures, model, fresh):
    score = model.score_inputs(fresh.inputs)
    accuracy = figures["accuracy"]
    assert accuracy["roc_auc"] == roc_auc(fresh.label, score)
    assert accuracy["card_precision"] <= accuracy["card_precision_attainable"] <= 1
    assert figures["money"]["best_cost"] < figures["money"]["flag_nothing"]
    flagged = score >= figures["threshold"]
    assert accuracy["at_threshold"]["precision"] == pytest.approx(fresh.label[flagged].mean())
    assert json.loads(json.dumps(figures)) == figures


def test_spread_over_folds_comes_from_training(figures):
    assert set(figures["stability"]["folds"]) >= {"roc_auc", "average_precision", "card_precision"}


def test_what_decides_is_important(figures):
    importances = figures["explanations"]["importances"]
    assert next(iter(importances)) == "amount"
    assert importances["amount"] > 10 * abs(importances["hours"])


def test_reasons_of_flagged_rows_name_what_decides(figures, model, fresh):
    reasons = figures["explanations"]["reasons"]
    assert next(iter(reasons)) == "amount"
    assert reasons["amount"] > 0.8
    assert reason_frequencies(model, fresh, np.array([], dtype=np.int64)) == {}


def test_the_report_is_one_file(figures, tmp_path):
    page = render_report(figures, "# Model card\n<script>alert(1)</script>")
    (tmp_path / "report.html").write_text(page)
    own = page[: page.index("<script>")] + page[page.index("</script>") :]
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", own)
    assert "&lt;script&gt;alert(1)" in page
    for heading in ("Accuracy", "Stability", "Explanations", "Fairness", "Model card"):
        assert f"<h2>{heading}</h2>" in page
    assert page.count("Plotly.newPlot(") >= 8


def test_no_shift_on_the_same_population(figures):
    assert figures["stability"]["shift"]["score_psi"] < 0.1
    assert figures["stability"]["shift"]["shifted"] == []


def test_a_shifted_feature_is_named(model, fresh):
    moved = make_dataset(make_frame(3_000, seed=3).with_columns(pl.col("amount") * 6), SETTINGS)
    shift = stability.shifts(model.manifest, moved, model.score_inputs(moved.inputs))
    assert "amount" in shift["shifted"]
    assert "hours" not in shift["shifted"]
    assert shift["score_psi"] > 0.25


def test_psi_by_hand():
    histogram = Histogram(edges=(0.0, 1.0, 2.0), counts=(50, 50))
    values = np.array([0.5] * 3 + [1.5, np.nan, 99.0])
    expected = (0.6 - 0.5) * np.log(0.6 / 0.5) + (0.4 - 0.5) * np.log(0.4 / 0.5)
    assert stability.psi(histogram, values) == pytest.approx(expected)
    assert stability.psi(histogram, np.array([2.0])) == stability.psi(histogram, np.array([1.5]))


def test_calibration_of_a_true_score():
    draw = np.random.default_rng(0)
    score = draw.uniform(0, 1, 20_000)
    label = (draw.uniform(0, 1, 20_000) < score).astype(np.int8)
    assert stability.calibration(label, score)["expected_error"] < 0.02
    assert stability.calibration(label, score / 2)["expected_error"] > 0.2


def test_fairness_counts_by_group():
    frame = pl.DataFrame({"sex": ["f", "f", "m", "m"] * 20, "age": list(range(80))})
    label = np.array([0, 1, 0, 1] * 20, dtype=np.int8)
    score = np.array([0.9, 0.9, 0.1, 0.9] * 20)
    table = fairness_table(frame, ["sex", "age", "absent"], label, score, 0.5)
    assert list(table) == ["sex", "age"]
    women, men = table["sex"]["groups"]
    assert (women["approval_rate"], men["approval_rate"]) == (0.0, 0.5)
    assert (women["false_decline"], men["false_decline"]) == (1.0, 0.0)
    assert table["sex"]["look_closer"]
    assert len(table["age"]["groups"]) == 4


def test_a_bundle_carries_its_card(model):
    assert "card.md" in model.manifest.files
