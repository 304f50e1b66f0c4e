"""The common job as riskstream's user writes it: three views, 24 windowed features."""

import os

from riskstream import Aggregation, Definitions, Entity, FeatureView, Field, Source

WINDOWS = ("1h", "1d", "7d", "30d")

transactions = Source(
    name="transactions",
    topic=os.environ.get("BENCH_INPUT", "transactions"),
    event_id="event_id",
    event_time="event_time",
    time_format="ms",
    key="card_id",
    fields=(
        Field(name="event_id", dtype="string"),
        Field(name="event_time", dtype="timestamp"),
        Field(name="card_id", dtype="string"),
        Field(name="customer_id", dtype="string"),
        Field(name="merchant_id", dtype="string"),
        Field(name="amount", dtype="float64", minimum=0),
    ),
)

definitions = Definitions(
    sources=(transactions,),
    entities=(
        Entity(name="card", keys=("card_id",)),
        Entity(name="customer", keys=("customer_id",)),
        Entity(name="merchant", keys=("merchant_id",)),
    ),
    views=(
        FeatureView(
            name="card_activity",
            source="transactions",
            entity="card",
            windows=WINDOWS,
            aggregations=(
                Aggregation(function="count"),
                Aggregation(function="mean", column="amount"),
                Aggregation(function="max", column="amount"),
            ),
        ),
        FeatureView(
            name="customer_activity",
            source="transactions",
            entity="customer",
            windows=WINDOWS,
            aggregations=(
                Aggregation(function="count"),
                Aggregation(function="std", column="amount", fill=0),
            ),
        ),
        FeatureView(
            name="merchant_activity",
            source="transactions",
            entity="merchant",
            windows=WINDOWS,
            aggregations=(Aggregation(function="mean", column="amount"),),
        ),
    ),
    lateness="1h",
)
