"""Backtests over topics: decisions as from files, ranges by offset and time, an order that the log alone decides."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from pathlib import Path

import msgspec
import polars as pl
import pytest
from confluent_kafka import Producer
from polars.testing import assert_frame_equal

from features.core.errors import ConfigurationError
from stream.kafka.readers import range_reader
from stream.kafka.readers.range_reader import RangeReader
from stream.project import build
from stream.replay.backtest.backtest import backtest
from stream.replay.backtest.inputs import opened
from stream.replay.backtest.request import BacktestRequest
from stream.settings.config import load

START = 1_772_323_200_000
PAYMENTS, LABELS = 24_000, 8_000

DEFINITIONS = """
from features.definitions.spec import Aggregation, Definitions, Entity, FeatureView, Field, LabelOf, Source

def fields(**types):
    return tuple(Field(name=name, dtype=dtype) for name, dtype in types.items())

definitions = Definitions(
    sources=(
        Source(
            name="payments", topic="{payments}", event_id="id", event_time="at", key="card", amount="amount",
            fields=fields(id="string", at="timestamp", card="string", shop="string", amount="float64"),
        ),
        Source(
            name="chargebacks", topic="{labels}", event_id="id", event_time="known", key="card",
            fields=fields(id="string", known="timestamp", card="string", payment="string", bad="int64"),
            labels=LabelOf(event_id="payment", value="bad"),
        ),
    ),
    entities=(Entity(name="card", keys=("card",)), Entity(name="shop", keys=("shop",))),
    views=(
        FeatureView(
            name="spend", source="payments", entity="card", windows=("1h", "1d"),
            aggregations=(
                Aggregation(function="count"), Aggregation(function="std", column="amount"),
                Aggregation(function="elapsed"),
            ),
        ),
        FeatureView(
            name="takings", source="payments", entity="shop", windows=("1h",),
            aggregations=(Aggregation(function="mean", column="amount"), Aggregation(function="last", column="card")),
        ),
        FeatureView(
            name="frauds", source="chargebacks", entity="card", windows=("30d",),
            aggregations=(Aggregation(function="rate"),),
        ),
    ),
)
"""

POLICY = """
[sources.payments]
review = 0.9

[[sources.payments.rules]]
name = "unusual"
when = "amount > 2 * amount_mean_1h_by_shop AND payments_count_1d_by_card > 3"
action = "review"

