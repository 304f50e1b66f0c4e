"""Features behind the handbook's chosen model, richer than the published ones, all of them streamed.

What they look for: an amount far above what the customer used to spend before the last two weeks
(a stolen card's amounts would spoil a newer mean), other such amounts in the last two weeks, and where
a terminal stands in its spell of fraud, from the labels that are known: one week's delay, then week by
week, since a spell that began four weeks ago is over.
"""

import importlib.util
from pathlib import Path

from riskstream import Aggregation, Definitions, Derived, FeatureView

_spec = importlib.util.spec_from_file_location(
    "handbook_published", Path(__file__).with_name("definitions.py")
)
if _spec is None or _spec.loader is None:
    raise ImportError("definitions.py must stand beside this file")
_published = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_published)
published: Definitions = _published.definitions

views = (
    FeatureView(
        name="customer_long_ago",
        source="transactions",
        entity="customer",
        windows=("90d", "150d"),
        delay="14d",
        aggregations=(
            Aggregation(function="mean", column="TX_AMOUNT", name="usual_amount_{window}"),
            Aggregation(function="std", column="TX_AMOUNT", name="usual_spread_{window}"),
        ),
    ),
    FeatureView(
        name="customer_recent",
        source="transactions",
        entity="customer",
        windows=("7d", "14d"),
        include_current=False,
        aggregations=(
            Aggregation(function="mean", column="TX_AMOUNT", name="recent_amount_{window}"),
            Aggregation(function="max", column="TX_AMOUNT", name="recent_highest_{window}"),
        ),
    ),
    FeatureView(
        name="terminal_frauds_newest",
        source="labels",
        entity="terminal",
        windows=("1d", "2d", "3d", "5d", "7d", "14d", "28d"),
        delay="7d",
        aggregations=(
            Aggregation(function="rate", name="terminal_rate_{window}", fill=0),
            Aggregation(function="sum", column="TX_FRAUD", name="terminal_frauds_{window}"),
        ),
    ),
    *(
        FeatureView(
            name=f"terminal_frauds_{delay}_ago",
            source="labels",
            entity="terminal",
            windows=("7d",),
            delay=delay,
            aggregations=(
                Aggregation(function="rate", name=f"terminal_rate_{delay}_ago"),
                Aggregation(function="sum", column="TX_FRAUD", name=f"terminal_frauds_{delay}_ago"),
            ),
        )
        for delay in ("14d", "21d", "28d")
    ),
)

derived = (
    Derived(name="amount_to_usual", source="transactions", sql="TX_AMOUNT / NULLIF(usual_amount_150d, 0)"),
    Derived(
        name="recent_to_usual",
        source="transactions",
        sql="recent_amount_7d / NULLIF(usual_amount_90d, 0)",
    ),
    Derived(
        name="highest_7d_to_usual",
        source="transactions",
        sql="recent_highest_7d / NULLIF(usual_amount_90d, 0)",
    ),
    Derived(
        name="highest_14d_to_usual",
        source="transactions",
        sql="recent_highest_14d / NULLIF(usual_amount_90d, 0)",
    ),
)

definitions = Definitions(
    sources=published.sources,
    entities=published.entities,
    views=(*published.views, *views),
    derived=(*published.derived, *derived),
    capacity=1024,
)
