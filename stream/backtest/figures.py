"""Everything a backtest report says, as data: what `--json` writes and the HTML page draws."""

from __future__ import annotations

import msgspec
import numpy as np
import polars as pl

from stream.backtest.compare import Overlap, Segment, SweepPoint, overlap, segments, sweep
from stream.backtest.outcomes import DAY, Outcome, outcome

BINS = 40


class Setting(msgspec.Struct, frozen=True):
    """What was tried: the versions that make a result repeatable."""

    name: str
    models: dict[str, str]
    policy: str
    plan: str


class Day(msgspec.Struct, frozen=True):
    """One day of one setting."""

    day: str
    events: int
    alerts: int
    bad_alerts: int


class Example(msgspec.Struct, frozen=True):
    """One event worth a look, with what the setting said of it."""

    event_id: str
    event_time: str
    score: float
    decision: str
    exposure: float | None
    label: float | None
    reasons: str


class Side(msgspec.Struct, frozen=True):
    """All figures of one setting."""

    setting: Setting
    outcome: Outcome
    days: list[Day]
    histogram: list[int]
    histogram_bad: list[int]
    sweep: list[SweepPoint]
    best: list[Example]
    missed: list[Example]
    false_alarms: list[Example]


class Figures(msgspec.Struct, frozen=True):
    """A whole report. `complete` is false for one written after an interruption."""

    source: str
    complete: bool
    events: int
    first: str | None
    last: str | None
    a: Side
    b: Side | None
    overlap: Overlap | None
    segments: dict[str, list[Segment]]


def figures(
    source: str,
    settings: list[Setting],
    frames: list[pl.DataFrame],
    *,
    segment_by: tuple[str, ...] = (),
    complete: bool = True,
    review_cost: float = 0.0,
) -> Figures:
    """Figures of one setting, or of two on the same events."""
    first = frames[0]
    sides = [_side(setting, frame, review_cost) for setting, frame in zip(settings, frames, strict=True)]
    other = frames[1] if len(frames) > 1 else None
    times = first["event_time"]
    return Figures(
        source=source,
        complete=complete,
        events=first.height,
        first=None if first.is_empty() else str(times.min()),
        last=None if first.is_empty() else str(times.max()),
        a=sides[0],
        b=sides[1] if other is not None else None,
        overlap=None if other is None else overlap(first, other),
        segments={column: segments(first, other, column) for column in segment_by},
    )


def _side(setting: Setting, frame: pl.DataFrame, review_cost: float) -> Side:
    bad = pl.col("label").fill_null(0) > 0
    good = pl.col("label") == 0
    alert = pl.col("alert")
    return Side(
        setting=setting,
        outcome=outcome(frame),
        days=_days(frame),
        histogram=_histogram(frame),
        histogram_bad=_histogram(frame.filter(bad)),
        sweep=sweep(frame, review_cost=review_cost),
        best=_examples(frame.filter(bad & alert), "exposure"),
        missed=_examples(frame.filter(bad & ~alert), "exposure"),
        false_alarms=_examples(frame.filter(good & alert), "score"),
    )


def _days(frame: pl.DataFrame) -> list[Day]:
    bad = (pl.col("label").fill_null(0) > 0) & pl.col("alert")
    days = frame.group_by(pl.col("event_time").dt.truncate(DAY).alias("day")).agg(
        events=pl.len(), alerts=pl.col("alert").sum(), bad_alerts=bad.sum()
    )
    return [
        Day(str(day)[:10], events, alerts, caught)
        for day, events, alerts, caught in days.sort("day").iter_rows()
    ]


def _histogram(frame: pl.DataFrame) -> list[int]:
    counts: list[int] = np.histogram(frame["score"].to_numpy(), bins=BINS, range=(0.0, 1.0))[0].tolist()
    return counts


def _examples(frame: pl.DataFrame, by: str, most: int = 10) -> list[Example]:
    top = frame.sort([by, "event_id"], descending=[True, False], nulls_last=True).head(most)
    return [
        Example(
            event_id=row["event_id"],
            event_time=str(row["event_time"]),
            score=row["score"],
            decision=row["decision"],
            exposure=row["exposure"],
            label=row["label"],
            reasons=row["reasons"],
        )
        for row in top.iter_rows(named=True)
    ]
