"""The engine against the slow reference, at random: definitions, events, batch cuts, save and load.

Within a ring's capacity every feature must be equal (means and deviations to 1e-12 relative); the state must not
depend on how the stream was cut into batches, nor on rows having been encoded, dropped and read back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.core.batch import Column, MicroBatch, SourceBatch
from features.definitions.compile import compile_plan
from features.definitions.spec import Aggregation, Definitions, Entity, FeatureView, LabelOf, Source
from features.engine.engine import FeatureEngine
from tests.definitions import CARD, SHOP, make_source
from tests.reference import Condition, Event, Reference

SECOND = 1_000_000
EPOCH = 1_700_000_000 * SECOND
TRANSACTIONS = make_source(
    "tx",
    {
        "id": "string",
        "ts": "timestamp",
        "card": "string",
        "shop": "int64",
        "amount": "float64",
        "channel": "string",
    },
    optional=("shop", "amount", "channel"),
    key="card",
)
LABELS = make_source(
    "labels",
    {
        "id": "string",
        "known": "timestamp",
        "card": "string",
        "subject": "string",
        "at": "timestamp",
        "bad": "float64",
    },
    key="card",
    labels=LabelOf(event_id="subject", value="bad", event_time="at"),
)
PLAIN_LABELS = replace(LABELS, labels=LabelOf(event_id="subject", value="bad"))
CONDITIONS: dict[str, Condition] = {
    "amount > 20": lambda event: event.get("amount") is not None and event["amount"] > 20,
    "channel = 'web'": lambda event: event.get("channel") == "web",
}
ENTITIES = (
    CARD,
    SHOP,
    Entity(name="pair", keys=("card", "shop")),
)
NUMERIC = ("sum", "mean", "std", "min", "max", "first", "last", "distinct")
TEXTS = ("first", "last", "distinct")

maybe_where = st.sampled_from([None, *CONDITIONS])


@st.composite
def aggregations(draw: Callable[..., Any]) -> Aggregation:
    kind = draw(st.sampled_from(["number", "text", "count", "share", "elapsed"]))
    where = draw(maybe_where)
    delay = draw(st.sampled_from([None, "0s", "5s", "40s"]))
    current = draw(st.sampled_from([None, True, False]))
    if kind == "number":
        return Aggregation(
            function=draw(st.sampled_from(NUMERIC)),
            column="amount",
            where=where,
            delay=delay,
            include_current=current,
        )
    if kind == "text":
        return Aggregation(
            function=draw(st.sampled_from(TEXTS)),
            column="channel",
            where=where,
            delay=delay,
            include_current=current,
        )
    if kind == "share":
        return Aggregation(
            function="share",
            of=draw(st.sampled_from(list(CONDITIONS))),
            where=where,
            delay=delay,
            include_current=current,
        )
    return Aggregation(
        function="elapsed" if kind == "elapsed" else "count",
        where=where,
        delay=delay,
        include_current=current,
    )


@st.composite
def definitions(draw: Callable[..., Any]) -> Definitions:
    views = []
    for entity in draw(
        st.lists(st.sampled_from(["card", "shop", "pair"]), min_size=1, max_size=3, unique=True)
    ):
        windows = tuple(
            draw(st.lists(st.sampled_from(["3s", "10s", "30s", "2m"]), min_size=1, max_size=3, unique=True))
        )
        chosen = draw(st.lists(aggregations(), min_size=1, max_size=4))
        named = tuple(_renamed(one, f"{entity}_{place}") for place, one in enumerate(chosen))
        views.append(
            FeatureView(
                name=f"v_{entity}",
                source="tx",
                entity=entity,
                windows=windows,
                aggregations=named,
                where=draw(maybe_where),
                delay=draw(st.sampled_from(["0s", "7s"])),
                include_current=draw(st.booleans()),
            )
        )
    if draw(st.booleans()):
        rate = Aggregation(function="rate", delay=draw(st.sampled_from(["0s", "10s"])))
        views.append(
            FeatureView(
                name="bad", source="labels", entity="card", windows=("20s", "1m"), aggregations=(rate,)
            )
        )
    sources = (
        (TRANSACTIONS, draw(st.sampled_from([LABELS, PLAIN_LABELS])))
        if views[-1].source == "labels"
        else (TRANSACTIONS,)
    )
    used = {view.entity for view in views}
    return Definitions(
        sources=sources,
        entities=tuple(entity for entity in ENTITIES if entity.name in used),
        views=tuple(views),
        lateness=draw(st.sampled_from(["20s", "5m"])),
    )


def _renamed(one: Aggregation, name: str) -> Aggregation:
    return Aggregation(**{**one.__dict__, "name": name + "_{window}"})


times = st.integers(0, 120)


@st.composite
def streams(draw: Callable[..., Any]) -> list[tuple[str, Event, int]]:
    """Events in order of arrival: late, tied, repeated; labels with corrections; several partitions."""
    out: list[tuple[str, Event, int]] = []
    for number in range(draw(st.integers(1, 40))):
        time = EPOCH + draw(times) * SECOND
        card = draw(st.sampled_from(["a", "b"]))
        partition = draw(st.integers(0, 2))
        if draw(st.integers(0, 3)) == 0:
            position = EPOCH + draw(times) * SECOND
            subject = draw(st.sampled_from(["s1", "s2", "s3"]))
            bad = float(draw(st.integers(0, 1)))
            label = {
                "id": f"l{number}",
                "known": time,
                "card": card,
                "subject": subject,
                "at": position,
                "bad": bad,
            }
            out.append(("labels", label, partition))
            continue
        event = {
            "id": f"t{number}",
            "ts": time,
            "card": card,
            "shop": draw(st.sampled_from([1, 2, None])),
            "amount": draw(
                st.one_of(
                    st.none(), st.integers(0, 5000).map(lambda cents: cents / 100), st.floats(-1e9, 1e9)
                )
            ),
            "channel": draw(st.sampled_from(["web", "pos", None])),
        }
        out.append(("tx", event, partition))
        if draw(st.integers(0, 7)) == 0:
            out.append(("tx", event, partition))
    return out


def to_batch(
    events: list[tuple[int, str, Event, int]],
    offsets: dict[tuple[str, int], int],
    sources: tuple[Source, ...] = (TRANSACTIONS,),
) -> MicroBatch:
    parts = []
    for source in sources:
        mine = [(place, event, partition) for place, name, event, partition in events if name == source.name]
        if mine:
            parts.append(_part(source, mine, offsets))
    return MicroBatch(tuple(parts))


def _part(
    source: Source, mine: list[tuple[int, Event, int]], offsets: dict[tuple[str, int], int]
) -> SourceBatch:
    taken = []
    for _, _, partition in mine:
        offsets[source.name, partition] = offsets.get((source.name, partition), 0) + 1
        taken.append(offsets[source.name, partition] - 1)
    columns: dict[str, Column] = {}
    for item in source.fields:
        values = [event.get(item.name) for _, event, _ in mine]
        columns[item.name] = (
            values
            if item.dtype == "string"
            else np.array([np.nan if v is None else v for v in values], np.float64)
        )
    time = np.array([event[source.event_time] for _, event, _ in mine], np.int64)
    return SourceBatch(
        source=source,
        event_ids=[event[source.event_id] for _, event, _ in mine],
        event_time=time,
        received_time=time,
        partition=np.array([partition for *_, partition in mine], np.int32),
        offset=np.array(taken, np.int64),
        position=np.array([place for place, *_ in mine], np.int64),
        columns=columns,
    )


class Saved:
    """An engine whose rows are encoded after every batch and read back when needed."""

    def __init__(self, engine: FeatureEngine) -> None:
        self.engine = engine
        self.rows: dict[tuple[str, str], dict[tuple[str, int], bytes]] = {}

    def run(self, batch: MicroBatch, *, forget: bool) -> dict[str, Any]:
        prepared = self.engine.prepare(batch)
        for keys in self.engine.entity_keys(prepared):
            lacking = ~keys.loaded
            slices = [
                (int(slot), source, partition, row)
                for slot, key, lack in zip(keys.indices, keys.keys, lacking, strict=True)
                if lack
                for (source, partition), row in self.rows.get((keys.entity, key), {}).items()
            ]
            self.engine.load(keys.entity, keys.indices[lacking], slices, set(), 0)
        found = self.engine.run(prepared)
        for dirty in self.engine.take_dirty():
            for key, row in zip(dirty.keys, dirty.rows, strict=True):
                self.rows.setdefault((dirty.entity, key), {})[dirty.source, dirty.partition] = row
        if forget:
            self.engine = FeatureEngine(self.engine.plan)
        return found


def collect(matrices: dict[str, Any], out: list[dict[str, float | str | None]]) -> None:
    if "tx" not in matrices:
        return
    matrix = matrices["tx"]
    for row in range(len(matrix)):
        found: dict[str, float | str | None] = {
            name: float(matrix.values[row, place]) for place, name in enumerate(matrix.names)
        }
        found |= {name: texts[row] for name, texts in matrix.strings.items()}
        out.append(found)


def same(expected: float | str | None, got: float | str | None, name: str, amounts: float) -> bool:
    if expected is None:
        return got is None or (isinstance(got, float) and math.isnan(got))
    if isinstance(expected, str) or got is None:
        return expected == got
    return math.isclose(expected, float(got), rel_tol=1e-12, abs_tol=1e-12 * amounts)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(definitions(), streams(), st.data())
def test_the_engine_agrees_with_the_reference(
    made: Definitions, stream: list[tuple[str, Event, int]], data: st.DataObject
) -> None:
    stream = [one for one in stream if one[0] in {source.name for source in made.sources}]
    plan = compile_plan(made)
    reference = Reference(made, CONDITIONS)
    expected = [
        found for name, event, partition in stream if (found := reference.process(name, event, partition))
    ]
    whole, cut = FeatureEngine(plan), Saved(FeatureEngine(plan))
    at_once: list[dict[str, float | str | None]] = []
    in_pieces: list[dict[str, float | str | None]] = []
    numbered = [(place, *one) for place, one in enumerate(stream)]
    if not numbered:
        return
    collect(whole.run(whole.prepare(to_batch(numbered, {}, made.sources))), at_once)
    offsets: dict[tuple[str, int], int] = {}
    while numbered:
        size = data.draw(st.integers(1, len(numbered)))
        batch, numbered = to_batch(numbered[:size], offsets, made.sources), numbered[size:]
        collect(cut.run(batch, forget=data.draw(st.booleans())), in_pieces)
    assert [{k: repr(v) for k, v in row.items()} for row in in_pieces] == [
        {k: repr(v) for k, v in row.items()} for row in at_once
    ]
    scale = max((abs(event.get("amount") or 0.0) for _, event, _ in stream), default=1.0) or 1.0
    for row, (want, got) in enumerate(zip(expected, at_once, strict=True)):
        for name, value in want.items():
            assert same(value, got[name], name, scale), (
                f"event {row} {name}: expected {value}, got {got[name]}"
            )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30), st.booleans()), min_size=3, max_size=10))
def test_labels_past_capacity_are_the_same_when_their_row_is_read_again(
    versions: list[tuple[int, int, bool]],
) -> None:
    """Versions of a label may be known in any order, and the row may hold few of them."""
    rate = (Aggregation(function="rate"), Aggregation(function="count"))
    view = FeatureView(name="v", source="labels", entity="card", aggregations=rate, windows=("2m",))
    made = Definitions(sources=(TRANSACTIONS, LABELS), entities=ENTITIES[:1], views=(view,), capacity=2)
    stream: list[tuple[str, Event, int]] = []
    for number, (subject, known, bad) in enumerate(versions):
        label = {"subject": f"s{subject}", "at": EPOCH + subject * SECOND, "known": EPOCH + known * SECOND}
        stream.append(("labels", {**label, "id": f"l{number}", "card": "a", "bad": float(bad)}, 0))
        payment = {"id": f"t{number}", "ts": EPOCH + 40 * SECOND, "card": "a", "amount": 1.0}
        stream.append(("tx", {**payment, "shop": None, "channel": None}, 0))
    found: dict[bool, list[dict[str, float | str | None]]] = {True: [], False: []}
    for forget, out in found.items():
        engine = Saved(FeatureEngine(compile_plan(made)))
        offsets: dict[Any, int] = {}
        for place, one in enumerate(stream):
            collect(engine.run(to_batch([(place, *one)], offsets, made.sources), forget=forget), out)
    assert found[True] == found[False]


@pytest.mark.parametrize("capacity", [8, 64])
def test_past_capacity_windows_stay_within_their_bound(capacity: int) -> None:
    """A hot key: counts and sums err by at most one bucket at the window's edge, and the state stays bounded."""
    view = FeatureView(
        name="v",
        source="tx",
        entity="card",
        windows=("10m", "2h"),
        aggregations=(Aggregation(function="count"), Aggregation(function="sum", column="amount")),
    )
    made = Definitions(
        sources=(TRANSACTIONS,), entities=ENTITIES[:1], views=(view,), capacity=capacity, lateness="0s"
    )
    engine = FeatureEngine(compile_plan(made))
    n = 40_000
    time = EPOCH + np.arange(n, dtype=np.int64) * SECOND
    sizes = []
    for begin in range(0, n, 4000):
        rows = range(begin, begin + 4000)
        events: list[tuple[int, str, Mapping[str, Any], int]] = [
            (
                p,
                "tx",
                {"id": f"t{p}", "ts": int(time[p]), "card": "a", "shop": 1, "amount": 2.0, "channel": None},
                0,
            )
            for p in rows
        ]
        found = engine.run(engine.prepare(to_batch(events, {("tx", 0): begin})))["tx"]
        sizes.append(len(engine.take_dirty()[0].rows[0]))
        for name, window in (("10m", 600), ("2h", 7200)):
            exact = np.minimum(np.arange(begin, begin + 4000) + 1, window)
            counts = np.asarray(found.column(f"tx_count_{name}_by_card"))
            assert np.abs(counts - exact).max() <= window / 128 + 1
            np.testing.assert_allclose(np.asarray(found.column(f"amount_sum_{name}_by_card")), counts * 2.0)
    assert max(sizes) < 24_000


