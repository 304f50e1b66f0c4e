"""Definitions become groups, scans and features in one order that never changes."""

from __future__ import annotations

from dataclasses import replace
from math import isnan

from features.definitions.compile import compile_plan
from features.definitions.plan import Feature, Plan
from features.definitions.spec import (
    Aggregation,
    Definitions,
    Entity,
    FeatureView,
    Field,
    LabelOf,
    Profile,
    Source,
)

DAY = 86_400_000_000
EVENT = (
    Field(name="id", dtype="string"),
    Field(name="at", dtype="timestamp"),
    Field(name="card", dtype="string"),
    Field(name="shop", dtype="string"),
    Field(name="amount", dtype="float64"),
    Field(name="tip", dtype="float64", required=False),
)
PAYMENTS = Source(name="payments", topic="p", event_id="id", event_time="at", key="card", fields=EVENT)
REFUNDS = Source(name="refunds", topic="r", event_id="id", event_time="at", key="shop", fields=EVENT)
FRAUDS = Source(
    name="frauds",
    topic="f",
    event_id="id",
    event_time="at",
    labels=LabelOf(event_id="payment", value="fraud"),
    fields=(*EVENT[:4], Field(name="payment", dtype="string"), Field(name="fraud", dtype="bool")),
)
CARD = Entity(name="card", keys=("card",))
SHOP = Entity(name="shop", keys=("shop",))
PAIR = Entity(name="pair", keys=("card", "shop"))


def compiled(*views: FeatureView, **more: object) -> Plan:
    base = Definitions(sources=(PAYMENTS, FRAUDS), entities=(CARD, SHOP, PAIR), views=views)
    return compile_plan(replace(base, **more))  # type: ignore[arg-type]


