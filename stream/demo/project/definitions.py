"""The demo's project: card payments and loan applications of one simulated bank, in one worker."""

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

transactions = Source(
    name="transactions",
    topic="transactions",
    event_id="transaction_id",
    event_time="event_time",
    key="card_id",
    amount="amount",
    fields=(
        Field(name="transaction_id", dtype="string"),
        Field(name="event_time", dtype="timestamp"),
        Field(name="card_id", dtype="string"),
        Field(name="customer_id", dtype="string"),
        Field(name="merchant_id", dtype="string"),
        Field(name="device_id", dtype="string", required=False),
        Field(name="amount", dtype="float64", minimum=0, maximum=10_000_000),
        Field(name="currency", dtype="string"),
        Field(name="country", dtype="string"),
        Field(name="category", dtype="string"),
        Field(name="channel", dtype="string"),
    ),
)

chargebacks = Source(
    name="chargebacks",
    topic="chargebacks",
    event_id="chargeback_id",
    event_time="known_at",
    key="merchant_id",
    labels=LabelOf(event_id="transaction_id", value="fraud", event_time="transaction_time"),
    fields=(
        Field(name="chargeback_id", dtype="string"),
        Field(name="known_at", dtype="timestamp"),
        Field(name="transaction_id", dtype="string"),
        Field(name="transaction_time", dtype="timestamp"),
        Field(name="card_id", dtype="string"),
        Field(name="merchant_id", dtype="string"),
        Field(name="fraud", dtype="bool"),
    ),
)

applications = Source(
    name="applications",
    topic="loan-applications",
    event_id="application_id",
    event_time="event_time",
    key="applicant_id",
    amount="amount",
    fields=(
        Field(name="application_id", dtype="string"),
        Field(name="event_time", dtype="timestamp"),
        Field(name="applicant_id", dtype="string"),
        Field(name="broker_id", dtype="string"),
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
    key="applicant_id",
    labels=LabelOf(event_id="application_id", value="defaulted", event_time="applied_at"),
    fields=(
        Field(name="repayment_id", dtype="string"),
        Field(name="known_at", dtype="timestamp"),
        Field(name="application_id", dtype="string"),
        Field(name="applied_at", dtype="timestamp"),
        Field(name="applicant_id", dtype="string"),
        Field(name="broker_id", dtype="string"),
        Field(name="defaulted", dtype="bool"),
    ),
)

entities = (
    Entity(name="card", keys=("card_id",)),
    Entity(name="customer", keys=("customer_id",)),
    Entity(name="merchant", keys=("merchant_id",)),
    Entity(name="card_merchant", keys=("card_id", "merchant_id")),
    Entity(name="card_device", keys=("card_id", "device_id")),
    Entity(name="applicant", keys=("applicant_id",)),
    Entity(name="broker", keys=("broker_id",)),
)

views = (
    FeatureView(
        name="card_activity",
        source="transactions",
        entity="card",
        windows=("1h", "1d", "7d"),
        aggregations=(
            Aggregation(function="count"),
            Aggregation(function="sum", column="amount", windows=("1d",)),
            Aggregation(function="mean", column="amount", windows=("7d",), include_current=False),
            Aggregation(function="max", column="amount", windows=("7d",), include_current=False),
            Aggregation(function="distinct", column="merchant_id", windows=("1d",)),
            Aggregation(function="elapsed", windows=("7d",)),
            Aggregation(
                function="share", of="channel = 'ecommerce'", windows=("1d",), name="online_share_{window}"
            ),
        ),
    ),
    FeatureView(
        name="customer_activity",
        source="transactions",
        entity="customer",
        windows=("1d",),
        aggregations=(Aggregation(function="sum", column="amount"),),
    ),
    FeatureView(
        name="merchant_activity",
        source="transactions",
        entity="merchant",
        windows=("1d", "7d"),
        aggregations=(
            Aggregation(function="count"),
            Aggregation(function="mean", column="amount", windows=("7d",), include_current=False),
            Aggregation(function="share", of="channel = 'ecommerce'", name="merchant_online_share_{window}"),
        ),
    ),
    FeatureView(
        name="merchant_chargebacks",
        source="chargebacks",
        entity="merchant",
        windows=("3d", "7d"),
        aggregations=(Aggregation(function="sum", column="fraud"),),
    ),
    FeatureView(
        name="card_at_merchant",
        source="transactions",
        entity="card_merchant",
        windows=("7d",),
        include_current=False,
        aggregations=(Aggregation(function="count"),),
    ),
    FeatureView(
        name="card_on_device",
        source="transactions",
        entity="card_device",
        windows=("7d",),
        include_current=False,
        aggregations=(Aggregation(function="count"),),
    ),
    FeatureView(
        name="applicant_activity",
        source="applications",
        entity="applicant",
        windows=("30d",),
        aggregations=(
            Aggregation(function="count"),
            Aggregation(function="sum", column="amount"),
        ),
    ),
    FeatureView(
        name="broker_risk",
        source="repayments",
        entity="broker",
        windows=("180d",),
        aggregations=(Aggregation(function="rate"),),
    ),
)

profiles = (
    Profile(
        name="applicant",
        entity="applicant",
        fields=(
            Field(name="income", dtype="float64"),
            Field(name="bureau_score", dtype="float64", minimum=0, maximum=1000),
            Field(name="employed_months", dtype="int64"),
        ),
        fill={"income": 36_000.0, "bureau_score": 600.0, "employed_months": 48},
    ),
)

derived = (
    Derived(
        name="amount_to_usual",
        source="transactions",
        sql="amount / NULLIF(amount_mean_7d_by_card, 0)",
    ),
    Derived(
        name="amount_to_merchant",
        source="transactions",
        sql="amount / NULLIF(amount_mean_7d_by_merchant, 0)",
    ),
    Derived(name="is_ecommerce", source="transactions", sql="channel = 'ecommerce'"),
    Derived(
        name="unknown_device",
        source="transactions",
        sql="channel = 'ecommerce' AND transactions_count_7d_by_card_device = 0",
    ),
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
)

definitions = Definitions(
    sources=(transactions, chargebacks, applications, repayments),
    entities=entities,
    views=views,
    profiles=profiles,
    derived=derived,
    capacity=128,
)
