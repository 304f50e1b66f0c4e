"""Two settings side by side on the same events, and the sweep of a threshold without scoring again."""

from __future__ import annotations

from collections import Counter

import numpy as np
import polars as pl

from stream.replay.backtest.report.outcomes import outcome_of
from stream.replay.backtest.report.results import Overlap, SegmentFigures, SweepPoint
from stream.replay.backtest.report.tally import DecisionCounts


class Overlaps:
    """Alerts by who raised them, counted part by part."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter(dict.fromkeys(Overlap.__struct_fields__, 0))

    def add(self, a: pl.DataFrame, b: pl.DataFrame) -> None:
        """The same events decided by both settings, in the same order; ValueError otherwise."""
        if a.height != b.height or not a["event_id"].equals(b["event_id"]):
            raise ValueError(f"the settings scored different events: {a.height} and {b.height}")
        in_a, in_b = a["alert"].to_numpy(), b["alert"].to_numpy()
        bad = (a["label"].fill_null(0) > 0).to_numpy()
        found = {
            "both": in_a & in_b, "only_a": in_a & ~in_b, "only_b": ~in_a & in_b, "bad_both": in_a & in_b & bad,
            "bad_only_a": in_a & ~in_b & bad, "bad_only_b": ~in_a & in_b & bad, "bad_neither": ~in_a & ~in_b & bad,
            "decisions_changed": (a["decision"] != b["decision"]).to_numpy(),
        }  # fmt: skip
        self._counts.update({name: int(rows.sum()) for name, rows in found.items()})

    def overlap(self) -> Overlap:
        """All that was added."""
        return Overlap(**self._counts)


class Segments:
    """Figures by the values of a column: the most frequent ones, the rest under `(others)`."""

    def __init__(self, column: str, frequency: Counter[str], *, most: int = 20) -> None:
        ranked = sorted(frequency, key=lambda name: (-frequency[name], name))
        self._column = column
        self._keep = ranked[:most]
        self._names = self._keep + (["(others)"] if len(ranked) > most else [])
        self._tallies = {name: (DecisionCounts(), DecisionCounts()) for name in self._names}

    def add(self, side: int, frame: pl.DataFrame) -> None:
        """Decisions of the first (0) or second (1) setting."""
        text = texts_of(frame, self._column)
        name = pl.select(pl.when(text.is_in(self._keep)).then(text).otherwise(pl.lit("(others)"))).to_series()
        for one in name.unique().to_list():
            self._tallies[one][side].add(frame.filter(name == one))

    def segments(self, both: bool) -> list[SegmentFigures]:
        """A line a value."""
        return [
            SegmentFigures(
                name, outcome_of(self._tallies[name][0]), outcome_of(self._tallies[name][1]) if both else None
            )
            for name in self._names
        ]


def texts_of(frame: pl.DataFrame, column: str) -> pl.Series:
    """A column as segment names."""
    return frame[column].cast(pl.String).fill_null("(none)")


def sweep(tally: DecisionCounts, *, points: int = 100, review_cost: float = 0.0) -> list[SweepPoint]:
    """Threshold by threshold: alerts a day against value = money caught - review_cost * alerts.

    Computed from the counts: nothing is scored again. Thresholds are quantiles of the scores, so that the curve is
    even in alerts.
    """
    score, sums = tally.ranking.table()
    if not len(score):
        return []
    events, good, bad, caught, wrong = np.cumsum(sums, axis=1)
    days = max(1, len(tally.days))
    ranks = np.unique(np.geomspace(1, events[-1], points).astype(np.int64))
    ends = np.unique(np.searchsorted(events, ranks))
    return [
        SweepPoint(
            threshold=float(score[end]),
            alerts_per_day=float(events[end]) / days,
            precision=_ratio(bad[end], bad[end] + good[end]),
            recall=_ratio(bad[end], bad[-1]),
            money_caught=float(caught[end]),
            money_stopped_wrongly=float(wrong[end]),
            value=float(caught[end] - review_cost * events[end]),
        )
        for end in ends
    ]


def _ratio(part: np.float64, whole: np.float64) -> float | None:
    return float(part / whole) if whole else None
