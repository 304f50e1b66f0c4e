"""The simulated bank: the same from the same seed, in order of time, with frauds that are really there."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest

from stream.demo.bank.card_days import KINDS, chargebacks_of, transactions_of
from stream.demo.bank.days import TOPICS, emissions, history
from stream.demo.bank.loan_days import applications_of, profiles, repayments_of
from stream.demo.bank.world import Size, make_world, start_of

SMALL = Size(cards=200, merchants=60, applicants=300, brokers=8)


@pytest.fixture(scope="module")
def world():
    return make_world(7, SMALL)


def test_same_seed_same_day_and_another_seed_another(world):
    again = transactions_of(make_world(7, SMALL), 3)
    assert again.equals(transactions_of(world, 3))
    assert not again["amount"].equals(transactions_of(make_world(8, SMALL), 3)["amount"])


def test_a_day_lies_within_its_day(world):
    for day in (-3, 0, 12):
        for frame in (transactions_of(world, day), applications_of(world, day)):
            times = frame["event_time"].to_numpy()
            assert frame["event_time"].is_sorted()
            assert times.min() >= start_of(day) // 1000
            assert times.max() < start_of(day + 1) // 1000


def test_ids_are_unique_over_days(world):
    ids = pl.concat([transactions_of(world, day)["transaction_id"] for day in range(-2, 3)])
    assert ids.is_unique().all()


def test_all_kinds_of_fraud_occur_and_are_rare():
    frame = pl.concat([transactions_of(make_world(7), day) for day in range(10)])
    share = dict(frame["kind"].value_counts(normalize=True).iter_rows())
    assert set(share) == set(KINDS)
    assert 0.005 < 1 - share[""] < 0.03


def test_large_amounts_are_large(world):
    frame = pl.concat([transactions_of(world, day) for day in range(20)])
    usual = frame.filter(pl.col("kind") == "").group_by("card_id").agg(mean=pl.col("amount").mean())
    large = frame.filter(pl.col("kind") == "large_amount").join(usual, on="card_id")
    assert len(large) > 10
    assert np.median(large["amount"] / large["mean"]) > 5


def test_every_fraud_is_charged_back_later(world):
    frame = transactions_of(world, 1)
    labels = chargebacks_of(world, frame, 1)
    assert set(labels["transaction_id"]) == set(frame.filter(pl.col("kind") != "")["transaction_id"])
    assert (labels["known_at"] > labels["transaction_time"]).all()


def test_risky_loans_default_more_often():
    world = make_world(7)
    loans = pl.concat([applications_of(world, day) for day in range(-60, 0)])
    scored = loans.join(profiles(world), on="applicant_id").with_columns(bad=pl.col("kind") == "default")
    low = mean(scored.filter(pl.col("bureau_score") < 520)["bad"])
    high = mean(scored.filter(pl.col("bureau_score") > 680)["bad"])
    assert low > 2 * high
    assert mean(repayments_of(world, loans, 0)["defaulted"]) == scored_share(loans)


def mean(values: pl.Series) -> float:
    return float(values.cast(pl.Float64).to_numpy().mean())


def scored_share(loans: pl.DataFrame) -> float:
    return mean(loans["kind"] == "default")


def test_emissions_come_in_order_and_values_do_not_tell_the_truth(world):
    stream = list(itertools.islice(emissions(world, -1), 3000))
    times = [emission.time_ms for emission in stream]
    assert times == sorted(times)
    assert {emission.topic for emission in stream} == set(TOPICS)
    assert all("kind" not in emission.value for emission in stream)
    assert any(emission.truth for emission in stream)


def test_labels_of_earlier_days_come_when_they_are_due(world):
    stream = itertools.islice(emissions(world, 0), 2000)
    labels = [emission for emission in stream if emission.topic == "loan-repayments"]
    assert labels
    assert all(int(str(emission.value["applied_at"])) < start_of(0) // 1000 for emission in labels[:1])


def test_history_holds_only_what_was_known(world):
    recorded = history(world, 10, 80)
    now = start_of(0) // 1000
    assert recorded["transactions"]["event_time"].to_numpy().max() < now
    assert recorded["chargebacks"]["known_at"].to_numpy().max() < now
    assert recorded["repayments"]["known_at"].to_numpy().max() < now
    assert len(recorded["repayments"]) < len(recorded["applications"])
