"""Loan applications: what an applicant, a device and a broker have been doing, and who the applicant is.

Applications are scored; repayment outcomes arrive months later as labels. Profiles (income, bureau
score) are loaded with `riskstream profiles load` and joined with their age.
"""

from riskstream import (
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

applications = Source(
    name="applications",
    topic="loan-applications",
    event_id="application_id",
    event_time="event_time",
    time_format="ms",
    key="applicant_id",
    amount="amount",
    fields=(
        Field(name="application_id", dtype="string"),
        Field(name="event_time", dtype="timestamp"),
        Field(name="applicant_id", dtype="string"),
        Field(name="broker_id", dtype="string", required=False),
        Field(name="device_id", dtype="string", required=False),
        Field(name="amount", dtype="float64", minimum=0),
        Field(name="term_months", dtype="int64", minimum=1, maximum=480),
        Field(name="purpose", dtype="string"),
        Field(name="declared_income", dtype="float64", required=False, minimum=0),
    ),
)

repayments = Source(
    name="repayments",
    topic="loan-repayments",
    event_id="repayment_id",
    event_time="known_at",
    time_format="ms",
    key="applicant_id",
    labels=LabelOf(event_id="application_id", value="defaulted", event_time="applied_at"),
    fields=(
        Field(name="repayment_id", dtype="string"),
        Field(name="known_at", dtype="timestamp"),
        Field(name="application_id", dtype="string"),
        Field(name="applied_at", dtype="timestamp"),
        Field(name="applicant_id", dtype="string"),
        Field(name="broker_id", dtype="string", required=False),
        Field(name="defaulted", dtype="bool"),
    ),
)

entities = (
    Entity(name="applicant", keys=("applicant_id",)),
    Entity(name="broker", keys=("broker_id",)),
    Entity(name="device", keys=("device_id",)),
)

views = (
    FeatureView(
        name="applicant_activity",
        source="applications",
        entity="applicant",
        windows=("7d", "90d"),
        aggregations=(
            Aggregation(function="count"),
            Aggregation(function="sum", column="amount", windows=("90d",)),
            Aggregation(function="distinct", column="broker_id", windows=("90d",)),
            Aggregation(function="min", column="declared_income", windows=("90d",)),
            Aggregation(function="max", column="declared_income", windows=("90d",)),
            Aggregation(function="elapsed", windows=("90d",)),
        ),
    ),
    FeatureView(
        name="applicant_history",
        source="repayments",
        entity="applicant",
        windows=("730d",),
        aggregations=(
            Aggregation(function="count"),
            Aggregation(function="sum", column="defaulted"),
        ),
    ),
    FeatureView(
        name="broker_risk",
        source="repayments",
        entity="broker",
        windows=("365d",),
        aggregations=(Aggregation(function="rate", fill=0),),
    ),
    FeatureView(
        name="device_activity",
        source="applications",
        entity="device",
        windows=("1d", "30d"),
        aggregations=(Aggregation(function="distinct", column="applicant_id"),),
    ),
)

profiles = (
    Profile(
        name="applicant",
        entity="applicant",
        updated_at="updated_at",
        max_age="180d",
        fields=(
            Field(name="income", dtype="float64"),
            Field(name="bureau_score", dtype="float64", minimum=0, maximum=1000, required=False),
            Field(name="employed_months", dtype="int64", required=False),
            Field(name="age", dtype="int64"),
            Field(name="updated_at", dtype="timestamp"),
        ),
        fill={"income": 30_000.0, "bureau_score": 500.0},
    ),
)

derived = (
    Derived(
        name="instalment_to_income",
        source="applications",
        sql="(amount / term_months) / NULLIF(income_of_applicant / 12, 0)",
    ),
    Derived(
        name="income_overstated",
        source="applications",
        sql="declared_income / NULLIF(income_of_applicant, 0)",
    ),
    Derived(
        name="income_spread",
        source="applications",
        sql="declared_income_max_90d_by_applicant - declared_income_min_90d_by_applicant",
    ),
)

definitions = Definitions(
    sources=(applications, repayments),
    entities=entities,
    views=views,
    profiles=profiles,
    derived=derived,
    protected=("age", "age_of_applicant"),
    lateness="7d",
)
