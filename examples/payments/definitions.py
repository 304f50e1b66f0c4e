"""Card payments: what a card, its customer, a merchant and a device have been doing.

Transactions are scored; chargebacks arrive weeks later, are never scored, and say how often a merchant
turned out bad.
"""

from riskstream import (
    Aggregation,
    Definitions,
    Derived,
    Entity,
    FeatureView,
    Field,
    LabelOf,
    Source,
)

transactions = Source(
    name="transactions",
    topic="transactions",
    event_id="transaction_id",
    event_time="event_time",
    time_format="ms",
    key="card_id",
    amount="amount",
    max_age="7d",
    max_ahead="10m",
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
    time_format="ms",
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

entities = (
    Entity(name="card", keys=("card_id",)),
    Entity(name="customer", keys=("customer_id",)),
    Entity(name="merchant", keys=("merchant_id",)),
    Entity(name="device", keys=("device_id",)),
    Entity(name="card_merchant", keys=("card_id", "merchant_id")),
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
            Aggregation(function="std", column="amount", windows=("7d",), include_current=False),
            Aggregation(function="max", column="amount", windows=("7d",), include_current=False),
            Aggregation(function="distinct", column="merchant_id", windows=("1d",)),
            Aggregation(function="distinct", column="country", windows=("1d",)),
            Aggregation(function="elapsed", windows=("7d",)),
            Aggregation(
                function="share", of="channel = 'ecommerce'", windows=("7d",), name="ecommerce_share_{window}"
            ),
        ),
    ),
    FeatureView(
        name="customer_activity",
        source="transactions",
        entity="customer",
        windows=("1d", "7d"),
        aggregations=(
            Aggregation(function="sum", column="amount"),
            Aggregation(function="distinct", column="device_id", windows=("7d",)),
        ),
    ),
    FeatureView(
        name="merchant_activity",
        source="transactions",
        entity="merchant",
        windows=("1h", "1d"),
        aggregations=(
            Aggregation(function="count"),
            Aggregation(function="mean", column="amount", windows=("1d",), include_current=False),
        ),
    ),
    FeatureView(
        name="merchant_risk",
        source="chargebacks",
        entity="merchant",
        windows=("7d", "28d"),
        aggregations=(Aggregation(function="rate", fill=0),),
    ),
    FeatureView(
        name="device_activity",
        source="transactions",
        entity="device",
        windows=("1d",),
        aggregations=(
            Aggregation(function="count"),
            Aggregation(function="distinct", column="card_id"),
        ),
    ),
    FeatureView(
        name="card_at_merchant",
        source="transactions",
        entity="card_merchant",
        windows=("30d",),
        include_current=False,
        aggregations=(Aggregation(function="count"),),
    ),
)

derived = (
    Derived(
        name="amount_to_usual",
        source="transactions",
        sql="amount / NULLIF(amount_mean_7d_by_card, 0)",
    ),
    Derived(
        name="amount_deviation",
        source="transactions",
        sql="(amount - amount_mean_7d_by_card) / NULLIF(amount_std_7d_by_card, 0)",
    ),
    Derived(
        name="first_time_at_merchant",
        source="transactions",
        sql="transactions_count_30d_by_card_merchant = 0",
    ),
    Derived(
        name="is_night",
        source="transactions",
        sql="EXTRACT(hour FROM event_time) < 6",
    ),
    Derived(
        name="is_ecommerce",
        source="transactions",
        sql="channel = 'ecommerce'",
    ),
)

definitions = Definitions(
    sources=(transactions, chargebacks),
    entities=entities,
    views=views,
    derived=derived,
)
