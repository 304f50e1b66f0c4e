"""Contributions are what they say on real models; adverse-action reasons pass the machine check."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.core.base import ModelInputs
from models.core.errors import PolicyError
from models.decision.policy import load_policy
from models.decision.reasons import adverse_action, catalogue, reasons
from models.decision.reasons.reasons import Limits
from tests.models import small

PLAIN = catalogue.Catalogue({})


@pytest.fixture(scope="module", params=["forest", "logistic"])
def model(request, tmp_path_factory):
    return small.model(
        tmp_path_factory.mktemp("bundle"), request.param, baseline={"amount": 0.1, "n": -0.2, "ratio": 0.0}
    )


def policy(tmp_path, text: str):
    file = tmp_path / "policy.toml"
    file.write_text(text)
    return load_policy(file, small.plan())


def test_a_contribution_is_the_change_of_the_score_at_the_baseline(model):
    rows, _ = small.training_set(300, seed=5)
    inputs = ModelInputs(rows, {})
    score = model.score_inputs(inputs)
    explained = reasons.explain_inputs(inputs, score, model)
    for feature, name in enumerate(small.FEATURES):
        changed = rows.copy()
        changed[:, feature] = model.baseline[name]
        theirs = small.estimator(model.manifest.algorithm).predict_proba(changed)[:, 1]
        assert np.abs(explained.contribution[:, feature] - (score - theirs)).max() < 1e-6


def test_contributions_of_a_linear_model_add_up_in_log_odds(tmp_path):
    model = small.model(tmp_path, "logistic")
    rows, _ = small.training_set(100, seed=6)
    score = model.score_inputs(ModelInputs(rows, {}))
    explained = reasons.explain_inputs(ModelInputs(rows, {}), score, model)

    def odds(p):
        return np.log(p / (1 - p))

    parts = odds(score)[:, None] - odds(score[:, None] - explained.contribution)
    at_all_baselines = odds(model.score_inputs(ModelInputs(np.zeros((1, 3), np.float32), {})))
    clear = (score > 0.02) & (score < 0.98)  # beyond, float32 scores have no precise log-odds
    assert clear.sum() > 30
    assert np.abs(parts.sum(axis=1) - (odds(score) - at_all_baselines))[clear].max() < 1e-3


def test_reasons_are_ranked_and_raise_the_score(model, tmp_path):
    decided = policy(tmp_path, "[sources.payments]\nreview = 0.5\n[reasons]\nmost = 2\n").decide(
        *_scored(model, 500), model
    )
    assert decided.alert.any()
    assert set(decided.reasons) == set(np.flatnonzero(decided.decision).tolist())
    for row, told in decided.reasons.items():
        contributions = [reason.contribution for reason in told]
        assert 1 <= len(told) <= 2
        assert contributions == sorted(contributions, reverse=True)
        assert all(value > 0 for value in contributions)
        for reason in told:
            assert reason.value == decided.features.column(reason.feature)[row]
            assert reason.baseline == model.baseline[reason.feature]


def test_where_no_feature_alone_raises_the_score_the_reason_says_so(tmp_path):
    model = small.model(tmp_path)
    rows = np.array([[3.0, 3.0, 0.0]], dtype=np.float32)
    score = model.score_inputs(ModelInputs(rows, {}))
    explained = reasons.explain_inputs(ModelInputs(rows, {}), score, model)
    told = reasons.rank(explained, 0, PLAIN, Limits(least=1.0))
    assert [reason.code for reason in told] == ["combination"]


def test_forbidden_features_are_never_named(model):
    features, score = _scored(model, 300)
    rows = np.flatnonzero(score > 0.5)
    explained = reasons.explain(features, score, rows, model)
    for row in range(len(rows)):
        told = reasons.rank(explained, row, PLAIN, Limits(forbidden=frozenset({"amount"})))
        assert "amount" not in [reason.feature for reason in told]


def test_every_decline_passes_the_adverse_action_check(model, tmp_path):
    text = "[sources.payments]\nreview = 0.3\ndecline = 0.5\n[sources.payments.adverse_action]\n"
    decided = policy(tmp_path, text).decide(*_scored(model, 3000), model)
    declined = np.flatnonzero(decided.decision == 2)
    assert len(declined) > 300
    assert adverse_action.violations(decided, model, frozenset({"age"})) == []
    assert all(1 <= len(decided.reasons[row]) <= 4 for row in declined.tolist())


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"feature": "age"}, "age is no input of the model"),
        ({"contribution": 0.9}, "said 0.9"),
        ({"baseline": 5.0}, "the baseline is not the bundle's"),
        ({"feature": "ratio"}, "ratio"),
    ],
)
def test_the_check_finds_false_reasons(tmp_path, change, fault):
    model = small.model(tmp_path, "logistic")
    text = "[sources.payments]\ndecline = 0.5\n[sources.payments.adverse_action]\nmost = 1\n"
    decided = policy(tmp_path, text).decide(*_scored(model, 300), model)
    row = next(iter(decided.reasons))
    decided.reasons[row] = tuple(replace(reason, **change) for reason in decided.reasons[row])
    found = adverse_action.violations(decided, model)
    assert found
    assert any(fault in text for text in found)
    decided.reasons[row] = ()
    assert "0 reasons" in adverse_action.violations(decided, model)[0]


def test_the_check_finds_protected_reasons(tmp_path):
    model = small.model(tmp_path, "logistic")
    text = "[sources.payments]\ndecline = 0.5\n[sources.payments.adverse_action]\n"
    decided = policy(tmp_path, text).decide(*_scored(model, 300), model)
    assert "amount is protected" in " ".join(adverse_action.violations(decided, model, frozenset({"amount"})))


def test_a_decline_without_true_reasons_becomes_a_review(tmp_path):
    model = small.model(tmp_path, "logistic", baseline=dict.fromkeys(small.FEATURES, 50.0))
    text = "[sources.payments]\ndecline = 0.5\n[sources.payments.adverse_action]\n"
    decided = policy(tmp_path, text).decide(*_scored(model, 300), model)
    assert adverse_action.violations(decided, model) == []
    for row in np.flatnonzero(decided.score >= 0.5).tolist():
        named = [reason for reason in decided.reasons[row] if reason.feature]
        assert (decided.decision[row] == 2) == bool(named)
    assert (decided.decision == 1).any()


def test_catalogue_texts(tmp_path):
    file = tmp_path / "reasons.toml"
    file.write_bytes(
        b'[amount]\ncode = "BIG"\ntext = "{value:,.1f} against {baseline:.0f}"\nlower = "only {value}"\n'
        b'["*_by_card"]\ntext = "{feature}: {value:.1f}"\n'
        b'[country]\ntext = "{feature!s} {value!r} not {baseline!s}"\n'
    )
    known = catalogue.parse(file.read_bytes(), file)
    assert (known.code("amount"), known.code("n")) == ("BIG", "n")
    assert known.text("amount", 1234.56, 10.0, 0.1) == "1,234.6 against 10"
    assert known.text("amount", 5.0, 10.0, 0.1) == "only 5"
    assert known.text("amount", None, 10.0, 0.1) == "missing against 10"
    assert known.text("x_by_card", "shop", None, 0.1) == "x_by_card: shop"
    assert known.text("country", "FR", None, 0.1) == "country 'FR' not None"
    assert known.text("n", 2.0, None, 0.1) == "n is 2; missing is usual"


@pytest.mark.parametrize("text", ["{unknown}", "{value", "{value.__class__}", "{value:q}", "{}"])
def test_catalogue_mistakes_are_found_at_load(tmp_path, text):
    with pytest.raises(PolicyError, match="amount"):
        catalogue.parse(f'[amount]\ntext = "{text}"\n'.encode(), tmp_path / "reasons.toml")


def _scored(model, rows: int):
    features = small.Rows(rows).matrix()
    return features, model.score(features)