def test_a_million_events_do_not_move_a_mean() -> None:
    view = FeatureView(
        name="v",
        source="tx",
        entity="card",
        windows=("30d",),
        aggregations=(Aggregation(function="mean", column="amount"),),
    )
    engine = FeatureEngine(
        compile_plan(Definitions(sources=(TRANSACTIONS,), entities=ENTITIES[:1], views=(view,)))
    )
    rng = np.random.default_rng(7)
    amounts = np.where(rng.random(1_000_000) < 0.001, 1e9, 1.0) * rng.random(1_000_000)
    step = 50_000
    last = 0.0
    for begin in range(0, len(amounts), step):
        time = EPOCH + np.arange(begin, begin + step, dtype=np.int64) * SECOND
        batch = SourceBatch(
            source=TRANSACTIONS,
            event_ids=[str(p) for p in range(begin, begin + step)],
            event_time=time,
            received_time=time,
            partition=np.zeros(step, np.int32),
            offset=np.arange(begin, begin + step, dtype=np.int64),
            position=np.arange(step, dtype=np.int64),
            columns={
                "id": [None] * step,
                "ts": time.astype(np.float64),
                "card": ["a"] * step,
                "shop": np.ones(step),
                "amount": amounts[begin : begin + step],
                "channel": [None] * step,
            },
        )
        last = float(engine.run(engine.prepare(MicroBatch((batch,))))["tx"].values[-1, 0])
    assert last == pytest.approx(math.fsum(amounts) / len(amounts), rel=1e-9)
