"""The benchmarks' common job: every way of computing it gives the reference's features."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import polars as pl
import pytest

from benchmarks.harness import measure, report
from benchmarks.job import reference
from benchmarks.job.events import Events, generate
from benchmarks.job.spec import FEATURES
from benchmarks.job.windows import Ring, card_features, customer_features, merchant_features
from features.definitions.project import load_definitions
from features.offline.materialize import materialize

EVENTS = 4_000
DEFINITIONS = Path(__file__).parents[2] / "benchmarks" / "job" / "definitions.py"


@pytest.fixture(scope="module")
def events() -> Events:
    """Few enough cards that windows fill, far enough apart that events leave them."""
    made = generate(EVENTS)
    return Events(
        time=made.time[0] + (made.time - made.time[0]) * 80,
        card=made.card % 60,
        customer=made.card % 40,
        merchant=made.merchant % 30,
        amount=made.amount,
        fraud=made.fraud,
    )


@pytest.fixture(scope="module")
def expected(events: Events) -> np.ndarray[Any, Any]:
    return reference.features(events)


def test_the_peers_rings_give_the_references_features(events: Events, expected: np.ndarray[Any, Any]) -> None:
    rings: dict[tuple[str, int], Ring] = {}
    for row in range(EVENTS):
        time, amount = int(events.time[row]), int(events.amount[row])
        found = [float(amount)]
        for name, compute in (
            ("card", card_features),
            ("customer", customer_features),
            ("merchant", merchant_features),
        ):
            key = (name, int(getattr(events, name)[row]))
            ring = Ring(rings[key].to_bytes()) if key in rings else Ring()
            found += compute(ring, time, amount)
            rings[key] = ring
        np.testing.assert_array_equal(np.array(found, dtype=np.float32), expected[row])


def test_riskstream_gives_the_references_features(events: Events, expected: np.ndarray[Any, Any]) -> None:
    definitions = load_definitions(DEFINITIONS)
    frame = pl.DataFrame(
        {
            "event_id": [f"e{row}" for row in range(EVENTS)],
            "event_time": pl.Series(events.time).cast(pl.Datetime("ms", "UTC")),
            "card_id": [f"c{key}" for key in events.card],
            "customer_id": [f"u{key}" for key in events.customer],
            "merchant_id": [f"m{key}" for key in events.merchant],
            "amount": events.amount.astype(np.float64),
        }
    )
    found = materialize({"transactions": frame}, definitions)
    matrix = np.stack([found[name].to_numpy() for name in FEATURES], axis=1).astype(np.float32)
    np.testing.assert_array_equal(matrix, expected)


@pytest.mark.parametrize(
    ("seen", "messages"),
    [
        ({"a": 0.9}, 1),
        ({"a": 0.9, "b": 0.8, "c": 0.7}, 3),
        ({"a": 0.9, "b": 0.8}, 3),
        ({"a": 0.9, "b": 0.81}, 2),
    ],
    ids=["missing", "unexpected", "twice", "other score"],
)
def test_a_run_with_other_alerts_is_void(seen: dict[str, float], messages: int) -> None:
    alerts = cast(Any, SimpleNamespace(scores=seen, messages=messages))
    with pytest.raises(measure.VoidRun):
        measure.compare("x", alerts, {"a": 0.9, "b": 0.8})


def test_a_run_with_the_references_alerts_stands() -> None:
    alerts = cast(Any, SimpleNamespace(scores={"a": 0.9, "b": 0.8}, messages=2))
    measure.compare("x", alerts, {"b": 0.8, "a": 0.9})


def test_a_table_shows_what_was_not_measured() -> None:
    assert report.table(["name", "us"], [["quix", None], ["faust", 1234.5]]).splitlines() == [
        "name      us",
        "-----  -----",
        "quix       -",
        "faust  1,234",
    ]