def view(*aggregations: Aggregation, **changes: object) -> FeatureView:
    base = FeatureView(
        name="v", source="payments", entity="card", windows=("7d", "1d"), aggregations=aggregations
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def feature(plan: Plan, name: str, source: str = "payments") -> Feature:
    return next(one for one in plan.readers[source].features if one.name == name)


def test_views_of_one_entity_and_source_share_a_group_and_alike_reads_a_slot() -> None:
    plan = compiled(
        view(Aggregation(function="mean", column="amount"), Aggregation(function="std", column="amount")),
        view(Aggregation(function="max", column="amount", windows=("30d",)), name="w"),
    )
    (group,) = plan.groups
    (scan,) = group.scans
    assert scan.windows == (DAY, 7 * DAY, 30 * DAY)
    assert (scan.needs_squares, scan.needs_extremes, scan.needs_ends) == (True, True, False)
    assert group.value_columns == ("amount",)
    assert feature(plan, "amount_mean_7d_by_card").window == 1
    assert feature(plan, "amount_max_30d_by_card").window == 2
    assert group.horizon == 30 * DAY


def test_features_keep_the_order_in_which_they_are_defined() -> None:
    plan = compiled(view(Aggregation(function="sum", column="amount"), Aggregation(function="count")))
    assert plan.readers["payments"].names == (
        "amount_sum_7d_by_card",
        "amount_sum_1d_by_card",
        "payments_count_7d_by_card",
        "payments_count_1d_by_card",
    )


def test_a_count_is_read_off_a_column_that_is_never_null() -> None:
    mean = Aggregation(function="mean", column="amount")
    tips = Aggregation(function="mean", column="tip")
    count = Aggregation(function="count")
    assert len(compiled(view(count, mean)).groups[0].scans) == 1
    assert len(compiled(view(count, tips)).groups[0].scans) == 2
    assert len(compiled(view(replace(count, where="amount > 1"), mean)).groups[0].scans) == 2


def test_where_delay_and_current_event_separate_scans() -> None:
    mean = Aggregation(function="mean", column="amount", name="m_{window}")
    plan = compiled(
        view(
            mean,
            replace(mean, where="tip > 0", name="tipped_{window}"),
            replace(mean, delay="1d", name="late_{window}"),
            replace(mean, include_current=False, name="past_{window}"),
        )
    )
    (group,) = plan.groups
    assert group.conditions == ("tip > 0",)
    read = [(scan.where, scan.delay, scan.include_current) for scan in group.scans]
    assert read == [(-1, 0, True), (0, 0, True), (-1, DAY, False), (-1, 0, False)]
    assert group.horizon == 8 * DAY


def test_an_aggregation_overrides_its_view() -> None:
    plan = compiled(
        view(
            Aggregation(function="count", where="tip > 1", delay="2d", windows=("3d",)),
            where="tip > 0",
            delay="1d",
        )
    )
    (scan,) = plan.groups[0].scans
    assert plan.groups[0].conditions == ("tip > 1",)
    assert (scan.delay, scan.windows) == (2 * DAY, (3 * DAY,))


def test_share_counts_where_and_of_in_a_second_slot_with_the_same_windows() -> None:
    plan = compiled(
        view(
            Aggregation(function="mean", column="amount", where="tip > 0", windows=("30d",)),
            Aggregation(function="share", of="shop = 'x'", where="tip > 0"),
        )
    )
    (group,) = plan.groups
    share = feature(plan, "v_share_1d_by_card")
    assert group.conditions[group.scans[share.of_scan].where] == "(tip > 0) AND (shop = 'x')"
    assert group.scans[share.scan].windows == group.scans[share.of_scan].windows == (DAY, 7 * DAY, 30 * DAY)
    assert isnan(share.fill)


def test_texts_are_tokens_and_kept_only_where_they_are_given_back() -> None:
    plan = compiled(
        view(
            Aggregation(function="distinct", column="shop"),
            Aggregation(function="last", column="id"),
            Aggregation(function="distinct", column="amount"),
        )
    )
    (group,) = plan.groups
    assert group.token_columns == ("shop", "id", "amount")
    assert group.text_tokens == (False, True, False)
    assert all(scan.value == -1 for scan in group.scans)
    assert plan.readers["payments"].text_names == ("id_last_7d_by_card", "id_last_1d_by_card")


def test_elapsed_never_includes_the_current_event() -> None:
    (scan,) = compiled(view(Aggregation(function="elapsed"))).groups[0].scans
    assert not scan.include_current
    assert scan.needs_ends


def test_a_label_group_holds_the_label_and_is_read_by_the_scored_source() -> None:
    plan = compiled(view(Aggregation(function="rate", fill=0), source="frauds", entity="shop"))
    (group,) = plan.groups
    assert (group.label, group.value_columns) == (True, ("fraud",))
    assert set(plan.readers) == {"payments"}
    assert feature(plan, "frauds_rate_7d_by_shop").fill == 0


def test_a_key_within_the_entity_keeps_its_state_in_one_partition() -> None:
    count = Aggregation(function="count")
    views = [view(count, name=name, entity=name) for name in ("card", "shop", "pair")]
    plan = compiled(*views)
    assert {group.entity: group.partition_local for group in plan.groups} == {
        "card": True,
        "shop": False,
        "pair": True,
    }


def test_readers_are_all_scored_sources_that_carry_the_entity_unless_named() -> None:
    count = Aggregation(function="count")
    sources = (PAYMENTS, REFUNDS, FRAUDS)
    everybody = compiled(view(count), sources=sources)
    named = compiled(view(count, readers=("refunds",)), sources=sources)
    assert everybody.readers["refunds"].names == everybody.readers["payments"].names
    assert named.readers["payments"].names == ()
    assert everybody.readers["payments"].primary == "card"
    assert everybody.readers["refunds"].primary == "shop"


def test_entity_keys_rename_columns() -> None:
    renamed = replace(
        PAYMENTS,
        key="account",
        fields=tuple(replace(f, name="account") if f.name == "card" else f for f in EVENT),
        entity_keys={"card": ("account",), "pair": ("account", "shop")},
    )
    plan = compiled(view(Aggregation(function="count")), sources=(renamed, FRAUDS))
    assert plan.groups[0].key_columns == ("account",)
    assert plan.groups[0].partition_local
    assert plan.readers["payments"].entity_keys["pair"] == ("account", "shop")
    assert plan.readers["payments"].primary == "card"


def test_profiles_come_after_aggregations_with_their_age() -> None:
    profile = Profile(
        name="holder",
        entity="card",
        updated_at="updated",
        fields=(Field(name="income", dtype="float64"), Field(name="job", dtype="string")),
    )
    plan = compiled(view(Aggregation(function="count", windows=("1d",))), profiles=(profile,))
    reader = plan.readers["payments"]
    assert reader.names == ("payments_count_1d_by_card", "income_of_card", "holder_age_of_card")
    assert reader.text_names == ("job_of_card",)


def test_the_fingerprint_tells_definitions_apart_and_nothing_else() -> None:
    count = Aggregation(function="count")
    one = compiled(view(count))
    same = compiled(view(count, windows=["7d", "1d"]))
    other = compiled(view(replace(count, where="tip > 0")))
    assert one.fingerprint == same.fingerprint
    assert one.fingerprint != other.fingerprint
    assert len(one.fingerprint) == 16
    assert int(one.fingerprint, 16) >= 0


def test_empty_windows_are_zero_for_counts_and_sums_and_missing_otherwise() -> None:
    plan = compiled(
        view(
            Aggregation(function="count"),
            Aggregation(function="sum", column="amount"),
            Aggregation(function="distinct", column="shop"),
            Aggregation(function="mean", column="amount"),
            Aggregation(function="min", column="amount", fill=-1),
            windows=("1d",),
        )
    )
    fills = [one.fill for one in plan.readers["payments"].features]
    assert fills[:3] == [0, 0, 0]
    assert isnan(fills[3])
    assert fills[4] == -1
