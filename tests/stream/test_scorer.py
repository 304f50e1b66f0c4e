"""The scorer: routes, swaps, sources without a model, and that a look changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest

from features.core.batch import FeatureMatrix, Floats, MicroBatch
from features.core.errors import ConfigurationError
from features.definitions.compile import compile_plan
from features.definitions.spec import (
    Aggregation,
    Definitions,
    Derived,
    Entity,
    FeatureView,
    Field,
    LabelOf,
    Profile,
    Source,
)
from features.engine.engine import FeatureEngine
from models.core.base import Model, ModelInputs, ModelVersion, Signature
from models.decision.decisions import Decisions, Mode
from stream.codecs.json import Decoder
from stream.codecs.messages import RawBatch, RawMessage
from stream.scoring.scorer import Scorer

PAYMENTS = Source(
    name="payments",
    topic="payments",
    event_id="id",
    event_time="at",
    key="card",
    fields=(
        Field(name="id", dtype="string"),
        Field(name="at", dtype="timestamp"),
        Field(name="card", dtype="string"),
        Field(name="amount", dtype="float64"),
    ),
)
VERDICTS = Source(
    name="verdicts",
    topic="verdicts",
    event_id="id",
    event_time="at",
    key="card",
    labels=LabelOf(event_id="of", value="bad"),
    fields=(
        Field(name="id", dtype="string"),
        Field(name="at", dtype="timestamp"),
        Field(name="card", dtype="string"),
        Field(name="of", dtype="string"),
        Field(name="bad", dtype="bool"),
    ),
)
DEFINITIONS = Definitions(
    sources=(PAYMENTS, VERDICTS),
    entities=(Entity(name="card", keys=("card",)),),
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


class Threshold:
    """Review from 0.5 on."""

    def check_model(self, source: str, model: Model) -> None:
        if model.version.name == "refused":
            raise ConfigurationError("the policy wants another model")

    def decide(
        self, features: FeatureMatrix, score: Floats, model: Model, mode: Mode, remember: bool = True
    ) -> Decisions:
        word = (score >= 0.5).astype(np.int8)
        return Decisions(
            features=features,
            model=model.version,
            mode=mode,
            policy="test",
            score=score,
            threshold=np.full(len(score), 0.5),
            decision=word,
            severity=word,
            alert=word > 0,
            suppressed=np.zeros(len(score), dtype=np.bool_),
        )


@dataclass
class Usual:
    """Scores by a derived feature."""

    name: str = "usual"
    source: str = "payments"
    baseline: Mapping[str, float | str | None] = field(default_factory=dict)

    @property
    def thresholds(self) -> Mapping[str, float]:
        return {}

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
    part, letters = Decoder(PAYMENTS).decode(RawBatch.of("payments", rows))
    assert letters == []
    return MicroBatch((part,))


def scorer(**routes: Model) -> Scorer:
    return Scorer(FeatureEngine(PLAN), Threshold(), routes)


def test_features_derived_score_and_decision_in_one():
    (made,) = scorer(payments=Usual()).score(batch(20, 100, 120))
    assert made.features.column("payments_count_1d_by_card").tolist() == [1, 2, 3]
    assert made.score.tolist() == [0.2, 0.6, 0.8]
    assert made.alert.tolist() == [False, True, True]
    assert made.model.name == "usual"


def test_state_goes_on_between_batches_and_a_look_changes_nothing():
    one = scorer(payments=Usual())
    one.score(batch(10))
    for _ in range(2):
        (seen,) = one.peek(batch(30, first=1))
        assert seen.score.tolist() == [0.2]
    (made,) = one.score(batch(30, first=1))
    assert made.score.tolist() == seen.score.tolist()


def test_a_source_without_a_model_is_decided_by_rules():
    (made,) = scorer().score(batch(900))
    assert (made.score.tolist(), made.model.name, made.alert.tolist()) == ([0.0], "none", [False])


def test_a_swap_takes_effect_with_the_next_batch():
    one = scorer(payments=Usual("old"))
    first = one.score(batch(1))
    one.swap("payments", Usual("new"))
    second = one.score(batch(1, first=1))
    assert (first[0].model.name, second[0].model.name) == ("old", "new")


def test_a_model_that_the_policy_refuses_is_not_swapped_in():
    one = scorer(payments=Usual("old"))
    with pytest.raises(ConfigurationError, match="wants another model"):
        one.swap("payments", Usual("refused"))
    assert one.score(batch(1))[0].model.name == "old"


def test_routes_that_cannot_be():
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
        Scorer(FeatureEngine(plan), Threshold())
