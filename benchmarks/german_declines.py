"""German credit as riskstream sees it: definitions, a credit model, and the truth of each decline's reasons.

Sex, age and nationality are protected: the definitions say so, and neither training nor the bundle check
lets them in. A policy declines where refusing is cheaper than lending (a bad loan costs five times what a
good one refused does), names up to four reasons, and each decline is checked anew.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from features.definitions.compile import compile_plan
from features.definitions.spec import Definitions, Derived, Field, Source
from features.offline.materialize import materialize, matrices
from models.bundles import bundle
from models.bundles.plan_check import protected_features
from models.bundles.signing import trust
from models.core.inputs import from_rows
from models.decision.decisions import DecisionCode, Decisions
from models.decision.policy import load_policy
from models.decision.reasons.adverse_action import violations
from models.decision.reasons.reasons import at_baseline
from models.training.evaluation.fairness import fairness_table
from models.training.settings import CostSettings, DataSettings, ModelSettings, TrainSettings
from models.training.train import train

TEXTS = (
    "status",
    "credit_history",
    "purpose",
    "savings",
    "employment",
    "other_debtors",
    "property",
    "other_installment_plans",
    "housing",
    "job",
    "telephone",
)
NUMBERS = (
    "duration",
    "amount",
    "installment_rate",
    "residence_since",
    "existing_credits",
    "people_liable",
)
PROTECTED = ("personal_status_sex", "age", "foreign_worker")

applications = Source(
    name="applications",
    topic="applications",
    event_id="application_id",
    event_time="event_time",
    amount="amount",
    fields=(
        Field(name="application_id", dtype="int64"),
        Field(name="event_time", dtype="timestamp"),
        *(Field(name=name, dtype="float64") for name in (*NUMBERS, "age")),
        *(Field(name=name, dtype="string") for name in (*TEXTS, "personal_status_sex", "foreign_worker")),
    ),
)
definitions = Definitions(
    sources=(applications,),
    derived=(
        Derived(name="amount_a_month", source="applications", sql="amount / duration"),
        Derived(name="amount_log", source="applications", sql="LN(amount)"),
    ),
    protected=PROTECTED,
)
DATA_SETTINGS = DataSettings(
    label="default",
    event_id="application_id",
    source="applications",
    inputs=(*NUMBERS, "amount_a_month", "amount_log", *TEXTS),
    protected=PROTECTED,
)
COSTS = CostSettings(missed=5.0, missed_share=0.0, false_alarm=1.0, review=0.0)
POLICY = """
[sources.applications]
decline = "cheapest"
adverse_action = { most = 4 }

[reasons]
least = 0.0
"""


def events(path: Path) -> pl.DataFrame:
    """The applications, one a day in the order of their numbers (their dates are not known)."""
    first = datetime(1973, 1, 1, tzinfo=UTC)
    frame = pl.read_parquet(path).sort("application_id")
    days = [first + timedelta(days=number) for number in range(len(frame))]
    return frame.with_columns(pl.Series("event_time", days).dt.replace_time_zone(None))


def with_features(frame: pl.DataFrame) -> pl.DataFrame:
    """Applications with their features from the engine, and the label."""
    made: pl.DataFrame = materialize({"applications": frame.drop("default")}, definitions)
    return made.join(frame.select("application_id", "default"), on="application_id", maintain_order="left")


def check(frame: pl.DataFrame, models: dict[str, ModelSettings]) -> dict[str, Any]:
    """Train the blend, decline, and check every decline's reasons; with the fairness of the decisions."""
    plan = compile_plan(definitions)
    blend = ModelSettings(algorithm="blend", members=tuple(models))
    settings = TrainSettings(data=DATA_SETTINGS, costs=COSTS, models={**models, "credit": blend})
    with tempfile.TemporaryDirectory() as folder:
        path = train(with_features(frame), settings, "credit", plan=plan, registry=folder)
        model = bundle.load(path, trust(allow_unsigned=("credit",)), plan)
        policy_file = Path(folder) / "policy.toml"
        policy_file.write_text(POLICY)
        policy = load_policy(policy_file, plan)
    parts = [
        policy.decide(matrix, model.score(matrix), model)
        for matrix in matrices(plan, {"applications": frame.drop("default").lazy()}, "applications")
    ]
    reasons = [part.reasons[row] for part in parts for row in _declines(part)]
    forbidden = protected_features(plan, "applications")
    threshold = model.manifest.thresholds["cheapest"]
    score = np.concatenate([part.score for part in parts])
    return {
        "applications": len(frame),
        "declines": len(reasons),
        "reasons": sum(len(told) for told in reasons),
        "most_reasons": max((len(told) for told in reasons), default=0),
        "failures": [fault for part in parts for fault in violations(part, model, forbidden)],
        "share_moving_to_approval": float(np.mean([m for part in parts for m in _moving(part, model)])),
        "threshold": threshold,
        "reason_frequencies": dict(Counter(one.feature for told in reasons for one in told).most_common()),
        "fairness": fairness_table(frame, PROTECTED, frame["default"].to_numpy(), score, threshold),
    }


def _declines(decisions: Decisions) -> list[int]:
    rows: list[int] = np.flatnonzero(decisions.decision == DecisionCode.DECLINE).tolist()
    return rows


def _moving(decisions: Decisions, model: bundle.LoadedModel) -> list[bool]:
    """Of each decline, whether its named features, all at their baselines, score nearer to approval."""
    rows = _declines(decisions)
    inputs = from_rows(decisions.features, model.signature, np.array(rows, dtype=np.intp))
    names = [[reason.feature for reason in decisions.reasons[row] if reason.feature] for row in rows]
    changed = model.score_inputs(at_baseline(inputs, np.arange(len(rows)), names, model))
    moving: list[bool] = (changed < model.score_inputs(inputs)).tolist()
    return moving


def show(found: dict[str, Any]) -> None:
    """The declines' check and the fairness table."""
    print(
        f"\nGerman credit: {found['declines']} of {found['applications']} declined, {found['reasons']} reasons, "
        f"at most {found['most_reasons']} each; {len(found['failures'])} fail the adverse-action check; "
        f"{100 * found['share_moving_to_approval']:.1f} % move towards approval at their baselines"
    )
    print(
        f"\n{'attribute':<22}{'group':<24}{'rows':>6}{'approved':>10}{'good declined':>15}{'bad approved':>14}"
    )
    for attribute, table in found["fairness"].items():
        for group in table["groups"]:
            cells = [group["approval_rate"], group["false_decline"], group["false_approval"]]
            shown = [f"{value:.3f}" if value is not None else "" for value in cells]
            print(
                f"{attribute:<22}{group['group']:<24}{group['rows']:>6}"
                f"{shown[0]:>10}{shown[1]:>15}{shown[2]:>14}"
            )
