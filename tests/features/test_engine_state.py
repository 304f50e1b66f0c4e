"""State that outgrows its limits or its format: memory given back, sums over tied slices, other versions refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.core.batch import MicroBatch, SourceBatch
from features.core.errors import FatalError
from features.definitions.compile import compile_plan
from features.definitions.spec import Aggregation, Definitions, FeatureView
from features.engine.engine import FeatureEngine
from tests.definitions import SHOP, make_source

SECOND = 1_000_000
EPOCH = 1_700_000_000 * SECOND
SOURCE = make_source(
    "tx", {"id": "string", "ts": "timestamp", "shop": "string", "amount": "float64", "device": "string"}
)


def engine(*aggregations: Aggregation, windows: tuple[str, ...] = ("1h", "7d")) -> FeatureEngine:
    view = FeatureView(name="v", source="tx", entity="shop", windows=windows, aggregations=aggregations)
    return FeatureEngine(compile_plan(Definitions(sources=(SOURCE,), entities=(SHOP,), views=(view,))))


def batch(shops: list[str], seconds: list[int], *, first: int = 0, partition: int = 0) -> MicroBatch:
    n = len(shops)
    time = EPOCH + np.array(seconds, np.int64) * SECOND
    numbers = np.arange(first, first + n)
    ids = [f"{partition}-{number}" for number in numbers]
    columns: dict[str, Any] = {
        "id": ids,
        "ts": time.astype(np.float64),
        "shop": shops,
        "amount": numbers + 100.0 * partition,
        "device": [f"d{number % 20_000}" for number in numbers],
    }
    part = SourceBatch(
        source=SOURCE,
        event_ids=ids,
        event_time=time,
        received_time=time,
        partition=np.full(n, partition, np.int32),
        offset=numbers.astype(np.int64),
        position=np.arange(n, dtype=np.int64),
        columns=columns,
    )
    return MicroBatch((part,))


def test_memory_falls_with_what_is_evicted_so_that_the_rest_stays() -> None:
    made = engine(Aggregation(function="count"))
    for first in range(0, 8000, 1000):
        shops = [f"s{number}" for number in range(first, first + 1000)]
        made.run(made.prepare(batch(shops, [first] * 1000, first=first)))
        made.take_dirty()
    full = made.memory_bytes()
    stored = np.full(16, 10**9, np.int64)
    assert made.evict(full // 2, lambda _s, _p: stored) < 8000
    assert made.memory_bytes() <= full // 2
    assert made.evict(full // 2, lambda _s, _p: stored) == 0


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["fold", "take", "remove"]), st.integers(0, 30)), max_size=25))
def test_what_was_touched_is_what_a_look_at_all_rows_finds(steps: list[tuple[str, int]]) -> None:
    made = engine(Aggregation(function="count"))
    (state,), (table,) = made._groups, made._keys.values()
    for first, (step, number) in enumerate(steps):
        expected = {table.names[key] for key in state.rows.key[state.rows.dirty > 0].tolist()}
        if step == "fold":
            shops = [f"s{number}", f"s{number + 7}", f"s{number}"]
            made.run(made.prepare(batch(shops, [first] * 3, first=first * 3, partition=number % 2)))
        elif step == "remove":
            state.remove(np.arange(number % 5, table.count, 5), {1} if number % 3 else None)
        else:
            due = np.arange(16) % 4 != number % 4
            due |= number > 25
            wanted = {name for name in expected if due[table.shards[table.names.index(name)]]}
            assert {name for run in made.take_dirty(due) for name in run.names} == wanted
    touched = state.touched().tolist()
    assert sorted(touched) == np.flatnonzero(state.rows.dirty).tolist()


def test_among_tied_events_the_higher_partition_is_later() -> None:
    made = engine(
        Aggregation(function="last", column="amount"), Aggregation(function="first", column="amount")
    )
    for partition in (2, 0, 1):
        made.run(made.prepare(batch(["a", "a"], [5, 5], partition=partition)))
    found = made.peek(made.prepare(batch(["a"], [6], first=9, partition=3)))["tx"]
    tied = made.peek(made.prepare(batch(["a"], [5 + 3600 * 24], first=9, partition=3)))["tx"]
    assert found.column("amount_first_1h_by_shop")[0] == 0.0
    assert tied.column("amount_first_7d_by_shop")[0] == 0.0
    without = engine(Aggregation(function="last", column="amount", include_current=False))
    for partition in (2, 0, 1):
        without.run(without.prepare(batch(["a", "a"], [5, 5], partition=partition)))
    last = without.peek(without.prepare(batch(["a"], [6], first=9)))["tx"]
    assert last.column("amount_last_1h_by_shop")[0] == 201.0


def test_distinct_past_capacity_stays_near_the_truth() -> None:
    made = engine(Aggregation(function="distinct", column="device"), windows=("7d",))
    got = 0.0
    for first in range(0, 40_000, 4000):
        seconds = [number * 10 for number in range(first, first + 4000)]
        found = made.run(made.prepare(batch(["a"] * 4000, seconds, first=first)))["tx"]
        got = float(found.values[-1, 0])
    assert got == pytest.approx(20_000, rel=0.12)  # four standard errors


def test_a_row_of_another_format_is_refused() -> None:
    made = engine(Aggregation(function="count"))
    made.run(made.prepare(batch(["a"], [1])))
    row = made.take_dirty()[0].rows[0]
    other = engine(Aggregation(function="count"))
    prepared = other.prepare(batch(["a"], [2], first=1))
    indices = other.entity_keys(prepared)[0].indices
    with pytest.raises(FatalError, match="format"):
        other.load("shop", indices, [(int(indices[0]), "tx", 0, bytes([row[0] + 1]) + row[1:])], set(), 0)
