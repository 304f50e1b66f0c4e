"""Decisions on the wire: keys, headers, and numbers that come back bit for bit."""

from __future__ import annotations

import json
import struct

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.core.batch import FeatureMatrix, SliceStamps, SourceBatch
from features.definitions.compile import compile_plan
from features.definitions.spec import Aggregation, Definitions, Entity, FeatureView
from models.core.base import ModelVersion
from models.decision.decisions import DECISIONS, SEVERITIES, Decisions, Reason
from stream.codecs.alerts import AlertEncoder
from stream.codecs.contracts import SCHEMA_VERSION, Alert, Decision, DecisionWord, SeverityWord, alert_id
from tests.definitions import make_source

SOURCE = make_source(
    "payments",
    {
        "id": "string",
        "at": "timestamp",
        "kind": "string",
        "card": "string",
        "shop": "int64",
        "amount": "float64",
    },
    optional=("shop", "amount"),
    topic="t",
    key="card",
    amount="amount",
    event_type="kind",
    event_types=("purchase",),
)
PLAN = compile_plan(
    Definitions(
        sources=(SOURCE,),
        entities=(
            Entity(name="card", keys=("card",)),
            Entity(name="shop", keys=("shop",)),
            Entity(name="pair", keys=("card", "shop")),
        ),
        views=(
            FeatureView(
                name="v",
                source="payments",
                entity="card",
                windows=("1d",),
                aggregations=(Aggregation(function="count"), Aggregation(function="last", column="kind")),
            ),
            FeatureView(
                name="w",
                source="payments",
                entity="shop",
                windows=("1d",),
                aggregations=(Aggregation(function="mean", column="amount"),),
            ),
        ),
    )
)
MODEL = ModelVersion(name="fraud", version="3", sha256="ab")
AT = 1_522_540_831_000_001


def decisions(values: np.ndarray, **changes: object) -> Decisions:
    n = len(values)
    batch = SourceBatch(
        source=SOURCE,
        event_ids=[f"e{row}" for row in range(n)],
        event_time=np.full(n, AT),
        received_time=np.full(n, AT + 5),
        partition=np.full(n, 2, dtype=np.int32),
        offset=np.arange(n) + 70,
        position=np.arange(n),
        columns={
            "id": [f"e{row}" for row in range(n)],
            "at": np.full(n, float(AT)),
            "kind": ["purchase"] * n,
            "card": ["a|b"] * n,
            "shop": np.where(np.arange(n) % 2, 7.0, np.nan),
            "amount": values[:, 0],
        },
        keys=[b"a|b"] * n,
        headers=[[("traceparent", b"00-ab"), ("other", b"x")], *[None] * (n - 1)],
    )
    matrix = FeatureMatrix(
        batch=batch,
        names=("payments_count_1d_by_card", "amount_mean_1d_by_shop"),
        values=values,
        strings={"kind_last_1d_by_card": ["purchase"] * n},
        flags={"stale:shop": np.arange(n) == 0},
        duplicate=np.arange(n) == 1,
        late=np.zeros(n, dtype=np.bool_),
        stamps=(SliceStamps("shop", "payments", (0, 2), np.array([[-1, 70]] * n)),),
    )
    made = {
        "features": matrix,
        "model": MODEL,
        "mode": "live",
        "policy": "p",
        "score": values[:, 0].copy(),
        "threshold": np.full(n, np.nan),
        "decision": np.full(n, 2, dtype=np.int8),
        "severity": np.full(n, 3, dtype=np.int8),
        "alert": np.arange(n) == 0,
        "suppressed": np.zeros(n, dtype=np.bool_),
        "rules_hit": {0: ("large",)},
        "reasons": {
            0: (Reason(code="R", feature="f", value=1.5, baseline=None, contribution=0.25, text="because"),)
        },
    }
    return Decisions(**{**made, **changes})


VALUES = np.array([[0.1, np.nan], [0.2, 3.0]])


