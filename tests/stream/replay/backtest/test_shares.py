"""Shares by ranges of entity keys are one process's run, bit for bit: features, scores, decisions, report."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from features.definitions.compile import compile_plan
from features.definitions.spec import Aggregation, Definitions, Entity, FeatureView, Field, LabelOf, Source
from features.engine.engine import FeatureEngine
from features.offline.merge import batches
from models.decision.policy import Policy
from stream.replay.backtest.backtest import backtest
from stream.replay.backtest.request import SHARDS, BacktestRequest, Setting, Span
from stream.replay.backtest.scoring import GroupScorer, Scored, SettingGroup, SettingScorer
from stream.replay.backtest.shares.shares import Share, split_of
from stream.scoring.scorer import Scorer

START = 1_772_323_200_000_000
EXAMPLE = Path(__file__).resolve().parents[4] / "examples" / "handbook"
COUNT = Aggregation(function="count")


def fields(**types: str) -> tuple[Field, ...]:
    required = ("id", "at", "of", "bad")
    return tuple(Field(name=name, dtype=dtype, required=name in required) for name, dtype in types.items())  # type: ignore[arg-type]


SOURCES = {
    "tx": Source(
        name="tx", topic="tx", event_id="id", event_time="at", key="card", amount="amount",
        fields=fields(id="string", at="timestamp", card="string", shop="string", amount="float64"),
    ),
    "loans": Source(
        name="loans", topic="loans", event_id="id", event_time="at", key="shop",
        fields=fields(id="string", at="timestamp", shop="string"),
    ),
    "labels": Source(
        name="labels", topic="labels", event_id="id", event_time="at", key="card",
        fields=fields(id="string", at="timestamp", card="string", shop="string", of="string", bad="int64"),
        labels=LabelOf(event_id="of", value="bad"),
    ),
}  # fmt: skip


def view(name: str, source: str, entity: str, *aggregations: Aggregation) -> FeatureView:
    return FeatureView(
        name=name, source=source, entity=entity, windows=("1h", "1d"), aggregations=aggregations
    )


SPEND = (COUNT, Aggregation(function="std", column="amount"), Aggregation(function="elapsed"))
CARD = view("spend", "tx", "card", *SPEND)
SHOP = view("shop", "tx", "shop", COUNT, Aggregation(function="last", column="card"))
LOANS = view("loans", "loans", "shop", COUNT)
RATE = Aggregation(function="rate")
PLANS = {
    "one entity": (("tx",), (CARD,)),
    "two entities": (("tx", "labels"), (CARD, SHOP, view("risk", "labels", "shop", RATE))),
    "labels of the card": (("tx", "labels"), (CARD, SHOP, view("frauds", "labels", "card", RATE))),
    "two scored sources": (("tx", "loans"), (CARD, SHOP, LOANS)),
}


def group_of(name: str) -> SettingGroup:
    sources, views = PLANS[name]
    entities = (Entity(name="card", keys=("card",)), Entity(name="shop", keys=("shop",)))
    used = tuple(entity for entity in entities if any(one.entity == entity.name for one in views))
    plan = compile_plan(
        Definitions(sources=tuple(SOURCES[one] for one in sources), entities=used, views=views)
    )
    group = SettingGroup(0, FeatureEngine(plan, shards=SHARDS))
    policy = Policy("", {})  # shares do not decide
    scorer = Scorer(group.engine, policy, mode="replay")
    group.sides.append(SettingScorer(Setting("setting", {}, "", plan.fingerprint), scorer, policy))
    return group


def events(sources: tuple[str, ...], rows: int = 3_000) -> dict[str, pl.LazyFrame]:
    """Many keys and some of them null, duplicates, ties."""
    draw = random.Random(11)
    found = {}
    for source in sources:
        times = sorted(START + draw.randrange(400_000) * 1_000_000 for _ in range(rows))
        frame = {"id": [f"{source}{row - (row % 50 == 1)}" for row in range(rows)], "at": times}
        frame |= {"card": [draw.choice((None, *(f"c{one}" for one in range(90)))) for _ in range(rows)]}
        frame |= {"shop": [draw.choice((None, *(f"s{one}" for one in range(9)))) for _ in range(rows)]}
        frame |= {"amount": [draw.random() * 1e6 for _ in range(rows)]}
        frame |= {
            "of": [f"tx{draw.randrange(rows)}" for _ in range(rows)],
            "bad": [row % 9 == 0 for row in range(rows)],
        }
        found[source] = pl.DataFrame(frame).with_columns(pl.col("at").cast(pl.Datetime("us"))).lazy()
    return found


def scored(name: str, share: Share | None = None, span: Span | None = None) -> Iterator[Scored]:
    group = group_of(name)
    scorer = GroupScorer(group, span or Span(), lambda _source, _rows: None, share)
    start = 0
    for batch in batches(group.plan, events(PLANS[name][0]), 700):
        yield from scorer.score(batch, start)
        start += len(batch)


def rows_of(found: Iterator[Scored]) -> dict[int, tuple[object, ...]]:
    """Everything that is known of an event, by its position; numbers as bits."""
    rows: dict[int, tuple[object, ...]] = {}
    for one in found:
        matrix = one.matrix
        bits = np.ascontiguousarray(matrix.values).view(np.int64).tolist()
        texts = list(zip(*matrix.strings.values(), strict=True)) or [()] * len(matrix)
        for row, position in enumerate(one.position.tolist()):
            flags = bool(matrix.duplicate[row]), bool(matrix.late[row])
            rows[position] = (matrix.batch.event_ids[row], *bits[row], *texts[row], *flags)
    return rows


@pytest.mark.parametrize("count", [2, 3, 7])
@pytest.mark.parametrize("name", PLANS)
def test_shares_together_are_the_whole(name: str, count: int) -> None:
    whole = rows_of(scored(name))
    split = split_of(group_of(name).plan)
    parts = [rows_of(scored(name, Share(split, number, count))) for number in range(count)]
    assert sum(map(len, parts)) == len(whole) > 0
    assert {position: row for part in parts for position, row in part.items()} == whole
    assert sum(bool(part) for part in parts) > 1


def test_shares_with_a_warm_up_are_the_whole() -> None:
    span = Span(START + 200_000_000_000, START + 300_000_000_000, 86_400_000_000)
    name = "two entities"
    whole = rows_of(scored(name, span=span))
    split = split_of(group_of(name).plan)
    parts = [rows_of(scored(name, Share(split, number, 2), span)) for number in range(2)]
    assert parts[0] | parts[1] == whole
    assert 0 < len(whole) < 3_000


def test_the_entity_with_most_state_splits_and_the_rest_is_said() -> None:
    plan = group_of("two entities").plan
    split = split_of(plan)
    assert split.entities == {"tx": "shop"}
    assert split.said(plan) == "divided: tx by shop; state of these views is folded by every process: spend"
    alone = group_of("one entity").plan
    assert split_of(alone).said(alone) == "divided: tx by card"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The handbook's definitions, on events made up here."""
    draw = random.Random(5)
    rows = range(9_000)
    times = pl.from_epoch(pl.Series([START // 1_000 + row * 60_000 for row in rows]), "ms")
    paid = pl.DataFrame({
        "TRANSACTION_ID": rows, "TX_DATETIME": times, "CUSTOMER_ID": [draw.randrange(200) for _ in rows],
        "TERMINAL_ID": [draw.randrange(300) for _ in rows], "TX_AMOUNT": [draw.expovariate(0.01) for _ in rows],
        "TX_FRAUD": [int(draw.random() < 0.03) for _ in rows],
    })  # fmt: skip
    known = paid.with_columns(
        KNOWN_DATETIME=pl.col("TX_DATETIME") + pl.duration(days=1), LABEL_ID="TRANSACTION_ID"
    )
    known.write_parquet(tmp_path / "labels.parquet")
    paid.drop("TX_FRAUD").write_parquet(tmp_path / "transactions.parquet")
    (tmp_path / "definitions.py").write_text((EXAMPLE / "definitions.py").read_text())
    rules = (EXAMPLE / "policy.toml").read_text()
    (tmp_path / "policy.toml").write_text(
        f'{rules}\n[sources.transactions.suppress]\nentity = "customer"\nperiod = "1d"\n'
    )
    (tmp_path / "plain.toml").write_text(rules.replace("220", "300"))
    (tmp_path / "riskstream.toml").write_text('[project]\nname = "shares"\n')
    return tmp_path


def request(project: Path, name: str, **more: object) -> BacktestRequest:
    inputs = [f"{source}={project}/{source}.parquet" for source in ("transactions", "labels")]
    made: dict[str, Any] = {
        "against": "live",
        "policy": project / "plain.toml",
        "with_features": True,
        **more,
    }
    return BacktestRequest(
        config=project / "riskstream.toml",
        inputs=inputs,
        work=project / f"work-{name}",
        decisions=project / name,
        **made,
    )


def assert_same(project: Path, name: str, other: str) -> None:
    for setting in ("candidate", "against"):
        frames = [pl.read_parquet(project / one / f"{setting}.parquet") for one in (name, other)]
        assert frames[0].height == 9_000
        assert frames[0].equals(frames[1])


def test_processes_decide_as_one_does(project: Path) -> None:
    one = backtest(request(project, "one"))
    two = backtest(request(project, "two", processes=2))
    assert one.figures == two.figures
    assert one.figures[0].b is not None and one.figures[0].b.outcome.suppressed > 50
    assert_same(project, "one", "two")


def test_two_definitions_are_compared_event_by_event(project: Path) -> None:
    text = (project / "definitions.py").read_text()
    (project / "other.py").write_text(text.replace('WINDOWS = ("1d", "7d", "30d")', 'WINDOWS = ("1d", "2d")'))
    one = backtest(request(project, "one", definitions=project / "other.py"))
    two = backtest(request(project, "two", definitions=project / "other.py", processes=2))
    assert one.figures == two.figures
    assert_same(project, "one", "two")
    columns = [
        set(pl.read_parquet_schema(project / "one" / f"{name}.parquet")) for name in ("candidate", "against")
    ]
    assert {name.split("_")[-3] for name in columns[0] - columns[1]} == {"2d"}
    assert {name.split("_")[-3] for name in columns[1] - columns[0]} == {"7d", "30d"}


@pytest.mark.long
def test_ray_decides_as_one_process_does(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Needs `pip install riskstream[ray]`."""
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    one = backtest(request(project, "one"))
    ray = backtest(request(project, "ray", processes=3, engine="ray"))
    assert one.figures == ray.figures
    assert_same(project, "one", "ray")
