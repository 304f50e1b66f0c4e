"""Every mistake in definitions is one DefinitionError that says where it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from features.core.errors import DefinitionError
from features.definitions.compile import compile_plan
from features.definitions.spec import (
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
from tests.definitions import CARD, make_source

PAYMENTS = Source(
    name="payments",
    topic="payments",
    event_id="id",
    event_time="at",
    key="card",
    fields=(
        Field(name="id", dtype="string"),
        Field(name="at", dtype="timestamp"),
        Field(name="card", dtype="string"),
        Field(name="shop", dtype="string", required=False),
        Field(name="amount", dtype="float64", minimum=0),
        Field(name="declined", dtype="bool"),
    ),
)
FRAUDS = make_source(
    "frauds",
    {
        "id": "string",
        "known": "timestamp",
        "payment": "string",
        "paid": "timestamp",
        "card": "string",
        "fraud": "bool",
    },
    labels=LabelOf(event_id="payment", value="fraud", event_time="paid"),
)
SHOP = Entity(name="shop_entity", keys=("shop",))
MEAN = Aggregation(function="mean", column="amount")
SPEND = FeatureView(name="spend", source="payments", entity="card", windows=("1d",), aggregations=(MEAN,))
RISK = FeatureView(
    name="risk", source="frauds", entity="card", windows=("7d",), aggregations=(Aggregation(function="rate"),)
)
GOOD = Definitions(sources=(PAYMENTS, FRAUDS), entities=(CARD, SHOP), views=(SPEND, RISK))


def view(**changes: Any) -> Definitions:
    return replace(GOOD, views=(replace(SPEND, **changes), RISK))


def aggregation(**changes: Any) -> Definitions:
    return view(aggregations=(replace(MEAN, **changes),))


def risk(**changes: Any) -> Definitions:
    return replace(GOOD, views=(SPEND, replace(RISK, **changes)))


def payments(**changes: Any) -> Definitions:
    return replace(GOOD, sources=(replace(PAYMENTS, **changes), FRAUDS))


def frauds(**changes: Any) -> Definitions:
    return replace(GOOD, sources=(PAYMENTS, replace(FRAUDS, **changes)))


def derived(*pairs: tuple[str, str]) -> Definitions:
    return replace(GOOD, derived=tuple(Derived(name=n, sql=sql, source="payments") for n, sql in pairs))


def profile(**changes: Any) -> Definitions:
    base = Profile(name="holder", entity="card", fields=(Field(name="income", dtype="float64"),))
    return replace(GOOD, profiles=(replace(base, **changes),))


def fields(*more: Field) -> tuple[Field, ...]:
    return (*PAYMENTS.fields, *more)


SPEND_AT = "views.spend.aggregations[0]"
CASES: list[tuple[str, Definitions, str, str]] = [
    ("unknown column", aggregation(column="amuont"), f"{SPEND_AT}.column", "did you mean `amount`"),
    ("missing column", aggregation(column=None), f"{SPEND_AT}.column", "`mean` needs a column"),
    ("needless column", aggregation(function="count"), f"{SPEND_AT}.column", "takes no column"),
    ("mean of text", aggregation(column="shop"), f"{SPEND_AT}.column", "it is a string"),
    ("sum of time", aggregation(function="sum", column="at"), f"{SPEND_AT}.column", "it is a timestamp"),
    ("window of zero", view(windows=("1d", "0s")), "views.spend.windows[1]", "window of zero"),
    ("bad duration", view(windows=("7 days",)), "views.spend.windows[0]", "`7 days` is not a duration"),
    ("negative window", view(windows=("-1d",)), "views.spend.windows[0]", "is not a duration"),
    ("endless window", view(windows=("999999d",)), "views.spend.windows[0]", "longer than 200 years"),
    ("same window twice", view(windows=("7d", "168h")), "views.spend.windows[1]", "twice"),
    ("no window", view(windows=()), "views.spend.windows", "is empty"),
    ("own zero window", aggregation(windows=("0d",)), f"{SPEND_AT}.windows[0]", "window of zero"),
    ("bad delay", view(delay="soon"), "views.spend.delay", "not a duration"),
    ("own bad delay", aggregation(delay="1y"), f"{SPEND_AT}.delay", "not a duration"),
    ("windows as text", view(windows="1d"), "views.spend.windows", "got `str`"),
    ("capacity as text", replace(GOOD, capacity="many"), "capacity", "got `str`"),  # type: ignore[arg-type]
    ("tiny capacity", replace(GOOD, capacity=1), "capacity", "at least 2"),
    ("bad lateness", replace(GOOD, lateness="late"), "lateness", "not a duration"),
    ("unknown function", aggregation(function="median"), f"{SPEND_AT}.function", "median"),
    (
        "unknown dtype",
        payments(fields=fields(Field(name="x", dtype="text"))),  # type: ignore[arg-type]
        "sources.payments.fields[6].dtype",
        "text",
    ),
    ("unknown entity", view(entity="crad"), "views.spend.entity", "did you mean `card`"),
    ("unknown source", view(source="payment"), "views.spend.source", "did you mean `payments`"),
    ("entity not carried", risk(entity="shop_entity"), "views.risk.entity", "has no columns shop"),
    ("unknown reader", view(readers=("nobody",)), "views.spend.readers[0]", "unknown source `nobody`"),
    ("labels as reader", view(readers=("frauds",)), "views.spend.readers[0]", "never scored"),
    ("no aggregation", view(aggregations=()), "views.spend.aggregations", "is empty"),
    ("bad where", aggregation(where="amuont > 3"), f"{SPEND_AT}.where", "    amuont > 3\n    ^^^^^^"),
    ("bad view where", view(where="amount >"), "views.spend.where", "    amount >\n           ^"),
    ("where is a number", aggregation(where="amount + 1"), f"{SPEND_AT}.where", "expected a condition"),
    ("share without of", aggregation(function="share", column=None), f"{SPEND_AT}.of", "needs `of`"),
    ("of without share", aggregation(of="declined"), f"{SPEND_AT}.of", "belongs to share"),
    ("bad of", aggregation(function="share", column=None, of="nope"), f"{SPEND_AT}.of", "    nope\n    ^^^^"),
    ("rate of events", aggregation(function="rate", column=None), f"{SPEND_AT}.function", "needs labels"),
    (
        "elapsed of labels",
        risk(aggregations=(Aggregation(function="elapsed"),)),
        "views.risk.aggregations[0].function",
        "does not work on labels",
    ),
    (
        "sum of a label's other column",
        risk(aggregations=(Aggregation(function="mean", column="paid"),)),
        "views.risk.aggregations[0].column",
        "it is a timestamp",
    ),
    (
        "one name for two windows",
        view(windows=("1d", "7d"), aggregations=(replace(MEAN, name="usual"),)),
        f"{SPEND_AT}.name",
        "put {window} into it",
    ),
    ("bad name", aggregation(name="a b"), f"{SPEND_AT}.name", "`a b` is not a name"),
    (
        "feature twice",
        view(aggregations=(MEAN, MEAN)),
        "views.spend",
        "`amount_mean_1d_by_card` is defined twice",
    ),
    (
        "feature in two views",
        replace(GOOD, views=(SPEND, replace(SPEND, name="other"))),
        "views.other",
        "here and in views.spend",
    ),
    (
        "name of a column",
        aggregation(name="amount"),
        "views.spend",
        "the name of a column of sources.payments",
    ),
    ("reserved name", aggregation(name="duplicate"), "views.spend", "riskstream's own"),
    ("view twice", replace(GOOD, views=(SPEND, SPEND)), "views[1].name", "`spend` is defined twice"),
    ("source twice", replace(GOOD, sources=(PAYMENTS, PAYMENTS)), "sources[1].name", "twice"),
    ("entity twice", replace(GOOD, entities=(CARD, CARD)), "entities[1].name", "twice"),
    (
        "field twice",
        payments(fields=fields(Field(name="amount", dtype="int64"))),
        "sources.payments.fields[6].name",
        "twice",
    ),
    (
        "one wire name twice",
        payments(fields=fields(Field(name="x", dtype="int64", alias="amount"))),
        "sources.payments.fields[6].alias",
        "another field",
    ),
    (
        "field name",
        payments(fields=fields(Field(name="card-id", dtype="string"))),
        "sources.payments.fields[6].name",
        "as `alias`",
    ),
    (
        "limits of text",
        payments(fields=fields(Field(name="x", dtype="string", minimum=1))),
        "sources.payments.fields[6]",
        "do not fit",
    ),
    (
        "crossed limits",
        payments(fields=fields(Field(name="x", dtype="int64", minimum=2, maximum=1))),
        "sources.payments.fields[6]",
        "above",
    ),
    ("no source", replace(GOOD, sources=()), "sources", "at least one source"),
    ("no topic", payments(topic=""), "sources.payments.topic", "empty"),
    ("unknown id", payments(event_id="uid"), "sources.payments.event_id", "unknown column `uid`"),
    (
        "time is no timestamp",
        payments(event_time="amount"),
        "sources.payments.event_time",
        "must be timestamp",
    ),
    ("optional id", payments(event_id="shop"), "sources.payments.event_id", "must be required"),
    ("time format", payments(time_format="seconds"), "sources.payments.time_format", "`seconds` is none of"),
    ("key is a float", payments(key="amount"), "sources.payments.key", "must be string or int64"),
    ("amount is text", payments(amount="shop"), "sources.payments.amount", "must be float64"),
    ("types without column", payments(event_types=("a",)), "sources.payments.event_types", "belong together"),
    ("bad max_age", payments(max_age="old"), "sources.payments.max_age", "not a duration"),
    (
        "unknown entity key",
        payments(entity_keys={"crad": ("card",)}),
        "sources.payments.entity_keys.crad",
        "crad",
    ),
    ("too few keys", payments(entity_keys={"card": ()}), "sources.payments.entity_keys.card", "expected 1"),
    (
        "float as entity",
        payments(entity_keys={"card": ("amount",)}),
        "sources.payments.entity_keys.card",
        "float64",
    ),
    (
        "label value",
        frauds(labels=LabelOf(event_id="payment", value="card")),
        "sources.frauds.labels.value",
        "must be",
    ),
    (
        "label id",
        frauds(labels=LabelOf(event_id="tx", value="fraud")),
        "sources.frauds.labels.event_id",
        "unknown",
    ),
    (
        "label time",
        frauds(labels=LabelOf(event_id="payment", value="fraud", event_time="card")),
        "sources.frauds.labels.event_time",
        "must be timestamp",
    ),
    (
        "entity without key",
        replace(GOOD, entities=(CARD, Entity(name="x", keys=()))),
        "entities.x.keys",
        "at least one",
    ),
    (
        "entity of nobody",
        replace(GOOD, entities=(CARD, Entity(name="x", keys=("y",)))),
        "entities.x.keys",
        "no source",
    ),
    ("cycle", derived(("a", "b + 1"), ("b", "c"), ("c", "a")), "derived.a.sql", "a -> b -> c -> a"),
    ("own cycle", derived(("a", "a + 1")), "derived.a.sql", "a -> a"),
    ("derived unknown", derived(("a", "amount / amont")), "derived.a.sql", "             ^^^^^"),
    ("derived type", derived(("a", "shop * 2")), "derived.a.sql", "shop"),
    ("derived time", derived(("a", "event_time")), "derived.a.sql", "expected a number or a text"),
    ("derived clash", derived(("amount", "1")), "derived.amount", "name of a column"),
    ("derived twice", derived(("a", "1"), ("a", "2")), "derived.a", "twice"),
    (
        "derived of labels",
        replace(GOOD, derived=(Derived(name="a", sql="1", source="frauds"),)),
        "derived.a.source",
        "never scored",
    ),
    (
        "derived of nothing",
        replace(GOOD, derived=(Derived(name="a", sql="1", source="x"),)),
        "derived.a.source",
        "unknown",
    ),
    ("profile of nobody", profile(entity="x"), "profiles.holder.entity", "unknown entity"),
    ("age without time", profile(max_age="1d"), "profiles.holder.max_age", "needs `updated_at`"),
    ("fill of nothing", profile(fill={"incme": 1}), "profiles.holder.fill.incme", "did you mean `income`"),
    (
        "fill of wrong type",
        profile(fill={"income": "x"}),
        "profiles.holder.fill.income",
        "expected a float64",
    ),
    (
        "profile clash",
        replace(profile(), derived=derived(("income_of_card", "1")).derived),
        "derived.income_of_card",
        "profiles.holder",
    ),
    ("protected typo", replace(GOOD, protected=("sxe",)), "protected[0]", "unknown column or feature `sxe`"),
    ("not definitions", {"sources": ()}, "definitions", "expected a `Definitions`"),  # type: ignore[list-item]
]


@pytest.mark.parametrize(("definitions", "place", "words"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_mistake_is_told_with_its_place(definitions: Definitions, place: str, words: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        compile_plan(definitions)
    assert caught.value.path == place
    assert words in caught.value.reason
    assert str(caught.value).startswith(f"{place}: ")


def test_the_unbroken_definitions_compile() -> None:
    plan = compile_plan(GOOD)
    assert plan.readers["payments"].names == ("amount_mean_1d_by_card", "frauds_rate_7d_by_card")
