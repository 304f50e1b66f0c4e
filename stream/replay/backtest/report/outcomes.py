"""What a setting would have done: figures from decisions joined with the labels that became known.

A *decisions frame* has a row a scored event: `event_id, event_time, source, case_key, score, threshold,
decision, alert, suppressed, released, exposure, label, label_known` and any segment columns. `label` is
null where no outcome is known; it is never taken for 0.
"""

from __future__ import annotations

import math

import msgspec
import polars as pl

from models.monitoring.ranking import area_under_roc, average_precision
from stream.replay.backtest.report.tally import Tally


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
    tally = Tally(top)
    tally.add(frame)
    return outcome_of(tally)


def outcome_of(tally: Tally) -> Outcome:
    """Figures of all that was counted."""
    count, money = tally.counts, tally.money
    ranked = tally.ranking
    return Outcome(
        events=count["events"],
        alerts=count["alerts"],
        suppressed=count["suppressed"],
        approved=count["approve"],
        reviewed=count["review"],
        declined=count["decline"],
        alerts_per_day=count["alerts"] / max(1, len(tally.days)),
        busiest_day=max((int(day[1]) for day in tally.days.values()), default=0),
        labelled=count["labelled"],
        unknown_share=1 - count["labelled"] / count["events"] if count["events"] else 0.0,
        bad=count["bad"],
        precision=count["caught"] / count["judged"] if count["judged"] else None,
        recall=count["caught"] / count["bad"] if count["bad"] else None,
        average_precision=average_precision(ranked.good, ranked.bad),
        roc_auc=area_under_roc(ranked.good, ranked.bad),
        card_precision=tally.cards.value(),
        money_bad=money["bad"],
        money_caught=money["caught"],
        money_missed=money["missed"],
        money_stopped_wrongly=money["stopped"],
        label_delay_days_median=tally.median_delay_days(),
        released=_released(tally),
    )


def _released(tally: Tally) -> Released:
    """Estimate over all declines from those that were let through at random."""
    seen, everyone = tally.counts["released_labelled"], tally.counts["would_decline"]
    sample = tally.counts["released"]
    if not seen:
        return Released(sample, 0, None, None)
    rate = _wilson(tally.counts["released_bad"], seen)
    return Released(
        sample, seen, rate, Interval(rate.value * everyone, rate.low * everyone, rate.high * everyone)
    )


def _wilson(hits: float, n: int) -> Interval:
    """Wilson's score interval at 95 %."""
    z = 1.959963984540054
    rate = hits / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return Interval(rate, max(0.0, centre - half), min(1.0, centre + half))
