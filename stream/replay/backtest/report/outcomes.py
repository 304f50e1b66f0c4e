"""What a setting would have done: figures from decisions joined with the labels that became known.

A *decisions frame* has a row a scored event: `event_id, event_time, source, case_key, score, threshold,
decision, alert, suppressed, released, exposure, label, label_known` and any segment columns. `label` is
null where no outcome is known; it is never taken for 0.
"""

from __future__ import annotations

import math

from models.monitoring.ranking import area_under_roc, average_precision
from stream.replay.backtest.report.results import Interval, OutcomeFigures, Released
from stream.replay.backtest.report.tally import DecisionCounts


def outcome_of(tally: DecisionCounts) -> OutcomeFigures:
    """Figures of all that was counted."""
    count, money = tally.counts, tally.money
    ranked = tally.ranking
    return OutcomeFigures(
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
        declined_labelled=count["declined_labelled"],
        caught=count["caught"],
        missed=count["missed"],
        precision=_share(count["caught"], count["caught"] + count["stopped_wrongly"]),
        recall=_share(count["caught"], count["bad"]),
        alerts_bad=count["alerts_bad"],
        alert_precision=_share(count["alerts_bad"], count["alerts_labelled"]),
        average_precision=average_precision(ranked.good, ranked.bad),
        roc_auc=area_under_roc(ranked.good, ranked.bad),
        card_precision=tally.cards.value(),
        money_bad=money["bad"],
        money_caught=money["caught"],
        money_missed=money["missed"],
        money_stopped_wrongly=money["stopped_wrongly"],
        label_delay_days_median=tally.median_delay_days(),
        released=_released(tally),
    )


def _share(events: int, whole: int) -> float | None:
    return events / whole if whole else None


def _released(tally: DecisionCounts) -> Released:
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
