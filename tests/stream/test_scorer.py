"""The scorer: routes, swaps, observers, sources without a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from features.core.batch import FeatureMatrix, Floats, MicroBatch
from features.core.errors import ConfigurationError
from features.definitions.compile import compile_plan
from features.definitions.spec import (
    Aggregation,
    Definitions,
    Derived,
    FeatureView,
    Field,
    Profile,
)
from features.engine.engine import FeatureEngine
from models.core.base import Model, ModelInputs, ModelVersion, Signature
from models.decision.policy import Policy, load_policy
from stream.codecs.json import JsonDecoder
from stream.codecs.messages import RawBatch, RawMessage
from stream.scoring.scorer import Scorer
from tests.definitions import CARD, PAYMENTS, VERDICTS

DEFINITIONS = Definitions(
    sources=(PAYMENTS, VERDICTS),
    entities=(CARD,),
    views=(
        FeatureView(
            name="activity",
            source="payments",
            entity="card",
            windows=("1d",),
            aggregations=(Aggregation(function="count"), Aggregation(function="sum", column="amount")),
        ),
    ),
    derived=(
        Derived(name="usual", source="payments", sql="amount_sum_1d_by_card / payments_count_1d_by_card"),
    ),
)
PLAN = compile_plan(DEFINITIONS)


POLICY = "[sources.payments]\nreview = 0.5\n"


@dataclass
class Usual:
    """Scores by a derived feature."""

    name: str = "usual"
    source: str = "payments"
    baseline: Mapping[str, float | str | None] = field(default_factory=lambda: {"usual": 1.0})
    thresholds: Mapping[str, float] = field(default_factory=dict)

    @property
    def version(self) -> ModelVersion:
        return ModelVersion(name=self.name, version="1", sha256="")

    @property
    def signature(self) -> Signature:
        return Signature(numeric=("usual",), categorical=(), plan=PLAN.fingerprint, source=self.source)

    def score(self, features: FeatureMatrix) -> Floats:
        return np.asarray(features.column("usual"), dtype=np.float64) / 100

    def score_inputs(self, inputs: ModelInputs) -> Floats:
        return inputs.numeric[:, 0].astype(np.float64) / 100


def batch(*amounts: float, first: int = 0) -> MicroBatch:
    values = [
        b'{"id": "%d", "at": %d, "card": "c", "amount": %f}'
        % (first + row, 1_700_000_000_000 + first + row, amount)
        for row, amount in enumerate(amounts)
    ]
    rows = [RawMessage("payments", 0, first + row, -1, b"c", value) for row, value in enumerate(values)]
    part, letters = JsonDecoder(PAYMENTS).decode(RawBatch.of("payments", rows))
    assert letters == []
    return MicroBatch((part,))


@pytest.fixture
def scorer(tmp_path: Path) -> Callable[..., Scorer]:
    def make(policy: str = POLICY, **routes: Model) -> Scorer:
        file = tmp_path / "policy.toml"
        file.write_text(policy)
        return Scorer(FeatureEngine(PLAN), load_policy(file, PLAN), routes)

    return make


def test_features_derived_score_and_decision_in_one(scorer):
    (decisions,) = scorer(payments=Usual()).score(batch(20, 100, 120))
    assert decisions.features.column("payments_count_1d_by_card").tolist() == [1, 2, 3]
    assert decisions.score.tolist() == [0.2, 0.6, 0.8]
    assert decisions.alert.tolist() == [False, True, True]
    assert decisions.model.name == "usual"


def test_state_goes_on_between_batches(scorer):
    payments = scorer(payments=Usual())
    payments.score(batch(10))
    (decisions,) = payments.score(batch(30, first=1))
    assert decisions.score.tolist() == [0.2]


def test_every_observer_is_shown_what_was_scored_and_no_question(scorer):
    payments = scorer(payments=Usual())
    shown: list[int] = []
    payments.observers += [
        lambda matrix: shown.append(len(matrix)),
        lambda matrix: shown.append(-len(matrix)),
    ]
    matrices = payments.engine.run(payments.engine.prepare(batch(10, 20))).values()
    payments.decide(matrices, remember=False)
    assert shown == []
    payments.decide(matrices)
    assert shown == [2, -2]


def test_a_source_without_a_model_is_decided_by_rules(scorer):
    (decisions,) = scorer().score(batch(900))
    assert (decisions.score.tolist(), decisions.model.name, decisions.alert.tolist()) == (
        [0.0],
        "none",
        [False],
    )


def test_a_swap_takes_effect_with_the_next_batch(scorer):
    payments = scorer(payments=Usual("old"))
    first = payments.score(batch(1))
    payments.swap("payments", Usual("new"))
    second = payments.score(batch(1, first=1))
    assert (first[0].model.name, second[0].model.name) == ("old", "new")


def test_a_model_that_the_policy_refuses_is_not_swapped_in(scorer):
    old = Usual("old", thresholds={"cheapest": 0.5})
    payments = scorer(POLICY.replace("0.5", '"cheapest"'), payments=old)
    with pytest.raises(ConfigurationError, match="no threshold `cheapest`"):
        payments.swap("payments", Usual("refused"))
    assert payments.score(batch(1))[0].model.name == "old"


def test_routes_that_cannot_be(scorer):
    with pytest.raises(
        ConfigurationError, match=r"models\.routes\.verdicts: no such scored source; known: payments"
    ):
        scorer(verdicts=Usual())
    with pytest.raises(ConfigurationError, match="was made for source `loans`"):
        scorer(payments=Usual(source="loans"))


def test_profiles_cannot_be_forgotten():
    profile = Profile(name="holder", entity="card", fields=(Field(name="age", dtype="int64"),))
    plan = compile_plan(Definitions(sources=(PAYMENTS,), entities=DEFINITIONS.entities, profiles=(profile,)))
    with pytest.raises(ConfigurationError, match="joins profile `holder`, but no profiles are given"):
        Scorer(FeatureEngine(plan), Policy("", {}))
