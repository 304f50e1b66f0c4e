"""What a setting would have done: figures from decisions joined with the labels that became known.

A *decisions frame* has a row a scored event: `event_id, event_time, source, case_key, score, threshold,
decision, alert, suppressed, released, exposure, label, label_known` and any segment columns. `label` is
null where no outcome is known; it is never taken for 0.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import polars as pl

from features.batch import Floats

DAY = "1d"


class Interval(msgspec.Struct, frozen=True):
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


class Released(msgspec.Struct, frozen=True):
    """What the randomly released declines tell of all declines.

    Each released decline has the same known chance p of being let through, so each stands for 1/p
    declines (Horvitz and Thompson 1952; with equal chances the ratio form of Hajek is the plain mean).
    """

    events: int
    labelled: int
    bad_rate: Interval | None
    bad_declines: Interval | None


class Outcome(msgspec.Struct, frozen=True):
    """Figures of one setting. Money is in the unit of the source's amount column."""

    events: int
    alerts: int
    suppressed: int
    approved: int
    reviewed: int
    declined: int
    alerts_per_day: float
    busiest_day: int
    labelled: int
    unknown_share: float
    bad: int
    precision: float | None
    recall: float | None
    average_precision: float | None
    roc_auc: float | None
    card_precision: float | None
    money_bad: float
    money_caught: float
    money_missed: float
    money_stopped_wrongly: float
    label_delay_days_median: float | None
    released: Released


def outcome(frame: pl.DataFrame, *, top: int = 100) -> Outcome:
    """Figures of one decisions frame; `top` is the k of card precision."""
    known = frame.filter(pl.col("label").is_not_null())
    bad = known.filter(pl.col("label") > 0)
    alerts = frame.filter(pl.col("alert"))
    judged = known.filter(pl.col("alert"))
    caught = bad.filter(pl.col("alert"))
    days = alerts.group_by(pl.col("event_time").dt.truncate(DAY)).len()
    decisions = dict(frame.group_by("decision").len().iter_rows())
    return Outcome(
        events=frame.height,
        alerts=alerts.height,
        suppressed=int(frame["suppressed"].sum()),
        approved=decisions.get("approve", 0),
        reviewed=decisions.get("review", 0),
        declined=decisions.get("decline", 0),
        alerts_per_day=alerts.height / max(1, _days(frame)),
        busiest_day=int(days["len"].max() or 0),  # type: ignore[arg-type]
        labelled=known.height,
        unknown_share=1 - known.height / frame.height if frame.height else 0.0,
        bad=bad.height,
        precision=caught.height / judged.height if judged.height else None,
        recall=caught.height / bad.height if bad.height else None,
        average_precision=average_precision(_label(known), _score(known)),
        roc_auc=roc_auc(_label(known), _score(known)),
        card_precision=card_precision(known, top),
        money_bad=_money(bad),
        money_caught=_money(caught),
        money_missed=_money(bad.filter(~pl.col("alert"))),
        money_stopped_wrongly=_money(judged.filter(pl.col("label") == 0)),
        label_delay_days_median=_delay(known),
        released=released(frame),
    )


def released(frame: pl.DataFrame) -> Released:
    """Estimate over all declines from those that were let through at random."""
    declines = frame.filter((pl.col("decision") == "decline") | pl.col("released"))
    sample = declines.filter(pl.col("released"))
    seen = _label(sample.filter(pl.col("label").is_not_null()))
    if not len(seen):
        return Released(sample.height, 0, None, None)
    rate = _wilson(float((seen > 0).sum()), len(seen))
    n = declines.height
    return Released(sample.height, len(seen), rate, Interval(rate.value * n, rate.low * n, rate.high * n))


def roc_auc(label: Floats, score: Floats) -> float | None:
    """Chance that a bad event scores above a good one, ties half (Mann-Whitney); None with one class only."""
    bad = int((label > 0).sum())
    good = len(label) - bad
    if not bad or not good:
        return None
    ranks = pl.Series(score).rank("average").to_numpy()
    return float((ranks[label > 0].sum() - bad * (bad + 1) / 2) / (bad * good))


def average_precision(label: Floats, score: Floats) -> float | None:
    """Mean of precision over the steps in recall, as scikit-learn defines it; None without a bad event."""
    bad = int((label > 0).sum())
    if not bad:
        return None
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(label[order] > 0)
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    recall = hits[last] / bad
    return float(np.sum(np.diff(recall, prepend=0.0) * hits[last] / (last + 1)))


def card_precision(known: pl.DataFrame, top: int) -> float | None:
    """Card precision@k: of a day's k cards with the highest scores, the share compromised; mean over days.

    A compromised card that was found leaves the later days, as in the Fraud Detection Handbook.
    """
    if known.is_empty():
        return None
    day = pl.col("event_time").dt.truncate(DAY).alias("day")
    cards = known.group_by(day, "case_key").agg(
        pl.col("score").max(), (pl.col("label") > 0).any().alias("bad")
    )
    found: set[str] = set()
    shares: list[float] = []
    for _, today in cards.sort("day").group_by("day", maintain_order=True):
        left = today.filter(~pl.col("case_key").is_in(list(found)))
        best = left.sort(["score", "case_key"], descending=[True, False]).head(top).filter(pl.col("bad"))
        shares.append(best.height / top)
        found.update(best["case_key"].to_list())
    return sum(shares) / len(shares)


def _wilson(hits: float, n: int) -> Interval:
    """Wilson's score interval at 95 %."""
    z = 1.959963984540054
    rate = hits / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return Interval(rate, max(0.0, centre - half), min(1.0, centre + half))


def _days(frame: pl.DataFrame) -> int:
    return int(frame["event_time"].dt.truncate(DAY).n_unique())


def _label(frame: pl.DataFrame) -> Floats:
    return frame["label"].to_numpy().astype(np.float64)


def _score(frame: pl.DataFrame) -> Floats:
    return frame["score"].to_numpy().astype(np.float64)


def _money(frame: pl.DataFrame) -> float:
    return float(frame["exposure"].fill_null(0.0).sum())


def _delay(known: pl.DataFrame) -> float | None:
    delay: Any = (known["label_known"] - known["event_time"]).dt.total_microseconds().median()
    return None if delay is None else float(delay) / 86_400e6
