"""The features of the Fraud Detection Handbook (ULB 2022) under the handbook's own field names.

Every fraud label becomes known exactly seven days after its transaction; a terminal's windows end
seven days before the transaction, so that all their labels are known. `columns.json` maps the
published feature names to ours.
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

WINDOWS = ("1d", "7d", "30d")
DELAY = "7d"

transactions = Source(
    name="transactions",
    topic="handbook-transactions",
    event_id="TRANSACTION_ID",
    event_time="TX_DATETIME",
    time_format="iso8601",
    key="CUSTOMER_ID",
    amount="TX_AMOUNT",
    fields=(
        Field(name="TRANSACTION_ID", dtype="int64"),
        Field(name="TX_DATETIME", dtype="timestamp"),
        Field(name="CUSTOMER_ID", dtype="int64"),
        Field(name="TERMINAL_ID", dtype="int64"),
        Field(name="TX_AMOUNT", dtype="float64", minimum=0),
    ),
)

labels = Source(
    name="labels",
    topic="handbook-labels",
    event_id="LABEL_ID",
    event_time="KNOWN_DATETIME",
    time_format="iso8601",
    key="TERMINAL_ID",
    labels=LabelOf(event_id="TRANSACTION_ID", value="TX_FRAUD", event_time="TX_DATETIME"),
    fields=(
        Field(name="LABEL_ID", dtype="int64"),
        Field(name="KNOWN_DATETIME", dtype="timestamp"),
        Field(name="TRANSACTION_ID", dtype="int64"),
        Field(name="TX_DATETIME", dtype="timestamp"),
        Field(name="TERMINAL_ID", dtype="int64"),
        Field(name="TX_FRAUD", dtype="int64", minimum=0, maximum=1),
    ),
)

definitions = Definitions(
    sources=(transactions, labels),
    entities=(
        Entity(name="customer", keys=("CUSTOMER_ID",)),
        Entity(name="terminal", keys=("TERMINAL_ID",)),
    ),
    views=(
        FeatureView(
            name="customer_spending",
            source="transactions",
            entity="customer",
            windows=WINDOWS,
            aggregations=(
                Aggregation(function="count"),
                Aggregation(function="mean", column="TX_AMOUNT"),
            ),
        ),
        FeatureView(
            name="terminal_activity",
            source="transactions",
            entity="terminal",
            windows=WINDOWS,
            delay=DELAY,
            aggregations=(Aggregation(function="count"),),
        ),
        FeatureView(
            name="terminal_risk",
            source="labels",
            entity="terminal",
            windows=WINDOWS,
            delay=DELAY,
            aggregations=(Aggregation(function="rate", fill=0),),
        ),
    ),
    derived=(
        Derived(
            name="during_weekend",
            source="transactions",
            sql="EXTRACT(isodow FROM event_time) >= 6",
        ),
        Derived(
            name="during_night",
            source="transactions",
            sql="EXTRACT(hour FROM event_time) <= 6",
        ),
    ),
)
