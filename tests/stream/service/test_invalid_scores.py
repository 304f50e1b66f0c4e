"""Over HTTP, as in the stream, a row without a valid score is reviewed, flagged and counted."""

from __future__ import annotations

import numpy as np

from features.engine.engine import FeatureEngine
from models.bundles.bundle import LoadedModel
from models.decision.decisions import Decisions
from models.decision.policy import load_policy
from stream.kafka.batches.progress import Progress
from stream.scoring.scorer import Scorer
from stream.service.scoring.row_scorer import AskedRows, RowScorer
from stream.service.scoring.served_models import ServedModels
from stream.telemetry.metrics import Metrics
from tests.models import small


class NoScore:
    """A runner that has no score for any row."""

    def run(self, inputs):
        return np.full(len(inputs), np.nan)


def scorer(folder):
    (folder / "policy.toml").write_text("[sources.payments]\nreview = 0.5\n")
    whole = small.model(folder)
    model = LoadedModel(whole.manifest, whole.version, NoScore())
    policy = load_policy(folder / "policy.toml", small.plan())
    return Scorer(FeatureEngine(small.plan()), policy, {"payments": model}), model


def test_rows_over_http(tmp_path):
    scored, model = scorer(tmp_path)
    counted: list[Decisions] = []
    rows = RowScorer(scored, ServedModels(scored.routes), counted.append)
    (answer,) = rows.score([AskedRows(model, [{"amount": 1.0, "n": 2.0, "ratio": 0.1}])])
    assert not isinstance(answer, Exception)
    (prediction,) = answer
    assert (prediction.score, prediction.decision, prediction.flags) == (None, "review", ("score_invalid",))
    assert [decisions.invalid_scores for decisions in counted] == [1]


def test_events_in_the_stream_are_counted(tmp_path):
    scored, _ = scorer(tmp_path)
    metrics = Metrics()
    (decisions,) = scored.decide([small.Rows(3).matrix()])
    Progress(metrics, 1.0)._count_decisions("payments", decisions)
    assert (
        metrics.registry.get_sample_value(
            "riskstream_scores_invalid_total", {"source": "payments", "mode": "live"}
        )
        == 3
    )