[sources.payments.suppress]
entity = "shop"
period = "1h"
"""


def payments() -> pl.DataFrame:
    """No two events at one time, so that partitions and rows order them alike."""
    draw = random.Random(3)
    rows = range(PAYMENTS)
    return pl.DataFrame({
        "id": [f"p{row}" for row in rows], "at": [START + row * 7_000 for row in rows],
        "card": [f"c{draw.randrange(300)}" for _ in rows], "shop": [f"s{draw.randrange(40)}" for _ in rows],
        "amount": [round(draw.expovariate(0.02), 2) for _ in rows],
    })  # fmt: skip


def chargebacks(of: pl.DataFrame) -> pl.DataFrame:
    draw = random.Random(4)
    chosen = sorted(draw.sample(range(PAYMENTS), LABELS))
    return pl.DataFrame({
        "id": [f"l{row}" for row in chosen], "known": [START + row * 7_000 + 86_400_001 for row in chosen],
        "card": of["card"].gather(chosen), "payment": of["id"].gather(chosen),
        "bad": [int(draw.random() < 0.1) for _ in chosen],
    })  # fmt: skip


@pytest.fixture
def project(tmp_path: Path, kafka: str, make_topic: Callable[..., str]) -> dict[str, str]:
    name = f"bt{secrets.token_hex(4)}"
    topics = {
        "payments": make_topic(f"{name}-payments", partitions=4),
        "labels": make_topic(f"{name}-labels", partitions=2),
    }
    text = DEFINITIONS.replace("{payments}", topics["payments"]).replace("{labels}", topics["labels"])
    (tmp_path / "definitions.py").write_text(text)
    (tmp_path / "policy.toml").write_text(POLICY)
    (tmp_path / "riskstream.toml").write_text(
        f'[project]\nname = "{name}"\n\n[kafka]\nbootstrap_servers = "{kafka}"\n'
    )
    return topics


def produce(kafka: str, topic: str, frame: pl.DataFrame, *, bad_after: int | None = None) -> None:
    """Rows as JSON by card, with message times; bytes that are no event in each partition after so many rows."""
    producer = Producer({"bootstrap.servers": kafka, "linger.ms": 20})
    partitions = len(producer.list_topics(topic, 10).topics[topic].partitions)
    time = next(name for name in ("at", "known") if name in frame.columns)
    for number, row in enumerate(frame.iter_rows(named=True)):
        if number == bad_after:
            for partition in range(partitions):
                producer.produce(topic, b"\xffno event{", partition=partition)
        producer.produce(topic, msgspec.json.encode(row), row["card"], timestamp=row[time])
    assert producer.flush(60) == 0


def request(folder: Path, name: str, inputs: list[str], **more: object) -> BacktestRequest:
    made = {"with_features": True, "decisions": folder / name, "work": folder / f"work-{name}", **more}
    return BacktestRequest(config=folder / "riskstream.toml", inputs=inputs, **made)  # type: ignore[arg-type]


@pytest.fixture
def recorded(tmp_path: Path, kafka: str, project: dict[str, str]) -> list[list[str]]:
    """The same events in topics (with bad bytes in the middle) and in files, as inputs."""
    paid = payments()
    judged = chargebacks(paid)
    produce(kafka, project["payments"], paid, bad_after=PAYMENTS // 2)
    produce(kafka, project["labels"], judged, bad_after=100)
    times = [pl.from_epoch(pl.col(name), "ms") for name in ("at", "known")]
    paid.with_columns(times[0]).write_parquet(tmp_path / "payments.parquet")
    judged.with_columns(times[1]).write_parquet(tmp_path / "labels.parquet")
    files = [f"payments={tmp_path}/payments.parquet", f"chargebacks={tmp_path}/labels.parquet"]
    return [files, [f"kafka:{topic}" for topic in project.values()]]


def test_topics_and_files_give_identical_decisions(tmp_path: Path, recorded: list[list[str]]) -> None:
    span = {"start": "2026-03-01T06:00", "end": "2026-03-02T12:00"}
    files = backtest(request(tmp_path, "files", recorded[0], **span))
    topics = backtest(request(tmp_path, "topics", recorded[1], **span))
    shared = backtest(request(tmp_path, "shared", recorded[1], **span, processes=2))
    assert files.figures == topics.figures == shared.figures
    assert (files.rejected, topics.rejected, shared.rejected) == (0, 6, 6)
    assert (topics.division, shared.division[:26]) == ("", "divided: payments by card;")
    assert files.figures[0].a.outcome.alerts > 100 < files.figures[0].a.outcome.suppressed
    frames = [pl.read_parquet(tmp_path / name / "setting.parquet") for name in ("files", "topics", "shared")]
    assert frames[0].height == 15_429
    assert frames[1]["partition"].n_unique() == 4
    assert frames[1].equals(frames[2])
    for frame in frames[1:]:
        assert_frame_equal(
            frames[0].drop("partition", "offset"), frame.drop("partition", "offset"), check_exact=True
        )


def test_a_range_is_given_by_offsets_or_by_message_times(
    tmp_path: Path, recorded: list[list[str]], project: dict[str, str]
) -> None:
    topic, labels = project["payments"], f"kafka:{project['labels']}"
    by_time = request(tmp_path, "t", [f"kafka:{topic}@2026-03-01T06:00..2026-03-01T12:00:00", labels])
    found = backtest(by_time).figures[0]
    assert (found.first, found.events) == ("2026-03-01 06:00:02", 3_086)
    by_offset = request(tmp_path, "o", [f"kafka:{topic}@0:100..600,2:..50", labels])
    backtest(by_offset)
    places = pl.read_parquet(tmp_path / "o" / "setting.parquet").select("partition", "offset")
    assert places.sort("partition", "offset").rows() == [(0, at) for at in range(100, 600)] + [
        (2, at) for at in range(50)
    ]
    with pytest.raises(ConfigurationError, match="offsets 0 to 999999 of partition 0"):
        backtest(request(tmp_path, "x", [f"kafka:{topic}@0:..999999", labels]))
    with pytest.raises(ConfigurationError, match=r"FROM\.\.TO"):
        backtest(request(tmp_path, "y", [f"kafka:{topic}@yesterday", labels]))


def test_bad_bytes_are_counted_and_cost_no_event(
    tmp_path: Path, recorded: list[list[str]], project: dict[str, str]
) -> None:
    config = load(tmp_path / "riskstream.toml")
    reader = RangeReader(config.kafka, build.make_decoders(config, build.make_plan(config)))
    events = sum(len(batch) for batch in reader)
    reader.close()
    assert (events, reader.rejected) == (PAYMENTS + LABELS, 4 + 2)


def test_order_depends_on_the_log_alone(
    tmp_path: Path, kafka: str, project: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Late events, many events at one time, one partition far ahead: cut into batches of any size."""
    draw = random.Random(7)
    paid = (
        payments()
        .head(4_000)
        .with_columns(
            at=pl.Series(
                [START + (row // 40) * 60_000 - draw.choice((0, 0, 0, 90_000)) for row in range(4_000)]
            )
        )
    )
    produce(kafka, project["payments"], paid)
    produce(kafka, project["labels"], chargebacks(payments()).head(1_000))
    orders = []
    for enough, buffer in ((5_000, 40_000), (1, 20), (97, 300)):
        monkeypatch.setattr(range_reader, "_ENOUGH", enough)
        monkeypatch.setattr(range_reader, "_BUFFER", buffer)
        orders.append(
            _order(request(tmp_path, f"n{enough}", [f"kafka:{topic}" for topic in project.values()]))
        )
    assert len(orders[0]) == len(set(orders[0])) == 5_000
    assert orders[0] == orders[1] == orders[2]


def _order(asked: BacktestRequest) -> list[tuple[str, int, int]]:
    plan = build.make_plan(load(asked.config))
    asked.work.mkdir()
    found = []
    with opened(asked, plan) as feed:
        for _, batch in feed.batches:
            rows = [
                (position, (part.source.name, partition, offset))
                for part in batch.source_batches
                for position, partition, offset in zip(
                    part.position.tolist(), part.partition.tolist(), part.offset.tolist(), strict=True
                )
            ]
            found += [place for _, place in sorted(rows)]
    return found
