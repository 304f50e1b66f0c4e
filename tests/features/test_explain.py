"""What `riskstream features` says is what the plan does."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.compile import compile_plan
from features.errors import ConfigurationError
from features.explain import explain, feature_lines
from features.plan import Plan
from features.project import load_definitions

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
