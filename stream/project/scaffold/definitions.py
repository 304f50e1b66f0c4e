"""What riskstream knows about your events. Change names freely: nothing else depends on them.

riskstream features list            every feature that these definitions make
riskstream features explain NAME    how one is computed, with a worked example
"""

from riskstream import Aggregation, Definitions, Derived, Entity, FeatureView, Field, Source

payments = Source(
    name="payments",
    topic="@NAME@-payments",
    event_id="payment_id",
    event_time="paid_at",
    time_format="iso8601",  # or s, ms, us, ns since 1970, or a strptime format
    key="card",  # what the topic is keyed by
    amount="amount",
    max_age="30d",  # older events, against their Kafka timestamp, are dead-lettered
    max_ahead="1h",
    fields=(
        Field(name="payment_id", dtype="string"),
        Field(name="paid_at", dtype="timestamp"),
        Field(name="card", dtype="string", alias="card.token"),  # a dot reaches into nested objects
        Field(name="shop", dtype="string"),
        Field(name="amount", dtype="float64", minimum=0),
        Field(name="country", dtype="string", required=False),  # missing or null: both are missing
    ),
)

entities = (
    Entity(name="card", keys=("card",)),
    Entity(name="shop", keys=("shop",)),
    Entity(name="card_shop", keys=("card", "shop")),
)

views = (
    FeatureView(
        name="card_activity",
        source="payments",
        entity="card",
        windows=("1h", "1d", "7d"),
        aggregations=(
            Aggregation(function="count"),
            Aggregation(function="sum", column="amount"),
            Aggregation(function="mean", column="amount", windows=("7d",), include_current=False),
            Aggregation(function="distinct", column="country", windows=("1d",)),
        ),
    ),
    FeatureView(
        name="shop_activity",
        source="payments",
        entity="shop",
        windows=("1d",),
        aggregations=(Aggregation(function="count"), Aggregation(function="mean", column="amount")),
    ),
    FeatureView(
        name="card_at_shop",
        source="payments",
        entity="card_shop",
        windows=("30d",),
        include_current=False,
        aggregations=(Aggregation(function="count"),),
    ),
)

derived = (
    Derived(name="amount_to_usual", source="payments", sql="amount / amount_mean_7d_by_card"),
    Derived(name="first_time_at_shop", source="payments", sql="payments_count_30d_by_card_shop = 0"),
)

definitions = Definitions(sources=(payments,), entities=entities, views=views, derived=derived)
