"""Two settings side by side on the same events, and the sweep of a threshold without scoring again."""

from __future__ import annotations

import msgspec
import numpy as np
import polars as pl

from stream.backtest.outcomes import DAY, Outcome, outcome


class Overlap(msgspec.Struct, frozen=True):
    """Alerts by who raised them, with the bad ones among those whose outcome is known."""

    both: int
    only_a: int
    only_b: int
    bad_both: int
    bad_only_a: int
    bad_only_b: int
    bad_neither: int
    decisions_changed: int


class Segment(msgspec.Struct, frozen=True):
    """Figures of both settings in one segment."""

    segment: str
    a: Outcome
    b: Outcome | None


class SweepPoint(msgspec.Struct, frozen=True):
    """What a threshold would give, by score alone (rules and suppression left out)."""

    threshold: float
    alerts_per_day: float
    precision: float | None
    recall: float | None
    money_caught: float
    money_stopped_wrongly: float
    value: float


def overlap(a: pl.DataFrame, b: pl.DataFrame) -> Overlap:
    """Compare alerts event by event. Both frames hold the same events; ValueError otherwise."""
    joined = a.join(b, on=["source", "event_id"], how="full", suffix="_b", coalesce=True)
    if joined.height != a.height or a.height != b.height:
        raise ValueError(
            f"the settings scored different events: {a.height} and {b.height}, {joined.height} in all"
        )
    in_a, in_b, bad = pl.col("alert"), pl.col("alert_b"), pl.col("label").fill_null(0) > 0
    counts = joined.select(
        both=(in_a & in_b).sum(),
        only_a=(in_a & ~in_b).sum(),
        only_b=(~in_a & in_b).sum(),
        bad_both=(in_a & in_b & bad).sum(),
        bad_only_a=(in_a & ~in_b & bad).sum(),
        bad_only_b=(~in_a & in_b & bad).sum(),
        bad_neither=(~in_a & ~in_b & bad).sum(),
        decisions_changed=(pl.col("decision") != pl.col("decision_b")).sum(),
    )
    return Overlap(**counts.row(0, named=True))


def segments(a: pl.DataFrame, b: pl.DataFrame | None, column: str, *, most: int = 20) -> list[Segment]:
    """Figures by the values of a column, the most frequent first; the rest under `(others)`."""
    names = a[column].cast(pl.String).fill_null("(none)").value_counts(sort=True)[column].to_list()
    keep = set(names[:most])

    def named(frame: pl.DataFrame) -> pl.DataFrame:
        text = pl.col(column).cast(pl.String).fill_null("(none)")
        return frame.with_columns(
            pl.when(text.is_in(list(keep))).then(text).otherwise(pl.lit("(others)")).alias("_segment")
        )

    left, right = named(a), None if b is None else named(b)
    shown = names[:most] + (["(others)"] if len(names) > most else [])
    return [
        Segment(
            name,
            outcome(left.filter(pl.col("_segment") == name)),
            None if right is None else outcome(right.filter(pl.col("_segment") == name)),
        )
        for name in shown
    ]


def sweep(frame: pl.DataFrame, *, points: int = 100, review_cost: float = 0.0) -> list[SweepPoint]:
    """Threshold by threshold: alerts a day against value = money caught - review_cost * alerts.

    Thresholds are quantiles of the scores, so that the curve is even in alerts; one sort, no scoring.
    """
    if frame.is_empty():
        return []
    ordered = frame.sort("score", descending=True)
    score = ordered["score"].to_numpy()
    label = ordered["label"].cast(pl.Float64).to_numpy()
    money = ordered["exposure"].fill_null(0.0).to_numpy()
    bad, good = np.cumsum(label > 0), np.cumsum(label == 0)
    caught, wrong = np.cumsum(np.where(label > 0, money, 0.0)), np.cumsum(np.where(label == 0, money, 0.0))
    days = max(1, int(frame["event_time"].dt.truncate(DAY).n_unique()))
    ranks = np.unique(np.geomspace(1, len(score), points).astype(np.int64)) - 1
    ends = np.unique(np.searchsorted(-score, -score[ranks], side="right") - 1)
    return [
        SweepPoint(
            threshold=float(score[end]),
            alerts_per_day=(int(end) + 1) / days,
            precision=_ratio(bad[end], bad[end] + good[end]),
            recall=_ratio(bad[end], bad[-1]),
            money_caught=float(caught[end]),
            money_stopped_wrongly=float(wrong[end]),
            value=float(caught[end]) - review_cost * (int(end) + 1),
        )
        for end in ends
    ]


def _ratio(part: np.int64, whole: np.int64) -> float | None:
    return float(part / whole) if whole else None
