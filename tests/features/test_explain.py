"""What `riskstream features` says is what the plan does."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from features.core.errors import ConfigurationError
from features.definitions.compile import compile_plan
from features.definitions.explain import explain, feature_lines
from features.definitions.plan import Plan
from features.definitions.project import load_definitions
from features.offline.materialize import materialize

EXAMPLES = Path(__file__).parents[2] / "examples"


def plan_of(name: str) -> Plan:
    return compile_plan(load_definitions(EXAMPLES / name / "definitions.py"))


@pytest.mark.parametrize("name", ["payments", "lending", "handbook"])
def test_every_feature_is_listed_and_explained(name: str) -> None:
    plan = plan_of(name)
    (reader,) = plan.readers.values()
    names = [line.name for line in feature_lines(plan)]
    assert sorted(names) == sorted([*reader.names, *reader.text_names])
    for feature in names:
        assert explain(plan, feature).splitlines()[0].startswith(f"feature     {feature}")


def test_edges_of_a_window_and_the_current_event() -> None:
    text = explain(plan_of("payments"), "amount_mean_7d_by_card")
    assert "(t - 7d, t]: an event exactly 7d old is out, one at t is in" in text
    assert "2026-01-24 12:00:00         10              no: exactly 7d old" in text
    assert "2026-01-24 12:00:01         20              yes" in text
    assert "2026-01-31 12:00:00         40              no: the scored event itself" in text
    assert text.endswith("amount_mean_7d_by_card = 40")


def test_a_delayed_window_ends_before_the_event() -> None:
    text = explain(plan_of("handbook"), "transactions_count_7d_by_terminal")
    assert "(t - 7d - 7d, t - 7d]" in text
    assert "2026-01-24 12:00:00                         yes: exactly 7d old, just in" in text
    assert "2026-01-24 12:00:01                         no: younger than 7d" in text
    assert text.endswith("transactions_count_7d_by_terminal = 3")


def test_the_current_event_counts_where_it_is_included() -> None:
    text = explain(plan_of("handbook"), "TX_AMOUNT_mean_1d_by_customer")
    assert "yes: the scored event itself" in text
    assert text.endswith("= 40")


def test_a_rate_shows_labels_and_when_they_are_known() -> None:
    text = explain(plan_of("payments"), "chargebacks_rate_28d_by_merchant")
    assert "label's event" in text
    assert "no: its label becomes known after the scored event" in text
    assert text.endswith("= 0.5")


def test_profiles_and_derived_features() -> None:
    lending = plan_of("lending")
    assert "fill        30000.0" in explain(lending, "income_of_applicant")
    assert "profile_stale:applicant" in explain(lending, "applicant_age_of_applicant")
    derived = explain(plan_of("payments"), "amount_deviation")
    assert "uses        amount_mean_7d_by_card, amount_std_7d_by_card" in derived


def test_an_unknown_feature_is_told_with_what_was_meant() -> None:
    with pytest.raises(ConfigurationError, match="did you mean `amount_mean_7d_by_card`"):
        explain(plan_of("payments"), "amount_mean_7d_by_crad")


NOON = datetime(2026, 1, 31, 12)
ROW = re.compile(r"^ {12}(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) +(.*?) +(yes|no): (.*)$")
PAYMENT = {
    "card_id": "c",
    "customer_id": "p",
    "merchant_id": "m",
    "device_id": "d",
    "amount": 1.0,
    "currency": "x",
    "country": "x",
    "category": "x",
    "channel": "x",
}
AGGREGATIONS = [feature.name for feature in plan_of("payments").readers["transactions"].features]


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_the_engine_gives_what_the_example_says(name: str) -> None:
    plan = plan_of("payments")
    feature = next(one for one in plan.readers["transactions"].features if one.name == name)
    lines = explain(plan, name).splitlines()
    rows = [found.groups() for line in lines if (found := ROW.match(line))]
    labels = plan.groups[feature.group].label
    events = {NOON: dict(PAYMENT)}
    known = []
    for time, value, _, why in rows:
        at = datetime.fromisoformat(time)
        event = dict(PAYMENT)
        column = name.split(f"_{feature.function}")[0]
        if feature.function == "share":
            event["channel"] = "ecommerce" if value == "holds" else "x"
        elif column in event and value:
            event[column] = float(value) if column == "amount" else value
        if not labels:
            events[at] = event
        else:
            after = "known after" in why
            known.append(
                {
                    "transaction_time": at,
                    "known_at": NOON + timedelta(hours=1) if after else at,
                    "fraud": value == "1",
                }
            )
    transactions = pl.DataFrame(
        [{"transaction_id": str(at), "event_time": at, **event} for at, event in sorted(events.items())]
    )
    inputs = {"transactions": transactions}
    if labels:
        ids = (
            {"chargeback_id": str(n), "transaction_id": str(n), "card_id": "c", "merchant_id": "m"}
            for n in range(9)
        )
        inputs["chargebacks"] = pl.DataFrame([{**i, **one} for i, one in zip(ids, known, strict=False)]).sort(
            "known_at"
        )
    result = materialize(inputs, plan.definitions)
    assert lines[-1].strip() == f"{name} = {result[name][-1]:g}"
