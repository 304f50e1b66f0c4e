"""Figures against scikit-learn and against the slow definition."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from models.monitoring.ranking import area_under_roc, average_precision, ranking
from stream.replay.backtest.report.compare import Overlaps, Segments, sweep, texts_of
from stream.replay.backtest.report.figures import figures
from stream.replay.backtest.report.outcomes import outcome_of
from stream.replay.backtest.report.results import OutcomeFigures
from stream.replay.backtest.report.tally import DecisionCounts
from stream.replay.backtest.request import Setting

START = datetime(2026, 1, 1)


def frame(rows: int = 400, seed: int = 1, **columns: object) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    bad = rng.random(rows) < 0.2
    label = [
        None if hidden else float(value) for hidden, value in zip(rng.random(rows) < 0.3, bad, strict=True)
    ]
    score = rng.integers(0, 50, rows) / 50
    decision = np.where(score > 0.9, "decline", np.where(score > 0.7, "review", "approve"))
    data = {
        "event_id": [f"e{row}" for row in range(rows)],
        "event_time": [START + timedelta(hours=int(hour)) for hour in np.sort(rng.integers(0, 96, rows))],
        "source": ["transactions"] * rows,
        "case_key": [f"card:{card}" for card in rng.integers(0, 40, rows)],
        "score": score,
        "threshold": [0.7] * rows,
        "decision": decision.tolist(),
        "alert": score > 0.7,
        "suppressed": [False] * rows,
        "released": (score > 0.9) & (rng.random(rows) < 0.5),
        "exposure": rng.random(rows) * 100,
        "label": label,
        "reasons": [""] * rows,
        "country": [("NL", "DE", None)[pick] for pick in rng.integers(0, 3, rows)],
    }
    made = pl.DataFrame({**data, **columns}, strict=False).with_columns(pl.col("label").cast(pl.Float64))
    known = pl.when(pl.col("label").is_not_null()).then(pl.col("event_time") + timedelta(days=2))
    return made.with_columns(known.alias("label_known"))


def counted(data: pl.DataFrame, top: int = 100) -> DecisionCounts:
    counts = DecisionCounts(top)
    counts.add(data)
    return counts


def outcome(data: pl.DataFrame, top: int = 100) -> OutcomeFigures:
    return outcome_of(counted(data, top))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=1, max_size=60))
def test_ranking_figures_are_scikit_learns(rows: list[tuple[bool, int]]) -> None:
    label = np.array([float(bad) for bad, _ in rows])
    score = np.array([value / 8 for _, value in rows])
    if label.any():
        assert average_precision(*ranking(label, score)) == pytest.approx(
            average_precision_score(label, score)
        )
    if 0 < label.sum() < len(label):
        assert area_under_roc(*ranking(label, score)) == pytest.approx(roc_auc_score(label, score))
    else:
        assert area_under_roc(*ranking(label, score)) is None


def test_figures_agree_with_pandas() -> None:
    data = frame()
    table = data.to_pandas()
    known = table[table.label.notna()]
    judged, bad = known[known.alert], known[known.label > 0]
    found = outcome(data)
    assert found.alerts == int(table.alert.sum())
    assert found.precision == pytest.approx((judged.label > 0).mean())
    assert found.recall == pytest.approx(bad.alert.mean())
    assert found.money_missed == pytest.approx(bad[~bad.alert].exposure.sum())
    assert found.unknown_share == pytest.approx(table.label.isna().mean())
    assert found.alerts_per_day == pytest.approx(table.alert.sum() / table.event_time.dt.date.nunique())
    assert found.label_delay_days_median == pytest.approx(2.0)


def test_a_decline_whose_alert_was_suppressed_is_caught() -> None:
    """Three bad payments of one card, declined one after the other: one alert, none missed."""
    data = frame(rows=4).with_columns(
        decision=pl.Series(["decline"] * 3 + ["approve"]),
        alert=pl.Series([True, False, False, False]),
        suppressed=pl.Series([False, True, True, False]),
        released=pl.lit(False),
        exposure=pl.Series([2000.0, 3000.0, 4000.0, 5.0]),
        label=pl.Series([1.0, 1.0, 1.0, 1.0]),
    )
    found = outcome(data)
    assert (found.bad, found.caught, found.missed, found.recall) == (4, 3, 1, 0.75)
    assert (found.money_caught, found.money_missed) == (9000.0, 5.0)
    assert (found.alerts, found.alerts_bad, found.alert_precision) == (1, 1, 1.0)
    report = figures("transactions", [Setting("setting", {}, "", "")], [lambda _: iter([data])])
    assert [example.exposure for example in report.a.missed] == [5.0]
    assert [example.exposure for example in report.a.best] == [4000.0, 3000.0, 2000.0]


def test_card_precision_forgets_found_cards() -> None:
    rows: dict[str, list[Any]] = {
        "event_id": ["a", "b", "c", "d"],
        "case_key": ["x", "y", "x", "z"],
        "score": [0.9, 0.8, 0.9, 0.7],
        "label": [1.0, 0.0, 1.0, 1.0],
        "event_time": [START, START, START + timedelta(days=1), START + timedelta(days=1)],
    }
    data = frame(rows=4).with_columns(**{name: pl.Series(values) for name, values in rows.items()})
    assert outcome(data, top=1).card_precision == pytest.approx((1 + 1) / 2)


@pytest.mark.parametrize("cuts", [[], [1], [100, 101, 250]])
def test_figures_do_not_depend_on_how_decisions_are_cut_into_parts(cuts: list[int]) -> None:
    data = frame()
    tally = DecisionCounts()
    for start, end in zip([0, *cuts], [*cuts, data.height], strict=True):
        tally.add(data[start:end])
    whole, parts = outcome(data), outcome_of(tally)
    for name, value in msgspec.structs.asdict(whole).items():
        assert getattr(parts, name) == (pytest.approx(value) if isinstance(value, float) else value)
    assert [point.alerts_per_day for point in sweep(tally)] == [
        point.alerts_per_day for point in sweep(counted(data))
    ]


def test_released_declines_speak_for_all_declines() -> None:
    found = outcome(frame(rows=4000)).released
    assert found.bad_rate is not None
    assert found.bad_rate.low < 0.2 < found.bad_rate.high


def test_two_settings_are_compared_event_by_event() -> None:
    a = frame()
    b = a.with_columns(alert=pl.col("score") > 0.5, decision=pl.lit("review"))
    overlaps = Overlaps()
    overlaps.add(a, b)
    found = overlaps.overlap()
    assert found.only_a == 0
    assert found.both == int(a["alert"].sum())
    assert found.both + found.only_b == int((a["score"] > 0.5).sum())
    with pytest.raises(ValueError, match="different events"):
        overlaps.add(a, b.head(10))


def test_segments_cover_every_event() -> None:
    data = frame()
    segments = Segments("country", Counter(texts_of(data, "country").to_list()))
    segments.add(0, data)
    found = segments.segments(False)
    assert {part.segment for part in found} == {"NL", "DE", "(none)"}
    assert sum(part.a.events for part in found) == 400


def test_a_sweep_point_is_what_that_threshold_gives() -> None:
    data = frame()
    for point in sweep(counted(data), points=20):
        chosen = data.filter(pl.col("score") >= point.threshold)
        known = chosen.filter(pl.col("label").is_not_null())
        assert point.alerts_per_day == pytest.approx(chosen.height / 4)
        assert point.money_caught == pytest.approx(known.filter(pl.col("label") > 0)["exposure"].sum())
        if known.height:
            assert point.precision == pytest.approx((known["label"] > 0).mean())
