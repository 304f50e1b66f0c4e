"""One simulated day of loan applications, and the repayments that tell how they went."""

from __future__ import annotations

import numpy as np
import polars as pl

from features.core.batch import Floats, Ints
from stream.demo.bank.world import DAY_US, World, names, start_of

APPLICATIONS_A_DAY = 60
PURPOSES = ("car", "home", "education", "debt", "business")
PURPOSE_RISK = np.array([0.0, -0.3, 0.1, 0.5, 0.4])
REPAYMENT_DAYS = (30, 60)


def applications_of(world: World, day: int) -> pl.DataFrame:
    """The day's applications in order of time; `kind` is "default" where the loan will go bad."""
    random = world.random("applications", day)
    count = int(random.poisson(APPLICATIONS_A_DAY))
    who = random.integers(0, world.size.applicants, count)
    income = world.applicants.income[who]
    amount = np.round(income * random.lognormal(-1.0, 0.6, count), -2) + 500
    term = random.choice(np.array([12, 24, 36, 48, 60, 84]), count)
    purpose = random.integers(0, len(PURPOSES), count)
    overstated = random.lognormal(0.02, 0.12, count)
    risk = _risk(world, who, amount / term / (income / 12), purpose, overstated)
    bad = random.random(count) < 1 / (1 + np.exp(-risk))
    time = start_of(day) + np.sort(random.integers(8 * 3_600_000_000, 20 * 3_600_000_000, count))
    return pl.DataFrame(
        {
            "application_id": [f"a{day:+05d}-{number:05d}" for number in range(count)],
            "event_time": time // 1000,
            "applicant_id": names("applicant", who),
            "broker_id": names("broker", world.applicants.broker[who]),
            "amount": amount,
            "term_months": term,
            "purpose": [PURPOSES[index] for index in purpose.tolist()],
            "declared_income": np.round(income * overstated, -2),
            "kind": ["default" if is_bad else "" for is_bad in bad.tolist()],
        },
        schema_overrides={"purpose": pl.String, "kind": pl.String},
    )


def _risk(world: World, who: Ints, burden: Floats, purpose: Ints, overstated: Floats) -> Floats:
    """Log-odds of default: what a lender would look at, and how hard the broker sells."""
    people = world.applicants
    score = (600 - people.bureau_score[who]) / 60
    experience = -0.4 * np.log1p(people.employed_months[who] / 24)
    pressure = 0.5 * world.broker_pressure[people.broker[who]]
    lies = 6 * np.maximum(overstated - 1.1, 0)
    risk: Floats = -2.6 + score + experience + 2.5 * burden + PURPOSE_RISK[purpose] + pressure + lies
    return risk


def repayments_of(world: World, applications: pl.DataFrame, day: int) -> pl.DataFrame:
    """What becomes known of a day's loans, good or bad, one to two months later."""
    random = world.random("repayments", day)
    first, last = REPAYMENT_DAYS
    delay = random.integers(first * DAY_US, last * DAY_US, len(applications)) // 1000
    return applications.select(
        repayment_id="r-" + pl.col("application_id"),
        known_at=pl.col("event_time") + pl.Series(delay, dtype=pl.Int64),
        application_id="application_id",
        applied_at="event_time",
        applicant_id="applicant_id",
        broker_id="broker_id",
        defaulted=pl.col("kind") == "default",
    ).sort("known_at", "repayment_id")


def profiles(world: World) -> pl.DataFrame:
    """The profile file: what a bureau delivered about most applicants."""
    people = world.applicants
    keep = people.in_profile_file
    return pl.DataFrame(
        {
            "applicant_id": names("applicant", np.flatnonzero(keep)),
            "income": people.income[keep],
            "bureau_score": people.bureau_score[keep],
            "employed_months": people.employed_months[keep],
        }
    )
