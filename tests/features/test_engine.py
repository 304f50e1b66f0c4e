"""What the engine promises beyond its numbers: peeking, stamps, loading, eviction, the size of a row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from features.core.batch import MicroBatch, SourceBatch
from features.definitions.compile import compile_plan
from features.definitions.spec import Aggregation, Definitions, Entity, FeatureView
from features.engine.engine import FeatureEngine
from features.kernel.row_format import stamp_of
from tests.definitions import CARD, make_source

SECOND = 1_000_000
EPOCH = 1_700_000_000 * SECOND
SOURCE = make_source(
    "tx",
    {"id": "string", "ts": "timestamp", "card": "string", "amount": "float64", "channel": "string"},
    key="card",
)
PLAN = compile_plan(
    Definitions(
        sources=(SOURCE,),
        entities=(CARD,),
        views=(
            FeatureView(
                name="spend", source="tx", entity="card", windows=("1h", "1d", "7d", "30d"),
                aggregations=(
                    Aggregation(function="count"), Aggregation(function="mean", column="amount"),
                    Aggregation(function="distinct", column="channel"),
                ),
            ),
        ),
    )
)  # fmt: skip


def batch(cards: list[str], first: int = 0, gap: int = 25_920, partition: int = 0) -> MicroBatch:
    n = len(cards)
    time = EPOCH + (np.arange(first, first + n) * gap + np.arange(n) % 7) * SECOND
    ids: list[str | None] = [f"e{number}" for number in range(first, first + n)]
    columns: dict[str, Any] = {
        "id": ids, "ts": time.astype(np.float64), "card": list(cards),
        "amount": np.round(np.random.default_rng(first).gamma(2.0, 30.0, n), 2),
        "channel": [("web", "pos", "atm")[number % 3] for number in range(n)],
    }  # fmt: skip
    part = SourceBatch(
        source=SOURCE, event_ids=[str(one) for one in ids], event_time=time, received_time=time,
        partition=np.full(n, partition, np.int32), offset=np.arange(first, first + n, dtype=np.int64),
        position=np.arange(n, dtype=np.int64), columns=columns,
    )  # fmt: skip
    return MicroBatch((part,))


def run(engine: FeatureEngine, events: MicroBatch) -> Any:
    return engine.run(engine.prepare(events))["tx"].values


def rows_by_key(engine: FeatureEngine) -> dict[str, bytes]:
    return {key: row for run in engine.take_dirty() for key, row in zip(run.keys, run.rows, strict=True)}


def everything_stored(_source: str, _partition: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.full(16, 10**9, np.int64)


def test_a_card_with_a_hundred_events_in_thirty_days_takes_at_most_a_kibibyte() -> None:
    engine = FeatureEngine(PLAN)
    run(engine, batch(["c"] * 100))
    assert len(engine.take_dirty()[0].rows[0]) <= 1024


def test_peeking_says_what_running_would_and_changes_nothing() -> None:
    engine = FeatureEngine(PLAN)
    run(engine, batch(["a", "b"] * 10))
    engine.take_dirty()
    following = batch(["a"], first=20)
    peeked = engine.peek(engine.prepare(following))["tx"].values
    assert engine.take_dirty() == []
    np.testing.assert_array_equal(peeked, run(engine, following))


def test_an_event_below_the_stamp_is_not_folded_again() -> None:
    engine = FeatureEngine(PLAN)
    events = batch(["a"] * 10)
    run(engine, events)
    before = engine.take_dirty()
    engine.fold(engine.prepare(events))
    assert engine.take_dirty() == []
    assert [stamp_of(row) for run in before for row in run.rows] == [10]


def test_folding_makes_the_same_rows_as_running() -> None:
    scored, muted = FeatureEngine(PLAN), FeatureEngine(PLAN)
    for first in (0, 30):
        events = batch(["a", "b", "c"] * 10, first=first)
        run(scored, events)
        muted.fold(muted.prepare(events))
    assert rows_by_key(scored) == rows_by_key(muted)


def test_only_idle_stored_keys_are_evicted_and_come_back_unchanged() -> None:
    engine, kept = FeatureEngine(PLAN), FeatureEngine(PLAN)
    run(engine, batch(["old", "new"] * 5))
    run(kept, batch(["old", "new"] * 5))
    stored = rows_by_key(engine)
    run(engine, batch(["new"], first=10))
    run(kept, batch(["new"], first=10))
    assert engine.evict(0, lambda _s, _p: np.zeros(16, np.int64)) == 0
    engine.take_dirty()
    assert engine.evict(0, everything_stored) == 1
    prepared = engine.prepare(batch(["old"], first=11))
    keys = engine.entity_keys(prepared)[0]
    assert list(keys.keys) == ["old"]
    assert not keys.loaded.any()
    engine.load("card", keys.indices, [(int(keys.indices[0]), "tx", 0, stored["old"])], set(), 1)
    np.testing.assert_array_equal(engine.run(prepared)["tx"].values, run(kept, batch(["old"], first=11)))


def test_other_partitions_slices_are_summed_replaced_and_stamped() -> None:
    plan = compile_plan(
        Definitions(
            sources=(SOURCE,), entities=(Entity(name="channel", keys=("channel",)),),
            views=(
                FeatureView(
                    name="v", source="tx", entity="channel", windows=("30d",),
                    aggregations=(Aggregation(function="count"),),
                ),
            ),
        )
    )  # fmt: skip
    other = FeatureEngine(plan)
    rows = {}
    for first in (0, 30):
        run(other, batch(["x"] * 30, first=first, gap=1, partition=1))
        rows[first] = rows_by_key(other)
    engine = FeatureEngine(plan)
    seen = []
    for first in (0, 30):
        prepared = engine.prepare(batch(["x"], first=100 + first, gap=1))
        keys = engine.entity_keys(prepared)[0]
        slices = [(int(keys.indices[0]), "tx", 1, rows[first][keys.keys[0]])]
        engine.load("channel", keys.indices, slices, {("tx", 1)}, 1)
        matrix = engine.run(prepared)["tx"]
        stamps = matrix.stamps[0]
        seen.append(
            (float(matrix.values[0, 0]), dict(zip(stamps.partitions, stamps.stamps[0].tolist(), strict=True)))
        )
    assert [count for count, _ in seen] == [11.0, 22.0]
    assert [stamps[1] for _, stamps in seen] == [28, 58]


@pytest.mark.parametrize("amount", [0.1 + 0.2, -0.0, 1e-300, 1e300, 12.34, 0.0])
def test_any_amount_survives_the_bytes(amount: float) -> None:
    engine, again = FeatureEngine(PLAN), FeatureEngine(PLAN)
    events = batch(["a", "a"])
    events.source_batches[0].columns["amount"] = np.array([amount, 5.0])
    run(engine, events)
    stored = rows_by_key(engine)
    prepared = again.prepare(batch(["a"], first=2))
    keys = again.entity_keys(prepared)[0]
    again.load("card", keys.indices, [(int(keys.indices[0]), "tx", 0, stored["a"])], set(), 1)
    np.testing.assert_array_equal(again.run(prepared)["tx"].values, run(engine, batch(["a"], first=2)))