def test_an_alert_says_everything():
    (record,) = AlertEncoder(PLAN).alerts(decisions(VALUES), scored_at=AT + 9)
    assert record.key == b"a|b"
    alert = msgspec.json.decode(record.value or b"", type=Alert)
    assert alert.alert_id == alert_id("payments", "e0", "live")
    assert (alert.schema_version, alert.mode, alert.event_id, alert.event_type) == (
        SCHEMA_VERSION,
        "live",
        "e0",
        "purchase",
    )
    assert alert.event_time == "2018-04-01T00:00:31.000001Z"
    assert alert.entity_keys == {"card": "a|b", "shop": None, "pair": None}
    assert alert.case_key == "card:a|b"
    assert (alert.decision, alert.severity, alert.score, alert.threshold) == ("decline", "high", 0.1, None)
    assert (alert.reasons[0].code, alert.reasons[0].contribution, alert.rules) == ("R", 0.25, ("large",))
    assert (alert.model.version, alert.plan, alert.policy) == ("3", PLAN.fingerprint, "p")
    assert alert.features == {
        "payments_count_1d_by_card": 0.1,
        "amount_mean_1d_by_shop": None,
        "kind_last_1d_by_card": "purchase",
    }
    assert (alert.flags, alert.stamps) == (("stale:shop",), {"shop": {"payments": {"2": 70}}})
    assert (alert.source.topic, alert.source.partition, alert.source.offset) == ("t", 2, 70)
    assert (alert.times.event, alert.times.received, alert.times.scored) == (AT, AT + 5, AT + 9)
    assert (alert.exposure, alert.alert, alert.duplicate) == (0.1, True, False)


def test_headers_are_a_cloud_event_with_the_trace_of_the_event():
    (record,) = AlertEncoder(PLAN).alerts(decisions(VALUES))
    headers = dict(record.headers)
    assert headers["ce_type"] == b"riskstream.alert.v1"
    assert headers["ce_id"] == json.loads(record.value or b"")["alert_id"].encode()
    assert (headers["ce_specversion"], headers["ce_source"]) == (b"1.0", b"/riskstream/payments")
    assert headers["traceparent"] == b"00-ab"
    assert "other" not in headers


def test_every_decision_is_written_where_asked():
    records = AlertEncoder(PLAN).decisions(decisions(VALUES))
    made = [msgspec.json.decode(record.value or b"", type=Decision) for record in records]
    assert [one.alert for one in made] == [True, False]
    assert [one.duplicate for one in made] == [False, True]
    assert made[1].entity_keys["pair"] == "a\\|b|7"
    assert dict(records[1].headers)["ce_type"] == b"riskstream.decision.v1"


def test_the_same_event_has_one_id_in_each_mode_and_source():
    ids = {
        alert_id(*one)
        for one in [("a", "1", "live"), ("a", "1", "shadow"), ("a", "2", "live"), ("b", "1", "live")]
    }
    assert len(ids) == 4
    assert all(len(one) == 32 for one in ids)


def test_words_are_those_of_the_models():
    from typing import get_args

    assert get_args(DecisionWord) == DECISIONS
    assert get_args(SeverityWord) == SEVERITIES


@settings(max_examples=300, deadline=None)
@given(st.floats(allow_infinity=False), st.floats(allow_infinity=False))
def test_numbers_come_back_bit_for_bit(score, feature):
    made = decisions(np.array([[score, feature]]), score=np.array([0.0 if score != score else score]))
    (record,) = AlertEncoder(PLAN).alerts(made)
    back = json.loads(record.value or b"")["features"]
    for name, sent in (("payments_count_1d_by_card", score), ("amount_mean_1d_by_shop", feature)):
        if sent != sent:
            assert back[name] is None
        else:
            assert struct.pack("d", float(back[name])) == struct.pack("d", sent)


@pytest.mark.parametrize("rows", [0, 1])
def test_no_alerts_no_records(rows):
    made = decisions(VALUES[:rows] if rows else VALUES, alert=np.zeros(rows or 2, dtype=np.bool_))
    assert AlertEncoder(PLAN).alerts(made) == []
