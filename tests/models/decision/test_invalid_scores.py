"""A score is finite and in 0 to 1, or the event is reviewed with the flag `score_invalid`."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from models.decision.decisions import SCORE_INVALID, DecisionCode
from models.decision.policy import load_policy
from stream.codecs.alerts import AlertEncoder
from stream.codecs.contracts import Alert
from tests.models import small

THRESHOLDS = "[sources.payments]\nreview = 0.5\ndecline = 0.9\n"
INVALID = (np.nan, np.inf, -np.inf, 1.0000001, -0.1)
POLICIES = {
    "thresholds": THRESHOLDS,
    "no thresholds": "[sources.payments]\n",
    "a rule that approves": THRESHOLDS
    + '[[sources.payments.rules]]\nname = "all"\nwhen = "TRUE"\naction = "approve"\n',
    "a rule on the score": THRESHOLDS
    + '[[sources.payments.rules]]\nname = "high"\nwhen = "score > 0.2"\naction = "decline"\n',
    "a release": THRESHOLDS + "[sources.payments.release]\nshare = 1.0\n",
    "adverse action": THRESHOLDS + "[sources.payments.adverse_action]\nmost = 4\n",
    "a budget": "[sources.payments]\n[sources.payments.budget]\nalerts_per_day = 1\n",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return small.model(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def decide(tmp_path, model):
    def decided(policy: str, score: list[float]):
        file = tmp_path / "policy.toml"
        file.write_text(policy)
        features = small.Rows(len(score)).matrix()
        return load_policy(file, small.plan()).decide(features, np.array(score), model)

    return decided


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_an_event_without_a_valid_score_is_reviewed_and_never_approved(decide, policy):
    decisions = decide(policy, [*INVALID, 0.1])
    assert decisions.decision[:-1].tolist() == [DecisionCode.REVIEW] * len(INVALID)
    assert decisions.features.flags[SCORE_INVALID].tolist() == [True] * len(INVALID) + [False]
    assert np.isnan(decisions.score[:-1]).all()
    assert decisions.alert[:-1].all()
    assert decisions.invalid_scores == len(INVALID)


def test_a_rule_that_declines_still_declines(decide):
    policy = THRESHOLDS + '[[sources.payments.rules]]\nname = "all"\nwhen = "TRUE"\naction = "decline"\n'
    decisions = decide(policy, [np.nan])
    assert decisions.decision.tolist() == [DecisionCode.DECLINE]
    assert [reason.code for reason in decisions.reasons[0]] == ["all", SCORE_INVALID]


def test_valid_scores_raise_no_flag(decide):
    decisions = decide(THRESHOLDS, [0.0, 0.5, 1.0])
    assert decisions.decision.tolist() == [0, 1, 2]
    assert SCORE_INVALID not in decisions.features.flags
    assert decisions.invalid_scores == 0


def test_the_alert_says_so_without_a_number(decide):
    decisions = decide(THRESHOLDS, [np.inf, 0.95])
    records = AlertEncoder(small.plan()).alerts(decisions, 0)
    invalid, valid = (msgspec.json.decode(record.value or b"", type=Alert) for record in records)
    assert (invalid.score, invalid.threshold, invalid.decision) == (None, None, "review")
    assert invalid.flags == (SCORE_INVALID,)
    assert [reason.code for reason in invalid.reasons] == [SCORE_INVALID]
    assert (valid.score, valid.decision, valid.flags) == (0.95, "decline", ())


def test_an_invalid_score_costs_no_budget(decide):
    decisions = decide(POLICIES["a budget"], [np.nan] * 50 + [0.9])
    assert decisions.decision.tolist() == [DecisionCode.REVIEW] * 51
    assert np.isinf(decisions.threshold[:-1]).all()
